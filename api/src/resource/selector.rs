//! Label selectors: `tier=backend,env!=prod,canary,!legacy`, as kubectl's `-l` reads them.

use std::collections::BTreeMap;
use std::str::FromStr;

/// A conjunction of requirements on labels. The empty one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Equals(String, String),
    Differs(String, String),
    Exists(String),
    Absent(String),
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} is not a label requirement (hint: write KEY=VALUE, KEY!=VALUE, KEY or !KEY, separated by commas)")]
pub struct InvalidSelector {
    part: String,
}

impl Selector {
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::Equals(key, value) => labels.get(key) == Some(value),
            Requirement::Differs(key, value) => labels.get(key) != Some(value),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(|part| requirement(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn requirement(part: &str) -> Result<Requirement, InvalidSelector> {
    let fail = || InvalidSelector { part: part.chars().take(80).collect() };
    let key = |text: &str| match is_label_key(text.trim()) {
        true => Ok(text.trim().to_owned()),
        false => Err(fail()),
    };
    let value = |text: &str| match is_label_value(text.trim()) {
        true => Ok(text.trim().to_owned()),
        false => Err(fail()),
    };
    if let Some((left, right)) = part.split_once("!=") {
        return Ok(Requirement::Differs(key(left)?, value(right)?));
    }
    if let Some((left, right)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::Equals(key(left)?, value(right)?));
    }
    match part.strip_prefix('!') {
        Some(rest) => Ok(Requirement::Absent(key(rest)?)),
        None => Ok(Requirement::Exists(key(part)?)),
    }
}

/// Whether a text is a label's key: `[PREFIX/]NAME`, as Kubernetes has it.
pub fn is_label_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let prefix_ok = prefix.is_none_or(|p| {
        !p.is_empty()
            && p.len() <= 253
            && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    });
    prefix_ok && !name.is_empty() && is_label_value(name)
}

/// Whether a text is a label's value: at most 63 letters, digits, '-', '_', '.', with a letter or digit at both ends.
pub fn is_label_value(text: &str) -> bool {
    let alnum = |b: &u8| b.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|b| alnum(b) || b"-_.".contains(b))
        && bytes.first().is_none_or(alnum)
        && bytes.last().is_none_or(alnum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_as_kubectl_does() {
        let labels = BTreeMap::from([("tier".to_owned(), "backend".to_owned()), ("canary".to_owned(), String::new())]);
        let matches = |text: &str| text.parse::<Selector>().unwrap().matches(&labels);
        for text in ["", "tier=backend", "tier==backend", "tier!=web", "canary", "!legacy", "tier=backend, canary"] {
            assert!(matches(text), "{text}");
        }
        for text in ["tier=web", "tier!=backend", "legacy", "!canary", "tier=backend,legacy"] {
            assert!(!matches(text), "{text}");
        }
        for text in ["=", "a=b=c", ",", "a b", "!"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }
}
