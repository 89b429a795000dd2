//! Three-way merge: what a file now says, what it said last, and what is there.
//!
//! | the field is named | in the live object |
//! |---|---|
//! | now | takes the new value |
//! | before and not now | is removed: its default holds again |
//! | never | stays, whoever wrote it |
//!
//! Objects and maps merge key by key, to any depth; lists and all else are replaced whole. Pure, on JSON: what a field
//! means, and what its default is, is left to the types that read the result.

use serde_json::{Map, Value};

/// What the live object becomes. `last` is [`Value::Null`] where nothing was applied before.
pub(super) fn merge(last: &Value, live: &Value, new: &Value) -> Value {
    let (Value::Object(live), Value::Object(new)) = (live, new) else { return new.clone() };
    let mut merged = Map::new();
    for (key, was) in live {
        let before = last.get(key);
        match (new.get(key), before) {
            (Some(new), before) => {
                merged.insert(key.clone(), merge(before.unwrap_or(&Value::Null), was, new));
            }
            (None, None) => {
                merged.insert(key.clone(), was.clone());
            }
            (None, Some(before)) => {
                if let Some(rest) = without(before, was) {
                    merged.insert(key.clone(), rest);
                }
            }
        }
    }
    for (key, value) in new.iter().filter(|(key, _)| !live.contains_key(*key)) {
        merged.insert(key.clone(), value.clone());
    }
    Value::Object(merged)
}

/// What is left of a live value when the file no longer says what it said: the keys that it never named.
fn without(before: &Value, live: &Value) -> Option<Value> {
    let (Value::Object(fields), Value::Object(_)) = (before, live) else { return None };
    let rest = merge(&Value::Object(fields.clone()), live, &Value::Object(Map::new()));
    rest.as_object().is_some_and(|rest| !rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn named_now_named_before_and_never_named() {
        let live = json!({"image": "a", "replicas": 5, "env": {"A": "1", "B": "2"}, "routes": [1, 2]});
        for (last, new, want) in [
            (
                json!(null),
                json!({"image": "b"}),
                json!({"image": "b", "replicas": 5, "env": {"A": "1", "B": "2"}, "routes": [1, 2]}),
            ),
            (
                json!({"replicas": 3}),
                json!({"image": "a"}),
                json!({"image": "a", "env": {"A": "1", "B": "2"}, "routes": [1, 2]}),
            ),
            (
                json!({"env": {"A": "1"}}),
                json!({}),
                json!({"image": "a", "replicas": 5, "env": {"B": "2"}, "routes": [1, 2]}),
            ),
            (
                json!({"env": {"A": "1"}}),
                json!({"env": {"C": "3"}}),
                json!({"image": "a", "replicas": 5, "env": {"B": "2", "C": "3"}, "routes": [1, 2]}),
            ),
            (json!({"env": {"A": "1", "B": "2"}}), json!({}), json!({"image": "a", "replicas": 5, "routes": [1, 2]})),
            (
                json!({"routes": [1]}),
                json!({"routes": [3]}),
                json!({"image": "a", "replicas": 5, "env": {"A": "1", "B": "2"}, "routes": [3]}),
            ),
            (
                json!({"env": {}}),
                json!({"env": {}, "replicas": {}}),
                json!({"image": "a", "replicas": {}, "env": {"A": "1", "B": "2"}, "routes": [1, 2]}),
            ),
        ] {
            assert_eq!(merge(&last, &live, &new), want, "{last} {new}");
        }
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![(0..3u8).prop_map(Value::from), prop::collection::vec(0..3u8, 0..3).prop_map(Value::from)];
        // Not empty: then every name is in the path of a leaf. The table above has empty ones.
        let map = |inner| prop::collection::btree_map("[abc]", inner, 1..3);
        let object = |fields: std::collections::BTreeMap<String, Value>| json!(fields);
        let inner = leaf.prop_recursive(3, 24, 3, move |inner| map(inner).prop_map(object));
        prop::collection::btree_map("[abcd]", inner, 0..4).prop_map(object)
    }

    /// The leaves of a document, each by its path. An independent view: no merging happens on it.
    fn leaves(path: &str, value: &Value, into: &mut std::collections::BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| leaves(&format!("{path}/{key}"), value, into))
            }
            leaf => drop(into.insert(path.to_owned(), leaf.clone())),
        }
    }

    fn flat(value: &Value) -> std::collections::BTreeMap<String, Value> {
        let mut flat = std::collections::BTreeMap::new();
        leaves("", value, &mut flat);
        flat
    }

    /// Whether two paths are the same or one lies in the other.
    fn meet(a: &str, b: &str) -> bool {
        a == b || a.starts_with(&format!("{b}/")) || b.starts_with(&format!("{a}/"))
    }

    proptest! {
        #[test]
        fn every_leaf_follows_the_table(last in document(), live in document(), new in document()) {
            let merged = flat(&merge(&last, &live, &new));
            let (last, live, new) = (flat(&last), flat(&live), flat(&new));
            for (path, value) in &new {
                prop_assert_eq!(merged.get(path), Some(value), "named now: {}", path);
            }
            for (path, value) in &live {
                if new.keys().any(|named| meet(named, path)) {
                    continue;
                }
                match last.keys().any(|named| meet(named, path)) {
                    false => prop_assert_eq!(merged.get(path), Some(value), "never named: {}", path),
                    true if last.contains_key(path) => prop_assert_eq!(merged.get(path), None, "named before: {}", path),
                    true => {}
                }
            }
            for path in merged.keys() {
                prop_assert!(live.contains_key(path) || new.contains_key(path), "made up: {}", path);
            }
        }

        #[test]
        fn applying_the_same_again_changes_nothing(last in document(), live in document(), new in document()) {
            let once = merge(&last, &live, &new);
            prop_assert_eq!(merge(&new, &once, &new), once);
        }
    }
}
