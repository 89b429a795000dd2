//! Volumes of containers.

use std::collections::BTreeSet;

use super::Fault;
use crate::grant::FullPath;
use crate::resource::ServiceSpec;

/// More than any program keeps apart.
const VOLUMES_MAX: usize = 16;

/// What every container has there, and needs as it is.
const TAKEN: [&str; 6] = ["/proc", "/sys", "/dev", "/run/secrets", "/run/configs", "/etc/resolv.conf"];

pub(super) fn check(spec: &ServiceSpec, faults: &mut Vec<Fault>) {
    if spec.volumes.len() > VOLUMES_MAX {
        let message = format!("{} volumes are more than the {VOLUMES_MAX} that a service may have", spec.volumes.len());
        faults.push(Fault::new("volumes", message, ""));
    }
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, volume) in spec.volumes.iter().enumerate() {
        let field = |name: &str| format!("volumes[{i}].{name}");
        match (&volume.name, &volume.host_path) {
            (None, None) => {
                let hint =
                    "write name: data for a volume of its own, or hostPath: /srv/data for a folder of the machine";
                faults.push(Fault::new(format!("volumes[{i}]"), "it has neither a name nor a hostPath", hint));
            }
            (Some(_), Some(_)) => {
                let hint = "a volume of its own has a name, a folder of the machine a hostPath; remove one of the two";
                faults.push(Fault::new(field("hostPath"), "it has a name as well", hint));
            }
            (Some(name), None) if !names.insert(name) => {
                faults.push(Fault::new(
                    field("name"),
                    format!("the name {name} is there twice"),
                    "remove one of the two",
                ));
            }
            _ => {}
        }
        if !paths.insert(&volume.path) {
            let message = format!("the path {} is there twice", volume.path);
            faults.push(Fault::new(field("path"), message, "each volume has a path of its own"));
        }
        if is_taken(&volume.path) {
            let hint = "write a path that the program in the container keeps its data in, such as /var/lib/data";
            faults.push(Fault::new(field("path"), format!("{} is the container's own", volume.path), hint));
        }
    }
}

fn is_taken(path: &FullPath) -> bool {
    let below = |taken: &str| path.as_str() == taken || path.as_str().starts_with(&format!("{taken}/"));
    path.as_str() == "/tmp" || TAKEN.into_iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(volumes: &str) -> Vec<String> {
        let mut spec = ServiceSpec::new("cart:1".parse().unwrap());
        spec.volumes = serde_json::from_str(volumes).unwrap();
        let mut faults = Vec::new();
        check(&spec, &mut faults);
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn each_is_one_thing_in_a_place_of_its_own() {
        assert!(fields(r#"[{"name": "a", "path": "/a"}, {"hostPath": "/srv", "path": "/b"}]"#).is_empty());
        assert_eq!(fields(r#"[{"path": "/a"}]"#), ["volumes[0]"]);
        assert_eq!(fields(r#"[{"name": "a", "hostPath": "/srv", "path": "/a"}]"#), ["volumes[0].hostPath"]);
        assert_eq!(fields(r#"[{"name": "a", "path": "/a"}, {"name": "a", "path": "/b"}]"#), ["volumes[1].name"]);
        assert_eq!(fields(r#"[{"name": "a", "path": "/a"}, {"name": "b", "path": "/a"}]"#), ["volumes[1].path"]);
        for taken in ["/tmp", "/proc", "/dev/shm", "/sys/fs"] {
            assert_eq!(fields(&format!(r#"[{{"name": "a", "path": "{taken}"}}]"#)), ["volumes[0].path"], "{taken}");
        }
        let many: Vec<_> = (0..=VOLUMES_MAX).map(|n| format!(r#"{{"name": "v{n}", "path": "/v{n}"}}"#)).collect();
        assert_eq!(fields(&format!("[{}]", many.join(","))), ["volumes"]);
    }
}
