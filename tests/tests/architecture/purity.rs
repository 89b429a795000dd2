//! The planners are pure: no clock, no I/O, no async, no randomness, so that a simulator can run them and a seed repeats
//! them.
//!
//! Two fences, because names can be re-exported. From outside its own folder a planner may use only what is listed in
//! [`ALLOWED_CRATES`] and [`ALLOWED_MODULES`]; and of those it may not use what [`IMPURE`] lists.

use super::mentions::{is_within, mentions};
use super::source::File;

/// What a planner may use besides the standard library, of the dependencies that its crate has.
const ALLOWED_CRATES: [&str; 3] = ["jiff", "serde", "skiff_api"];

/// What a planner may use of its own crate besides its own folder. Each was read and is a function of its arguments.
const ALLOWED_MODULES: [&str; 1] = ["crate::objects::routes_of"];

const CLOCK: &str = "reads a clock (hint: take the time as an argument)";
const OUTSIDE: &str = "reaches outside (hint: return an action and let `execute` carry it out)";
const RANDOM: &str = "iterates in a random order (hint: use BTreeMap or BTreeSet)";

const IMPURE: [(&str, &str); 24] = [
    ("jiff::Timestamp::now", CLOCK),
    ("jiff::Zoned::now", CLOCK),
    ("jiff::tz::TimeZone::system", OUTSIDE),
    ("skiff_api::client", OUTSIDE),
    ("std::collections::HashMap", RANDOM),
    ("std::collections::HashSet", RANDOM),
    ("std::collections::hash_map", RANDOM),
    ("std::collections::hash_set", RANDOM),
    ("std::env", OUTSIDE),
    ("std::fs", OUTSIDE),
    ("std::future", OUTSIDE),
    ("std::hash::RandomState", RANDOM),
    ("std::io", OUTSIDE),
    ("std::net", OUTSIDE),
    ("std::os", OUTSIDE),
    ("std::process", OUTSIDE),
    ("std::sync::Condvar", OUTSIDE),
    ("std::sync::Mutex", OUTSIDE),
    ("std::sync::RwLock", OUTSIDE),
    ("std::sync::mpsc", OUTSIDE),
    ("std::task", OUTSIDE),
    ("std::thread", OUTSIDE),
    ("std::time::Instant", CLOCK),
    ("std::time::SystemTime", CLOCK),
];

const PRINTERS: [&str; 5] = ["dbg!", "eprint!", "eprintln!", "print!", "println!"];

/// `dependencies` are those of the file's crate, as code names them.
pub(super) fn check(file: &File, dependencies: &[String]) -> Vec<String> {
    let found = mentions(file);
    let mut breaches = Vec::new();
    let mut breach = |line: usize, what: String| breaches.push(format!("{}:{line}: {what}", file.path));
    for mention in &found.asyncs {
        breach(mention.line, format!("{} in a planner (hint: plans wait for nothing)", mention.name));
    }
    for mention in &found.paths {
        let path = &mention.name;
        if let Some((_, why)) = IMPURE.iter().find(|(prefix, _)| is_within(path, prefix)) {
            breach(mention.line, format!("{path} {why}"));
        } else if path.rsplit("::").next().is_some_and(|last| PRINTERS.contains(&last)) {
            breach(mention.line, format!("{path} {OUTSIDE}"));
        } else if path.starts_with("crate::") && !is_own(path) {
            breach(mention.line, format!("{path} is outside the planner (hint: see ALLOWED_MODULES in this test)"));
        } else if let Some((root, _)) = path.split_once("::")
            && let Some(used) = dependencies.iter().find(|dependency| *dependency == root)
            && !ALLOWED_CRATES.contains(&used.as_str())
        {
            breach(mention.line, format!("{path}: planners do not use {used} (hint: see ALLOWED_CRATES in this test)"));
        }
    }
    breaches
}

fn is_own(path: &str) -> bool {
    is_within(path, "crate::plan") && path != "crate::*" || ALLOWED_MODULES.iter().any(|module| is_within(path, module))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arrows, assert_caught, assert_kept, source};

    #[test]
    fn the_planners_are_pure() {
        let packages = arrows::packages(&source::root().join("Cargo.toml")).unwrap();
        for dir in ["host", "scheduler"] {
            let dependencies = arrows::dependency_names(&packages, &format!("skiff-{dir}"));
            assert!(dependencies.iter().any(|name| name == "tokio"), "{dependencies:?}");
            let files = source::read_crate(&source::root(), dir).unwrap();
            let planners: Vec<_> =
                files.iter().filter(|f| !f.test && f.module.get(1).is_some_and(|m| m == "plan")).collect();
            assert!(planners.len() >= 3, "{dir}/src/plan has moved");
            let breaches: Vec<String> = planners.iter().flat_map(|file| check(file, &dependencies)).collect();
            assert_kept(&breaches);
        }
    }

    #[test]
    fn what_is_allowed_is_used() {
        let files = source::read_crate(&source::root(), "scheduler").unwrap();
        let used: Vec<_> = files.iter().filter(|f| f.path.contains("/plan/")).flat_map(|f| mentions(f).paths).collect();
        for module in ALLOWED_MODULES {
            assert!(used.iter().any(|mention| mention.name == module), "ALLOWED_MODULES: nothing uses {module}");
        }
    }

    fn caught(text: &str, parts: &[&str]) {
        let file = File::example("host/src/plan/x.rs", text);
        assert_caught(&check(&file, &["tokio".into(), "jiff".into(), "getrandom".into()]), parts);
    }

    #[test]
    fn clocks_are_caught() {
        caught("use jiff::Timestamp;\nfn f() { Timestamp::now(); }", &["x.rs:2", "jiff::Timestamp::now"]);
        caught("fn f() { std::time::SystemTime::now(); }", &["x.rs:1", "SystemTime"]);
        caught("use std::time::*;", &["std::time::*", "clock"]);
        caught("fn f() -> Vec<u8> { vec![jiff::Zoned::now()] }", &["jiff::Zoned::now"]);
    }

    #[test]
    fn async_is_caught() {
        caught("async fn f() {}", &["async fn"]);
        caught("impl X { async fn f() {} }", &["async fn"]);
        caught("fn f() { g(async { 1 }) }", &["async block"]);
    }

    #[test]
    fn the_world_outside_is_caught() {
        caught("fn f() { std::fs::read(\"x\"); }", &["std::fs::read", "reaches outside"]);
        caught("use std::env;", &["std::env"]);
        caught("fn f() { tokio::spawn(g()); }", &["tokio::spawn", "do not use tokio"]);
        caught("use getrandom::fill as draw;", &["getrandom::fill"]);
        caught("use tokio as t;\nfn f() { t::spawn(g()); }", &["x.rs:2", "tokio::spawn"]);
        caught("fn f() { tokio::select! {} }", &["tokio::select!"]);
        caught("fn f() { std::println!(\"{}\", 1); }", &["println!"]);
        caught("fn f() { assert!(dbg!(1) != 2); }", &["dbg!"]);
        caught("use crate::clock::Clock;", &["crate::clock::Clock", "outside the planner"]);
        caught("use super::super::state::Cache;", &["crate::state::Cache"]);
        caught("use std::collections::HashMap;", &["random order"]);
    }

    #[test]
    fn pure_code_is_left_alone() {
        let text =
            "use jiff::Timestamp;\nuse std::collections::BTreeMap;\nuse super::state::State;\nuse std::time::Duration;
            fn f(tokio: u8, print: u8) -> bool { tokio != print }
            fn plan(state: &State, now: Timestamp) -> BTreeMap<u8, u8> { BTreeMap::new() }
            #[cfg(test)] mod tests { use std::fs; async fn f() {} }";
        assert_kept(&check(&File::example("host/src/plan/x.rs", text), &["jiff".into(), "tokio".into()]));
    }
}
