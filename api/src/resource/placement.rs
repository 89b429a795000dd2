//! Where a service's replicas may run, where they should, and how many there are.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::resource::{Effect, Taint};

/// How many replicas a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicas {
    Count(u32),
    /// One on each node that the placement allows.
    EveryNode,
}

const EVERY_NODE: &str = "every-node";

impl Replicas {
    /// The number, if it does not follow from the nodes.
    pub fn count(self) -> Option<u32> {
        match self {
            Self::Count(count) => Some(count),
            Self::EveryNode => None,
        }
    }
}

impl Default for Replicas {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl From<u32> for Replicas {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::EveryNode => f.write_str(EVERY_NODE),
        }
    }
}

impl Serialize for Replicas {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::EveryNode => serializer.serialize_str(EVERY_NODE),
        }
    }
}

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Replicas;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 0 or more, or every-node")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Replicas, E> {
                let out_of_range = || E::invalid_value(de::Unexpected::Unsigned(value), &self);
                u32::try_from(value).map(Replicas::Count).map_err(|_| out_of_range())
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Replicas, E> {
                let out_of_range = || E::invalid_value(de::Unexpected::Signed(value), &self);
                u32::try_from(value).map(Replicas::Count).map_err(|_| out_of_range())
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Replicas, E> {
                match value {
                    EVERY_NODE => Ok(Replicas::EveryNode),
                    _ => Err(E::invalid_type(de::Unexpected::Str(value), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Replicas {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::{ObjectBuilder, OneOfBuilder, Type};
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        let word = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([EVERY_NODE]));
        OneOfBuilder::new().item(number).item(word).into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Replicas {}

/// Where replicas may run, and where they should.
///
/// Beside the labels that people and operators give, every node has some of its own: `node`, `site`, `os` and `arch`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Placement {
    /// Labels that a node must have. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub require: BTreeMap<String, String>,
    /// Sets of labels that a node should have, the most important one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<BTreeMap<String, String>>,
    /// The label whose values replicas are spread over, before they are spread over nodes. Default `zone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// Taints of nodes that do not matter: `KEY`, `KEY=VALUE`, or `*` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub tolerate: Vec<Toleration>,
}

/// The label that replicas are spread over unless a service names another.
pub const ZONE: &str = "zone";

impl Placement {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub fn spread(&self) -> &str {
        self.spread.as_deref().unwrap_or(ZONE)
    }

    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerate.iter().any(|toleration| toleration.covers(taint))
    }

    /// The first taint that keeps replicas away from a node.
    pub fn repelled<'a>(&self, taints: &'a [Taint]) -> Option<&'a Taint> {
        taints.iter().find(|taint| taint.effect != Effect::PreferNoSchedule && !self.tolerates(taint))
    }

    /// The first taint that drives replicas off a node on which they are.
    pub fn evicted<'a>(&self, taints: &'a [Taint]) -> Option<&'a Taint> {
        taints.iter().find(|taint| taint.effect == Effect::NoExecute && !self.tolerates(taint))
    }
}

/// Taints that a service puts up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toleration {
    All,
    Key(String),
    Equals(String, String),
}

/// Why a text is no toleration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a toleration (hint: write the taint's KEY, KEY=VALUE, or * for all)")]
pub struct InvalidToleration {
    text: String,
}

impl Toleration {
    pub fn covers(&self, taint: &Taint) -> bool {
        match self {
            Self::All => true,
            Self::Key(key) => taint.key == *key,
            Self::Equals(key, value) => taint.key == *key && taint.value == *value,
        }
    }
}

impl std::str::FromStr for Toleration {
    type Err = InvalidToleration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || InvalidToleration { text: text.chars().take(80).collect() };
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        match (key, value) {
            ("*", None) => Ok(Self::All),
            _ if !crate::resource::is_label_key(key) => Err(fail()),
            (_, None) => Ok(Self::Key(key.to_owned())),
            (_, Some(value)) if crate::resource::is_label_value(value) => {
                Ok(Self::Equals(key.to_owned(), value.to_owned()))
            }
            _ => Err(fail()),
        }
    }
}

impl fmt::Display for Toleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Key(key) => f.write_str(key),
            Self::Equals(key, value) => write!(f, "{key}={value}"),
        }
    }
}

impl Serialize for Toleration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Toleration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_a_number_or_every_node() {
        let read = |text: &str| serde_json::from_str::<Replicas>(text).map_err(|error| error.to_string());
        assert_eq!(read("3"), Ok(Replicas::Count(3)));
        assert_eq!(read("\"every-node\""), Ok(Replicas::EveryNode));
        assert_eq!(serde_json::to_string(&Replicas::EveryNode).unwrap(), "\"every-node\"");
        for bad in ["-1", "4294967296", "\"all\"", "1.5"] {
            assert!(read(bad).unwrap_err().contains("every-node"), "{bad}");
        }
    }

    #[test]
    fn tolerations_cover_taints() {
        let taint: Taint = "edge=far:NoSchedule".parse().unwrap();
        let tolerates = |text: &str| text.parse::<Toleration>().unwrap().covers(&taint);
        assert!(tolerates("*") && tolerates("edge") && tolerates("edge=far"));
        assert!(!tolerates("edge=near") && !tolerates("gpu"));
        for bad in ["", "a b", "=x", "a=b=c", "*=x"] {
            assert!(bad.parse::<Toleration>().is_err(), "{bad}");
        }
    }
}
