//! Every limit of a node stands in `docs/limits.md`, and the table names none that is no more.

use std::collections::BTreeSet;

use syn::Item;

use super::source::{File, is_test_only};

/// Constants that end so are limits: a name says what is counted, and of what unit.
const SUFFIX: &str = "_MAX";

/// The names of the limits that files define.
pub(super) fn limits<'a>(files: impl IntoIterator<Item = &'a File>) -> BTreeSet<String> {
    let items = files.into_iter().filter(|file| !file.test).flat_map(|file| &file.syntax.items);
    let names = items.filter_map(|item| match item {
        Item::Const(constant) if !is_test_only(&constant.attrs) => Some(constant.ident.to_string()),
        _ => None,
    });
    names.filter(|name| name.ends_with(SUFFIX)).collect()
}

/// Breaches of the table: limits that it does not name, and names that are no limits.
pub(super) fn check(limits: &BTreeSet<String>, elsewhere: &BTreeSet<String>, table: &str) -> Vec<String> {
    let named: BTreeSet<String> =
        table.split('`').skip(1).step_by(2).filter(|name| name.ends_with(SUFFIX)).map(str::to_owned).collect();
    let missing = limits
        .difference(&named)
        .map(|name| format!("docs/limits.md: {name} is missing (hint: say what it bounds, and what happens at it)"));
    let stale = named.difference(limits).filter(|name| !elsewhere.contains(*name));
    missing.chain(stale.map(|name| format!("docs/limits.md: there is no {name} (hint: remove it)"))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{assert_caught, assert_kept, source};

    #[test]
    fn the_table_names_every_limit() {
        let root = source::root();
        let of = |dir: &str| limits(&source::read_crate(&root, dir).unwrap());
        let host = of("host");
        assert!(host.len() > 30, "only {host:?}");
        let table = fs::read_to_string(root.join("docs/limits.md")).unwrap();
        assert_kept(&check(&host, &of("registry"), &table));
    }

    #[test]
    fn what_is_missing_and_what_is_gone_is_caught() {
        let files = [File::example("host/src/a.rs", "const A_MAX: u32 = 1; const B: u32 = 2;")];
        let limits = limits(&files);
        let none = BTreeSet::new();
        assert_kept(&check(&limits, &none, "| `A_MAX` | `B` |"));
        assert_caught(&check(&limits, &none, "| `A` |"), &["A_MAX is missing"]);
        assert_caught(&check(&limits, &none, "| `A_MAX` | `OLD_MAX` |"), &["no OLD_MAX"]);
        assert_kept(&check(&limits, &BTreeSet::from(["OLD_MAX".to_owned()]), "| `A_MAX` | `OLD_MAX` |"));
    }
}
