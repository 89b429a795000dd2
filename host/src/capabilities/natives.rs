//! Which containers listen on this node, and where: for who reaches their ports without HTTP.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skiff_api::id::{ReplicaKey, ServiceKey};

/// Those that are ready. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Natives(Arc<Mutex<Listening>>);

type Listening = BTreeMap<(ServiceKey, ReplicaKey), Native>;

#[derive(Debug, Clone)]
struct Native {
    ip: IpAddr,
    ports: Vec<u16>,
}

/// A container is known for as long as this is there.
#[derive(Debug)]
pub(crate) struct Listed {
    natives: Natives,
    key: (ServiceKey, ReplicaKey),
}

impl Natives {
    fn all(&self) -> MutexGuard<'_, Listening> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn list(&self, service: &ServiceKey, replica: &ReplicaKey, ip: IpAddr, ports: Vec<u16>) -> Listed {
        let key = (service.clone(), replica.clone());
        self.all().insert(key.clone(), Native { ip, ports });
        Listed { natives: self.clone(), key }
    }

    /// The addresses of a service, at which `is_asked` port is one that it names.
    pub(super) fn of(&self, service: &ServiceKey, is_asked: impl Fn(u16) -> bool) -> Vec<IpAddr> {
        let all = self.all();
        let own =
            all.iter().filter(|((of, _), native)| of == service && native.ports.iter().any(|port| is_asked(*port)));
        own.map(|(_, native)| native.ip).collect()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.natives.all().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use skiff_api::id::ReplicaName;

    use super::*;

    #[test]
    fn a_container_is_known_while_it_is_there() {
        let natives = Natives::default();
        let service = |name: &str| ServiceKey { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() };
        let replica = ReplicaKey { namespace: "shop".parse().unwrap(), name: ReplicaName::new("db-1-aaaaa") };
        let ip: IpAddr = "198.18.0.2".parse().unwrap();
        let listed = natives.list(&service("db"), &replica, ip, vec![5432]);
        assert_eq!(natives.of(&service("db"), |port| port == 5432), [ip]);
        assert!(natives.of(&service("db"), |port| port == 5433).is_empty());
        assert!(natives.of(&service("web"), |_| true).is_empty());
        drop(listed);
        assert!(natives.of(&service("db"), |_| true).is_empty());
    }
}
