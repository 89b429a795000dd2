//! The names that certificates carry. `internal` is reserved for private use, so no public name is among them.

use rustls::pki_types::{DnsName, ServerName};
use skiff_api::{Name, Uid};

use crate::Error;

/// The control plane's name, whatever hosts and addresses it is reached by.
pub const CONTROL_PLANE: &str = "control-plane.skiff.internal";
const OF_NODES: &str = ".node.skiff.internal";

/// The name of the node with that id.
pub fn node_name(uid: &Uid) -> Result<String, Error> {
    match uid.as_str().parse::<Name>() {
        Ok(label) => Ok(format!("{label}{OF_NODES}")),
        Err(_) => Err(Error::BadUid { uid: uid.as_str().chars().take(80).collect() }),
    }
}

/// The id of the node with that name.
pub fn node_uid(name: &str) -> Option<Uid> {
    let label = name.strip_suffix(OF_NODES)?;
    label.parse::<Name>().ok().map(|label| Uid::new(label.as_str()))
}

/// What to expect at the other end of a connection to a node.
pub fn node_server_name(uid: &Uid) -> Result<ServerName<'static>, Error> {
    let name = node_name(uid)?;
    match DnsName::try_from(name) {
        Ok(name) => Ok(ServerName::DnsName(name)),
        Err(_) => Err(Error::BadUid { uid: uid.to_string() }),
    }
}

/// What to expect at the other end of a connection to the control plane.
pub fn control_plane_server_name() -> Result<ServerName<'static>, Error> {
    ServerName::try_from(CONTROL_PLANE).map_err(|error| Error::read("the control plane's name", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_name_leads_back_to_its_id_and_no_other_name_does() {
        let uid = Uid::new("0123456789abcdef0123456789abcdef");
        assert_eq!(node_uid(&node_name(&uid).unwrap()), Some(uid.clone()));
        assert_eq!(node_server_name(&uid).unwrap().to_str(), node_name(&uid).unwrap());
        for name in [
            CONTROL_PLANE,
            "a.b.node.skiff.internal",
            ".node.skiff.internal",
            "node.skiff.internal",
            "A.node.skiff.internal",
        ] {
            assert_eq!(node_uid(name), None, "{name}");
        }
        for uid in ["", "a.b", "*", "A", &"a".repeat(64)] {
            assert!(node_name(&Uid::new(uid)).is_err(), "{uid}");
        }
        assert_eq!(control_plane_server_name().unwrap().to_str(), CONTROL_PLANE);
    }
}
