//! What a replica is told by the Configs and Secrets that its service names.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::resource::SecretText;

/// The values of all its sources together, by key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretText>,
    /// Keys that are environment variables as well.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub env: BTreeSet<String>,
    /// Why there are no others: the sources that cannot be read, `secret/stripe`. A replica does not start without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Settings {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str).or_else(|| self.secrets.get(key).map(SecretText::reveal))
    }

    /// Every key with its value.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let config = self.config.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        config.chain(self.secrets.iter().map(|(key, value)| (key.as_str(), value.reveal())))
    }

    /// What is to be in the environment.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().filter_map(|key| Some((key.as_str(), self.get(key)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_in_the_environment() {
        let settings = Settings {
            config: BTreeMap::from([("REGION".to_owned(), "eu".to_owned())]),
            secrets: BTreeMap::from([("KEY".to_owned(), SecretText::new("s3cret"))]),
            env: BTreeSet::from(["KEY".to_owned(), "GONE".to_owned()]),
            missing: Vec::new(),
        };
        assert_eq!(settings.variables().collect::<Vec<_>>(), [("KEY", "s3cret")]);
        assert_eq!(settings.all().collect::<Vec<_>>(), [("REGION", "eu"), ("KEY", "s3cret")]);
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
