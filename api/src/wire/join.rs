//! How a machine becomes a node: `POST /v1/join` with a token, and `POST /v1/renew` with the certificate that it got.
//!
//! Both ask for a certificate; neither says who it is for: who joins is named after its key, so that asking twice with one
//! key makes one node, and who renews is known by its older certificate. What comes back also says how late it is, for
//! machines without a clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{NodeName, Uid};

/// Where a machine joins.
pub const JOIN_PATH: &str = "/v1/join";
/// Where a node renews its certificate, with the older one in its connection.
pub const RENEW_PATH: &str = "/v1/renew";

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The token's.
    pub id: String,
    /// The token's. Not printed by `Debug`.
    pub secret: String,
    /// A request for a certificate, PEM.
    pub csr: String,
    /// The name that the node wants.
    pub name: NodeName,
    /// What the node's operator says of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, name, .. } = self;
        f.debug_struct("JoinRequest").field("id", id).field("name", name).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// Who the node is from now on.
    pub uid: Uid,
    /// Its certificate first, PEM.
    pub chain: String,
    /// The certificate of the cluster's authority, PEM.
    pub ca: String,
    /// Those of the request and the token's, which the node says of itself from now on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub time: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// A request for a certificate, PEM.
    pub csr: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewAnswer {
    /// The node's certificate first, PEM.
    pub chain: String,
    /// The certificate of the cluster's authority, PEM.
    pub ca: String,
    pub time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requests_secret_is_not_printed() {
        let name = NodeName::new("n");
        let (id, secret) = ("a".to_owned(), "s3cret".to_owned());
        let request = JoinRequest { id, secret, csr: String::new(), name, labels: BTreeMap::new() };
        assert!(!format!("{request:?}").contains("s3cret"));
    }
}
