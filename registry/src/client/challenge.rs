//! What a registry asks of those whom it does not know: `WWW-Authenticate`, as RFC 9110 writes it.

use std::collections::BTreeMap;

/// The most of a header that is looked at. A scope of a dozen repositories fits.
const HEADER_BYTES_MAX: usize = 8 << 10;

/// One way to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The ways that are known among those that headers offer, a token before a password.
pub(super) fn best<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let offered: Vec<Challenge> = headers.into_iter().flat_map(all).collect();
    let is_bearer = |challenge: &&Challenge| matches!(challenge, Challenge::Bearer { .. });
    offered.iter().find(is_bearer).or(offered.first()).cloned()
}

/// All of one header, which may hold several, separated by commas as their parameters are.
fn all(header: &str) -> Vec<Challenge> {
    let mut offered: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    if header.len() > HEADER_BYTES_MAX {
        return Vec::new();
    }
    for part in parts(header) {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (part.trim(), None),
        };
        // Before a parameter there may be the name of a scheme: `Bearer realm="…"`.
        let key = match name.split_once(char::is_whitespace) {
            Some((scheme, key)) => {
                offered.push((scheme.to_ascii_lowercase(), BTreeMap::new()));
                key.trim()
            }
            None if value.is_none() => {
                offered.push((name.to_ascii_lowercase(), BTreeMap::new()));
                continue;
            }
            None => name,
        };
        if let (Some((_, parameters)), Some(value)) = (offered.last_mut(), value) {
            parameters.insert(key.to_ascii_lowercase(), unquoted(value));
        }
    }
    let known = offered.into_iter().filter_map(|(scheme, mut parameters)| match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        }),
        _ => None,
    });
    known.collect()
}

/// Splits at commas that are not quoted.
fn parts(header: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in header.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&header[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&header[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.to_owned() };
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: &str| text.to_owned();
        Some(Challenge::Bearer { realm: owned(realm), service: service.map(owned), scope: scope.map(owned) })
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected =
            bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push"));
        assert_eq!(best([hub]), expected);
        assert_eq!(best(["Basic realm=\"Registry Realm\""]), Some(Challenge::Basic));
        assert_eq!(best(["basic"]), Some(Challenge::Basic));
        assert_eq!(best(["bearer  realm = \"https://a\" , error=\"x\""]), bearer("https://a", None, None));
        let both = [r#"Negotiate, Basic realm="a, b", Bearer realm="https://a/\"b\"",service=c"#];
        assert_eq!(best(both), bearer("https://a/\"b\"", Some("c"), None));
        assert_eq!(best(["Basic realm=x", "Bearer realm=\"https://a\""]), bearer("https://a", None, None));
    }

    #[test]
    fn nothing_known_is_nothing() {
        for header in ["", "Negotiate", "Bearer service=\"a\"", "=,=\"", "Bearer realm", &"x,".repeat(10_000)] {
            assert_eq!(best([header]), None, "{header}");
        }
    }
}
