//! Image policies: who must have signed what a namespace runs.

use serde::{Deserialize, Serialize};

use crate::resource::{Kind, Object, Spec};
use crate::trust::{PublicKey, RepositoryPattern};

pub type ImagePolicy = Object<ImagePolicySpec>;

/// Images of these repositories run in the namespace only if the holder of one of the keys signed them. As soon as a
/// namespace has a policy, images that none of its policies covers do not run there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ImagePolicySpec {
    /// Which images it is for: `*`, `NAMESPACE/NAME`, `NAMESPACE/*`, or with a registry `ghcr.io/acme/*`. Default: all.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub repositories: Vec<RepositoryPattern>,
    /// Public keys, PEM, P-256 or Ed25519: one of them must have signed. Two at a time let keys be replaced.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub keys: Vec<PublicKey>,
}

impl ImagePolicySpec {
    /// Whether it is for a repository, by its whole name.
    pub fn covers(&self, repository: &str) -> bool {
        self.repositories.iter().any(|pattern| pattern.covers(repository))
    }
}

fn all() -> Vec<RepositoryPattern> {
    vec![RepositoryPattern::All]
}

fn is_all(repositories: &[RepositoryPattern]) -> bool {
    repositories == [RepositoryPattern::All]
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ImagePolicyStatus {}

impl Spec for ImagePolicySpec {
    const KIND: Kind = Kind::ImagePolicy;
    type Status = ImagePolicyStatus;
}
