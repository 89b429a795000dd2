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
    fn ports_differ_and_are_some() {
        let port = |name: &str, port| Port { name: Some(name.parse().unwrap()), port };
        assert!(fields(|spec| spec.ports = vec![port("a", 1), port("b", 2)]).is_empty());
        assert_eq!(fields(|spec| spec.ports = vec![port("a", 0)]), ["ports[0].port"]);
        assert_eq!(fields(|spec| spec.ports = vec![port("a", 1), port("a", 1)]), ["ports[1].port", "ports[1].name"]);
        assert_eq!(fields(|spec| spec.ports = (1..=17).map(|n| Port { name: None, port: n }).collect()), ["ports"]);
    }
}
