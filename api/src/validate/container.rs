//! What only containers have.

use std::collections::BTreeSet;

use super::Fault;
use crate::resource::{Runtime, ServiceSpec};

/// More than any service listens on.
const PORTS_MAX: usize = 16;

/// Whether a spec says that it is about a container; its image may say so as well.
pub(super) fn is_one(spec: &ServiceSpec) -> bool {
    spec.runtime == Some(Runtime::Docker) || !spec.ports.is_empty() || !spec.volumes.is_empty()
}

pub(super) fn check(spec: &ServiceSpec, faults: &mut Vec<Fault>) {
    if spec.ports.len() > PORTS_MAX {
        let message = format!("{} ports are more than the {PORTS_MAX} that a service may have", spec.ports.len());
        faults.push(Fault::new("ports", message, ""));
    }
    if let Some(user) = &spec.user
        && !is_user(user)
    {
        let hint = "names are the image's own affair: write \"999\" or \"999:999\"";
        faults.push(Fault::new("user", format!("{} is neither UID nor UID:GID", super::quoted(user)), hint));
    }
    let mut had = BTreeSet::new();
    for (i, privilege) in spec.privileges.iter().enumerate().filter(|(_, privilege)| !had.insert(*privilege)) {
        faults.push(Fault::new(
            format!("privileges[{i}]"),
            format!("{privilege} is there twice"),
            "remove one of the two",
        ));
    }
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in spec.ports.iter().enumerate() {
        if port.port == 0 {
            let hint = "write the port that the program in the container listens on";
            faults.push(Fault::new(format!("ports[{i}].port"), "0 is no port to listen on", hint));
        }
        if !numbers.insert(port.port) {
            let message = format!("the port {} is there twice", port.port);
            faults.push(Fault::new(format!("ports[{i}].port"), message, "remove one of the two"));
        }
        if let Some(name) = &port.name
            && !names.insert(name)
        {
            let message = format!("the name {name} is there twice");
            faults.push(Fault::new(format!("ports[{i}].name"), message, "each port has a name of its own"));
        }
    }
}

fn is_user(text: &str) -> bool {
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    [user, group].iter().all(|id| id.parse::<u32>().is_ok() && !id.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Port;

    fn fields(change: impl FnOnce(&mut ServiceSpec)) -> Vec<String> {
        let mut spec = ServiceSpec::new("cart:1".parse().unwrap());
        change(&mut spec);
        let mut faults = Vec::new();
        check(&spec, &mut faults);
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_user_is_a_number_or_two() {
        for good in ["0", "999", "999:1000"] {
            assert!(fields(|spec| spec.user = Some(good.to_owned())).is_empty(), "{good}");
        }
        for bad in ["", "postgres", "999:", ":1", "1:2:3", "-1", "+1", "4294967296"] {
            assert_eq!(fields(|spec| spec.user = Some(bad.to_owned())), ["user"], "{bad}");
        }
        let twice =
            |spec: &mut ServiceSpec| spec.privileges = vec!["CHOWN".parse().unwrap(), "CAP_CHOWN".parse().unwrap()];
        assert_eq!(fields(twice), ["privileges[1]"]);
    }

    #[test]
    fn ports_differ_and_are_some() {
        let port = |name: &str, port| Port { name: Some(name.parse().unwrap()), port };
        assert!(fields(|spec| spec.ports = vec![port("a", 1), port("b", 2)]).is_empty());
        assert_eq!(fields(|spec| spec.ports = vec![port("a", 0)]), ["ports[0].port"]);
        assert_eq!(fields(|spec| spec.ports = vec![port("a", 1), port("a", 1)]), ["ports[1].port", "ports[1].name"]);
        assert_eq!(fields(|spec| spec.ports = (1..=17).map(|n| Port { name: None, port: n }).collect()), ["ports"]);
    }
}
