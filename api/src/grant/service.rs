//! Which services: in `allow.services`, and in `http.callers`.

use std::fmt;
use std::str::FromStr;

use super::{as_text, shortened};
use crate::id::{Name, ServiceKey};

/// Some services of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServicePattern {
    /// `*`
    Any,
    /// `shop/*`: all of a namespace.
    Namespace(Name),
    /// `billing.accounts`, or `payments` in the namespace of whoever writes it.
    Service { name: Name, namespace: Option<Name> },
}

/// The service that a host name leads to: `NAME.NAMESPACE.internal`, in lower case.
pub fn service_at(host: &str) -> Option<ServiceKey> {
    let (name, namespace) = host.strip_suffix(".internal")?.split_once('.')?;
    Some(ServiceKey { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
}

/// Why a text names no services.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a service (hint: write NAME, NAME.NAMESPACE, \"NAMESPACE/*\" or \"*\")")]
pub struct InvalidServicePattern {
    text: String,
}

impl ServicePattern {
    /// Whether a service is one of these. `own` is the namespace of the object that the pattern stands in.
    pub fn matches(&self, own: &Name, service: &ServiceKey) -> bool {
        match self {
            Self::Any => true,
            Self::Namespace(namespace) => *namespace == service.namespace,
            Self::Service { name, namespace } => {
                *name == service.name && *namespace.as_ref().unwrap_or(own) == service.namespace
            }
        }
    }

    /// Whether all services of `other` are among these. Both stand in objects of the namespace `own`.
    pub fn covers(&self, own: &Name, other: &Self) -> bool {
        match other {
            Self::Any => *self == Self::Any,
            Self::Namespace(_) => *self == Self::Any || self == other,
            Self::Service { name, namespace } => {
                let namespace = namespace.as_ref().unwrap_or(own).clone();
                self.matches(own, &ServiceKey { namespace, name: name.clone() })
            }
        }
    }
}

impl FromStr for ServicePattern {
    type Err = InvalidServicePattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = |part: &str| part.parse::<Name>().map_err(|_| InvalidServicePattern { text: shortened(text) });
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(namespace) = text.strip_suffix("/*") {
            return Ok(Self::Namespace(name(namespace)?));
        }
        Ok(match text.split_once('.') {
            Some((service, namespace)) => Self::Service { name: name(service)?, namespace: Some(name(namespace)?) },
            None => Self::Service { name: name(text)?, namespace: None },
        })
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Namespace(namespace) => write!(f, "{namespace}/*"),
            Self::Service { name, namespace: Some(namespace) } => write!(f, "{name}.{namespace}"),
            Self::Service { name, namespace: None } => write!(f, "{name}"),
        }
    }
}

as_text!(ServicePattern);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn pattern() -> impl Strategy<Value = ServicePattern> {
        prop::sample::select(vec!["*", "a/*", "b/*", "x", "y", "x.a", "x.b", "y.a"])
            .prop_map(|text| text.parse().unwrap())
    }

    #[test]
    fn patterns_are_read_back() {
        for text in ["payments", "billing.accounts", "ops/*", "*"] {
            assert_eq!(text.parse::<ServicePattern>().unwrap().to_string(), text);
        }
        for text in ["", "*/*", "Ops", "a.b.c", "a/b", "a.*", "*.a", "a b", "http://a.b.internal"] {
            let error = text.parse::<ServicePattern>().unwrap_err().to_string();
            assert!(error.contains("is not a service"), "{error}");
        }
    }

    proptest! {
        /// What covers another matches whatever that matches, in a small world of which all services are tried.
        #[test]
        fn covering_is_matching_everything(one in pattern(), other in pattern()) {
            let own = name("a");
            let services = ["a", "b", "c"].into_iter().flat_map(|namespace| {
                ["x", "y", "z"].map(|service| ServiceKey { namespace: name(namespace), name: name(service) })
            });
            let includes = services.into_iter().all(|s| !other.matches(&own, &s) || one.matches(&own, &s));
            prop_assert_eq!(one.covers(&own, &other), includes);
        }
    }
}
