//! Where the control plane is.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// The port of the control plane where none is named.
const PORT: u16 = 7070;

/// The address of a control plane: `https://HOST:PORT`. Which name leads there does not matter: what counts is who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no address of a control plane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the address of a control plane (hint: write https://HOST:PORT, as `skiff server` says it)")]
pub struct InvalidAddress {
    text: String,
}

impl Address {
    /// What is dialled: a host without brackets, and a port.
    pub(super) fn host_and_port(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let uri: Uri = text.parse().ok()?;
            let is_root = matches!(uri.path(), "" | "/") && uri.query().is_none();
            let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
            let is_whole = uri.scheme_str() == Some("https") && is_root && !authority.host().is_empty();
            // A port that is no number is none.
            let has_port = authority.as_str().len() > authority.host().len();
            let port = match has_port {
                true => authority.port_u16().filter(|port| *port > 0)?,
                false => PORT,
            };
            is_whole.then(|| Self { host: authority.host().to_owned(), port })
        };
        parse().ok_or_else(|| InvalidAddress { text: text.chars().take(200).collect() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_nothing_else() {
        for (text, shown) in [
            ("https://10.0.0.1:7443", "https://10.0.0.1:7443"),
            ("https://cluster.example", "https://cluster.example:7070"),
            ("https://[fd00::1]:7070/", "https://[fd00::1]:7070"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        assert_eq!("https://[fd00::1]".parse::<Address>().unwrap().host_and_port(), ("fd00::1", PORT));
        for text in
            ["", "10.0.0.1:7070", "http://a:1", "https://", "https://a:0", "https://a:x", "https://u@a", "https://a/b"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
