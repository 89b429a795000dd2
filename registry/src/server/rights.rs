//! Which repositories somebody may use, and for what.
//!
//! A pattern is `*` (all), `shop/*` (everything below `shop`) or `shop/cart` (that one). Who may push or delete may pull:
//! a client that pushes asks first what is there, and one that deletes looks up the digest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use skiff_api::image::is_repository;
use skiff_api::trust::RepositoryPattern;

use super::auth::Action;

/// What somebody may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    #[serde(default)]
    pub pull: Vec<Pattern>,
    #[serde(default)]
    pub push: Vec<Pattern>,
    #[serde(default)]
    pub delete: Vec<Pattern>,
}

impl Rights {
    pub fn allow(&self, action: Action, repository: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.covers(repository));
        match action {
            Action::Pull => any(&self.pull) || any(&self.push) || any(&self.delete),
            Action::Push => any(&self.push),
            Action::Delete => any(&self.delete),
        }
    }
}

/// Some repositories of this registry: the same as in an image policy, without the name of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(RepositoryPattern);

impl Pattern {
    pub fn covers(&self, repository: &str) -> bool {
        self.0.covers(repository)
    }
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no repositories (hint: write *, shop/* or shop/cart)")]
pub struct InvalidPattern {
    text: String,
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        RepositoryPattern::read(text, is_repository)
            .map(Self)
            .ok_or_else(|| InvalidPattern { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_whole_segments() {
        let covers = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().covers(name);
        for (pattern, name) in [("*", "a"), ("*", "a/b"), ("shop/*", "shop/a"), ("shop/*", "shop/a/b"), ("a/b", "a/b")]
        {
            assert!(covers(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("shop/*", "shop"), ("shop/*", "shopping/a"), ("a/b", "a/b/c"), ("a", "b"), ("a/b", "a")]
        {
            assert!(!covers(pattern, name), "{pattern} {name}");
        }
        for text in ["", "/*", "**", "a*", "*/a", "A/*", "a/**", "../*"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
        for text in ["*", "a/b/*", "a/b"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn who_may_push_or_delete_may_pull() {
        let patterns = |text: &str| vec![text.parse().unwrap()];
        let rights = Rights { pull: patterns("a/*"), push: patterns("b/*"), delete: patterns("c/*") };
        let allowed =
            |name: &str| [Action::Pull, Action::Push, Action::Delete].map(|action| rights.allow(action, name));
        assert_eq!(allowed("a/x"), [true, false, false]);
        assert_eq!(allowed("b/x"), [true, true, false]);
        assert_eq!(allowed("c/x"), [true, false, true]);
        assert_eq!(allowed("d/x"), [false; 3]);
    }
}
