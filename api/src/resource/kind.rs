//! The kinds of objects, and the names that people and paths use for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Kind {
    Namespace,
    ImagePolicy,
    Config,
    Secret,
    Service,
    Job,
    Node,
    Revision,
    Replica,
    Event,
    Token,
}

/// A kind that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind {text:?}{}", hint.map(|kind| format!(" (hint: did you mean {kind}?)")).unwrap_or_default())]
pub struct UnknownKind {
    pub text: String,
    pub hint: Option<Kind>,
}

impl Kind {
    /// Every kind, in the order in which a set of them is applied: what others need comes first.
    pub const ALL: [Self; 11] = [
        Self::Namespace,
        Self::ImagePolicy,
        Self::Config,
        Self::Secret,
        Self::Node,
        Self::Service,
        Self::Job,
        Self::Revision,
        Self::Replica,
        Self::Event,
        Self::Token,
    ];

    /// The kinds that people write; controllers write the others.
    pub const WRITABLE: [Self; 6] =
        [Self::Namespace, Self::ImagePolicy, Self::Config, Self::Secret, Self::Service, Self::Job];

    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::ImagePolicy => "ImagePolicy",
            Self::Config => "Config",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::Job => "Job",
            Self::Node => "Node",
            Self::Revision => "Revision",
            Self::Replica => "Replica",
            Self::Event => "Event",
            Self::Token => "Token",
        }
    }

    /// The name in paths and in `skiff get`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::ImagePolicy => "imagepolicies",
            Self::Config => "configs",
            Self::Secret => "secrets",
            Self::Service => "services",
            Self::Job => "jobs",
            Self::Node => "nodes",
            Self::Revision => "revisions",
            Self::Replica => "replicas",
            Self::Event => "events",
            Self::Token => "tokens",
        }
    }

    /// The name of several, as in the names of operations.
    pub fn names(self) -> &'static str {
        match self {
            Self::Namespace => "Namespaces",
            Self::ImagePolicy => "ImagePolicies",
            Self::Config => "Configs",
            Self::Secret => "Secrets",
            Self::Service => "Services",
            Self::Job => "Jobs",
            Self::Node => "Nodes",
            Self::Revision => "Revisions",
            Self::Replica => "Replicas",
            Self::Event => "Events",
            Self::Token => "Tokens",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::Namespace => "ns",
            Self::ImagePolicy => "pol",
            Self::Config => "cfg",
            Self::Secret => "sec",
            Self::Service => "svc",
            Self::Job => "job",
            Self::Node => "no",
            Self::Revision => "rev",
            Self::Replica => "rep",
            Self::Event => "ev",
            Self::Token => "tok",
        }
    }

    /// The name in messages and in `-o name`: `service/cart`.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::ImagePolicy => "imagepolicy",
            Self::Config => "config",
            Self::Secret => "secret",
            Self::Service => "service",
            Self::Job => "job",
            Self::Node => "node",
            Self::Revision => "revision",
            Self::Replica => "replica",
            Self::Event => "event",
            Self::Token => "token",
        }
    }

    /// The kind that is nearest to one of Kubernetes'.
    fn elsewhere(text: &str) -> Option<Self> {
        Some(match text {
            "pod" | "pods" | "po" | "container" | "containers" => Self::Replica,
            "deployment" | "deployments" | "deploy" | "ingress" | "ingresses" => Self::Service,
            "cronjob" | "cronjobs" | "cj" => Self::Job,
            "configmap" | "configmaps" | "cm" => Self::Config,
            "replicaset" | "replicasets" | "rs" => Self::Revision,
            _ => return None,
        })
    }

    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node | Self::Token)
    }

    pub fn is_writable(self) -> bool {
        Self::WRITABLE.contains(&self)
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Reads a kind in any of its forms, in any case: `Service`, `services`, `svc`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_lowercase();
        let is = |kind: &Self| [kind.singular(), kind.plural(), kind.short()].contains(&lower.as_str());
        Self::ALL.into_iter().find(is).ok_or_else(|| UnknownKind {
            text: text.chars().take(60).collect(),
            hint: crate::nearest::nearest(&lower, Self::ALL.map(Self::singular))
                .and_then(|name| Self::ALL.into_iter().find(|kind| kind.singular() == name))
                .or_else(|| Self::elsewhere(&lower)),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for text in ["Service", "service", "services", "svc", "SERVICES"] {
            assert_eq!(text.parse(), Ok(Kind::Service));
        }
        for text in ["ImagePolicy", "imagepolicy", "imagepolicies", "pol"] {
            assert_eq!(text.parse(), Ok(Kind::ImagePolicy));
        }
        for kind in Kind::ALL {
            assert_eq!(kind.names().to_lowercase(), kind.plural());
            assert_eq!(kind.name().to_lowercase(), kind.singular());
        }
        assert_eq!("pods".parse::<Kind>().unwrap_err().hint, Some(Kind::Replica));
        assert_eq!("servcie".parse::<Kind>().unwrap_err().hint, Some(Kind::Service));
    }
}
