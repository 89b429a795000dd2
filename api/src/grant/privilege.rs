//! What a container may have beyond the safe defaults, if its namespace grants it.

use std::fmt;
use std::str::FromStr;

use super::{as_text, shortened};

/// Capabilities of Linux (capabilities(7)) that act within a container: those that Docker gives by itself. Others act on
/// the machine, and nobody can have them.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const WRITABLE_ROOT: &str = "writableRoot";

/// Something that a container has not by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privilege {
    /// It may write to all of its file system, which is gone with it.
    WritableRoot,
    Capability(&'static str),
}

/// Why a text is no privilege.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing that a container may have (hint: write {WRITABLE_ROOT}, or a capability of {list})", list = CAPABILITIES.join(", "))]
pub struct InvalidPrivilege(String);

impl FromStr for Privilege {
    type Err = InvalidPrivilege;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == WRITABLE_ROOT {
            return Ok(Self::WritableRoot);
        }
        let name = text.strip_prefix("CAP_").unwrap_or(text);
        let known = CAPABILITIES.into_iter().find(|capability| *capability == name);
        known.map(Self::Capability).ok_or_else(|| InvalidPrivilege(shortened(text)))
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WritableRoot => WRITABLE_ROOT,
            Self::Capability(name) => name,
        })
    }
}

as_text!(Privilege);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_acts_within_a_container_can_be_had() {
        let read = |text: &str| text.parse::<Privilege>().ok().map(|privilege| privilege.to_string());
        assert_eq!(read("writableRoot").as_deref(), Some("writableRoot"));
        assert_eq!(read("CAP_SETUID").as_deref(), Some("SETUID"));
        for bad in ["SYS_ADMIN", "NET_ADMIN", "ALL", "chown", "CAP_", "privileged", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!("SYS_ADMIN".parse::<Privilege>().unwrap_err().to_string().contains("NET_BIND_SERVICE"));
    }
}
