//! Every metric is counted and printed.
//!
//! A metric lives in its crate's `metrics.rs`: a field that counts, a function or a variant by which others count it, and a
//! name that is printed. A metric that nobody counts stays at zero for ever and misleads whoever watches it. So, for each
//! such file: everything that it offers is used elsewhere (not only by tests), each counting field is touched at least
//! twice (once to count, once to print), and no two files print one name.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{ImplItem, Item, Visibility};

use super::mentions::mentions;
use super::source::{File, is_test_only};

pub(super) fn is_metrics(file: &File) -> bool {
    !file.test && file.module.last().is_some_and(|name| name == "metrics")
}

/// Breaches of the metrics files of one crate.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut breaches = Vec::new();
    for metrics in files.iter().filter(|file| is_metrics(file)) {
        let used = names_used(files.iter().filter(|file| !file.test && file.path != metrics.path));
        let offered = offered(metrics);
        let unused = offered.iter().filter(|name| !used.contains(*name));
        breaches.extend(unused.map(|name| {
            format!("{}: nothing outside uses {name} (hint: count it where it happens, or delete it)", metrics.path)
        }));
        let touched = mentions(metrics).members;
        for field in counting_fields(metrics) {
            let times = touched.iter().filter(|mention| mention.name == field).count();
            if times < 2 {
                breaches.push(format!("{}: {field} is not both counted and printed", metrics.path));
            }
        }
    }
    breaches
}

/// Breaches across crates: a name that two files print.
pub(super) fn check_names(files: &[&File]) -> Vec<String> {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    let mut breaches = Vec::new();
    for file in files {
        for name in printed_names(file) {
            if let Some(other) = owners.insert(name.clone(), &file.path) {
                breaches.push(format!("{}: {name} is printed by {other} too", file.path));
            }
        }
    }
    breaches
}

/// The last names of paths and members of files that know of metrics at all: others use the same words for other things.
fn names_used<'a>(files: impl Iterator<Item = &'a File>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for file in files {
        let found = mentions(file);
        let words = found.paths.iter().flat_map(|path| path.name.split("::"));
        let words = words.chain(found.members.iter().map(|member| member.name.as_str()));
        let words: Vec<&str> = words.collect();
        if words.iter().any(|word| word.eq_ignore_ascii_case("metrics")) {
            used.extend(words.into_iter().map(str::to_owned));
        }
    }
    used
}

/// Functions and variants that a metrics file offers to others.
fn offered(file: &File) -> Vec<String> {
    let mut names = Vec::new();
    let shared = |visibility: &Visibility| !matches!(visibility, Visibility::Inherited);
    for item in &file.syntax.items {
        match item {
            Item::Impl(block) if block.trait_.is_none() && !is_test_only(&block.attrs) => {
                names.extend(block.items.iter().filter_map(|item| match item {
                    ImplItem::Fn(function) if shared(&function.vis) => Some(function.sig.ident.to_string()),
                    _ => None,
                }));
            }
            Item::Enum(list) if shared(&list.vis) => {
                names.extend(list.variants.iter().map(|variant| variant.ident.to_string()));
            }
            Item::Fn(function) if shared(&function.vis) && !is_test_only(&function.attrs) => {
                names.push(function.sig.ident.to_string());
            }
            Item::Static(counter) if shared(&counter.vis) => names.push(counter.ident.to_string()),
            _ => {}
        }
    }
    names
}

/// Fields whose type counts: an atomic, alone or in an array.
fn counting_fields(file: &File) -> Vec<String> {
    struct Atomics(bool);
    impl<'ast> Visit<'ast> for Atomics {
        fn visit_ident(&mut self, ident: &'ast syn::Ident) {
            self.0 |= ident.to_string().starts_with("Atomic");
        }
    }
    let structs =
        file.syntax.items.iter().filter_map(|item| if let Item::Struct(item) = item { Some(item) } else { None });
    let fields = structs.flat_map(|item| item.fields.iter());
    let counting = fields.filter(|field| {
        let mut atomics = Atomics(false);
        atomics.visit_type(&field.ty);
        atomics.0
    });
    counting.filter_map(|field| field.ident.as_ref().map(ToString::to_string)).collect()
}

/// String literals of the file's own code that are a metric's name.
fn printed_names(file: &File) -> BTreeSet<String> {
    #[derive(Default)]
    struct Names(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_item(&mut self, item: &'ast Item) {
            if !matches!(item, Item::Mod(module) if is_test_only(&module.attrs)) {
                visit::visit_item(self, item);
            }
        }

        fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
            let text = literal.value();
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            if text.starts_with("skiff_") && text.bytes().all(is_name) {
                self.0.insert(text);
            }
        }
    }
    let mut names = Names::default();
    names.visit_file(&file.syntax);
    names.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_caught, assert_kept, source};

    #[test]
    fn every_metric_is_counted_and_printed() {
        let crates: Vec<Vec<File>> =
            source::CRATES.iter().map(|dir| source::read_crate(&source::root(), dir).unwrap()).collect();
        let metrics: Vec<&File> = crates.iter().flatten().filter(|file| is_metrics(file)).collect();
        assert!(!metrics.is_empty(), "there are no metrics any more");
        for file in &metrics {
            assert!(!printed_names(file).is_empty(), "{} prints no metric", file.path);
        }
        assert_kept(&crates.iter().flat_map(|files| check(files)).collect::<Vec<_>>());
        assert_kept(&check_names(&metrics));
    }

    const METRICS: &str = "
        pub struct Metrics { hits: AtomicU64, lost: [AtomicU64; 2] }
        pub enum Gauge { Open, Queued }
        impl Metrics {
            pub fn hit(&self) { self.hits.fetch_add(1, Relaxed); self.lost[0].load(Relaxed); }
            pub fn print(&self) -> String { metric(\"skiff_hits_total\", self.hits.load(Relaxed), &self.lost) }
        }";

    fn files(metrics: &str, user: &str) -> [File; 2] {
        [File::example("host/src/metrics.rs", metrics), File::example("host/src/serve.rs", user)]
    }

    const USER: &str = "use crate::metrics::{Gauge, Metrics};
        fn f(m: &Metrics) { m.hit(); add(Gauge::Open); add(Gauge::Queued); m.print(); }";

    #[test]
    fn a_metric_that_is_used_is_left_alone() {
        assert_kept(&check(&files(METRICS, USER)));
    }

    #[test]
    fn what_nobody_counts_is_caught() {
        assert_caught(&check(&files(METRICS, &USER.replace("m.hit();", ""))), &["host/src/metrics.rs", "uses hit"]);
        assert_caught(&check(&files(METRICS, &USER.replace("Gauge::Queued", "1"))), &["uses Queued"]);
    }

    #[test]
    fn counting_in_tests_only_is_caught() {
        let user = USER.replace("m.hit();", "") + "#[cfg(test)] mod tests { fn g(metrics: M) { metrics.hit() } }";
        assert_caught(&check(&files(METRICS, &user)), &["uses hit"]);
    }

    #[test]
    fn a_same_word_in_a_file_without_metrics_does_not_count() {
        let mut files = Vec::from(files(METRICS, &USER.replace("m.hit();", "")));
        files.push(File::example("host/src/other.rs", "fn f(ball: Ball) { ball.hit() }"));
        assert_caught(&check(&files), &["uses hit"]);
    }

    #[test]
    fn a_field_that_is_only_printed_is_caught() {
        let metrics = METRICS.replace("self.lost[0].load(Relaxed);", "");
        assert_caught(&check(&files(&metrics, USER)), &["lost is not both counted and printed"]);
    }

    #[test]
    fn a_name_printed_twice_is_caught() {
        let (a, b) = (File::example("host/src/metrics.rs", METRICS), File::example("cli/src/metrics.rs", METRICS));
        assert_caught(&check_names(&[&a, &b]), &["skiff_hits_total", "host/src/metrics.rs"]);
        assert_kept(&check_names(&[&a]));
    }
}
