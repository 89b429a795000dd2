//! Configuration and secrets: what services are told beside their code.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::resource::{Kind, Object, Spec};

pub type Config = Object<ConfigSpec>;
pub type Secret = Object<SecretSpec>;

/// Settings of services, by key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConfigSpec {
    /// A value for each key of letters, digits, `-`, `_` and `.`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

/// Settings that nobody is to see but the services that use them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SecretSpec {
    /// A value for each key of letters, digits, `-`, `_` and `.`. What is written in the clear is sealed before anything
    /// else is done with it; what is read is sealed, and may be written again as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub data: BTreeMap<String, SecretText>,
}

/// A value that is not shown. It is in the clear, or sealed with its cluster's key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. What it is passed on to must not show it either.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConfigStatus {}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SecretStatus {}

impl Spec for ConfigSpec {
    const KIND: Kind = Kind::Config;
    type Status = ConfigStatus;
}

impl Spec for SecretSpec {
    const KIND: Kind = Kind::Secret;
    type Status = SecretStatus;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let mut spec = SecretSpec::default();
        spec.data.insert("KEY".to_owned(), SecretText::new("hunter2"));
        assert!(!format!("{spec:?}").contains("hunter2"));
    }
}
