//! Which crate may use which. The table is DESIGN's house, read from the bottom up; a crate that is not in it is a breach,
//! so that a new one is placed on purpose.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What each crate may use of the others, in code and in tests.
const ARROWS: [(&str, &[&str]); 11] = [
    ("skiff-api", &[]),
    ("skiff-disk", &[]),
    ("skiff-keyvalue", &["skiff-disk"]),
    ("skiff-link", &["skiff-api", "skiff-disk"]),
    ("skiff-registry", &["skiff-api", "skiff-disk", "skiff-link"]),
    ("skiff-host", &["skiff-api", "skiff-disk", "skiff-keyvalue", "skiff-link", "skiff-registry"]),
    ("skiff-scheduler", &["skiff-api", "skiff-disk", "skiff-keyvalue", "skiff-link", "skiff-registry"]),
    (
        "skiff",
        &["skiff-api", "skiff-disk", "skiff-host", "skiff-keyvalue", "skiff-link", "skiff-registry", "skiff-scheduler"],
    ),
    (
        "skiff-tests",
        &[
            "skiff",
            "skiff-api",
            "skiff-disk",
            "skiff-fuzz",
            "skiff-host",
            "skiff-link",
            "skiff-registry",
            "skiff-scheduler",
        ],
    ),
    (
        "skiff-bench",
        &["skiff", "skiff-api", "skiff-disk", "skiff-host", "skiff-link", "skiff-registry", "skiff-scheduler"],
    ),
    ("xtask", &[]),
];

/// What stands outside the workspace: guests see the SDK only, the SDK its own macros, the fuzz targets what they fuzz.
const OUTSIDE: [(&str, &[&str]); 3] = [
    ("skiff-sdk", &["skiff-sdk-macros"]),
    ("skiff-sdk-macros", &[]),
    ("skiff-fuzz", &["skiff-api", "skiff-link", "skiff-registry"]),
];
const GUESTS: &[&str] = &["skiff-sdk"];

/// Nodes and control plane pull; only the program on top serves the registry.
const REGISTRY_CLIENTS: [&str; 2] = ["skiff-host", "skiff-scheduler"];

/// All that the bottom crate needs when no feature is asked for. Everything links it: keep it this short.
const API_NEEDS: [&str; 8] = ["cronexpr", "jiff", "pem", "serde", "serde-saphyr", "serde_json", "strsim", "thiserror"];

/// The packages of a manifest's workspace, as cargo reads them.
pub(super) fn packages(manifest: &Path) -> Result<Vec<Value>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path"])
        .arg(manifest)
        .output()
        .context("failed to start cargo metadata")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("failed to read {} with cargo metadata: {said}", manifest.display());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("failed to parse cargo's metadata")?;
    metadata["packages"].as_array().cloned().context("failed to find packages in cargo's metadata")
}

/// What code of `package` calls its dependencies, without those that only tests use.
pub(super) fn dependency_names(packages: &[Value], package: &str) -> Vec<String> {
    let package = packages.iter().find(|found| found["name"] == package);
    let dependencies = package.and_then(|package| package["dependencies"].as_array()).into_iter().flatten();
    let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
    normal.filter_map(|d| d["rename"].as_str().or(d["name"].as_str())).map(|name| name.replace('-', "_")).collect()
}

/// Breaches of packages in the workspace.
pub(super) fn check(packages: &[Value]) -> Vec<String> {
    check_against(packages, |name| ARROWS.iter().find(|(package, _)| *package == name).map(|(_, allowed)| *allowed))
}

/// Breaches of packages outside of the workspace.
pub(super) fn check_outside(packages: &[Value]) -> Vec<String> {
    let allowed =
        |name: &str| OUTSIDE.iter().find(|(package, _)| *package == name).map_or(GUESTS, |(_, allowed)| allowed);
    check_against(packages, |name| Some(allowed(name)))
}

fn check_against(packages: &[Value], allowed: impl Fn(&str) -> Option<&'static [&'static str]>) -> Vec<String> {
    let mut breaches = Vec::new();
    for package in packages {
        let name = text(&package["name"]);
        let Some(allowed) = allowed(name) else {
            breaches.push(format!("{name}: not a crate that DESIGN knows (hint: place it in ARROWS in this test)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = text(&dependency["name"]);
            if is_ours(dependency) && !allowed.contains(&used) {
                breaches
                    .push(format!("{name}: must not use {used} (hint: they meet in what both may use: {allowed:?})"));
            }
            let normal = dependency["kind"].is_null();
            if normal && used == "skiff-registry" && REGISTRY_CLIENTS.contains(&name) && has(dependency, "server") {
                breaches.push(format!("{name}: uses the server of {used} (hint: only the client)"));
            }
            if normal && name == "skiff-api" && dependency["optional"] != true && !API_NEEDS.contains(&used) {
                breaches.push(format!("{name}: needs {used} (hint: make it optional, behind a feature)"));
            }
        }
    }
    breaches
}

fn is_ours(dependency: &Value) -> bool {
    dependency["path"].is_string() || text(&dependency["name"]).starts_with("skiff")
}

fn has(dependency: &Value, feature: &str) -> bool {
    dependency["features"].as_array().into_iter().flatten().any(|found| found == feature)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::{assert_caught, assert_kept, source};

    #[test]
    fn the_workspace_has_no_other_arrow() {
        let packages = packages(&source::root().join("Cargo.toml")).unwrap();
        assert_eq!(packages.len(), ARROWS.len());
        assert_kept(&check(&packages));
    }

    #[test]
    fn what_stands_outside_sees_no_more_than_it_should() {
        let root = source::root();
        let mut manifests = vec![root.join("sdk/rust/Cargo.toml"), root.join("fuzz/Cargo.toml")];
        for parent in ["examples", "tests/guests"] {
            let folders = fs::read_dir(root.join(parent)).unwrap().map(|entry| entry.unwrap().path());
            manifests.extend(folders.map(|dir| dir.join("Cargo.toml")).filter(|manifest| manifest.is_file()));
        }
        assert!(manifests.len() >= 4, "{manifests:?}");
        for manifest in manifests {
            assert_kept(&check_outside(&packages(&manifest).unwrap()));
        }
    }

    fn package(name: &str, dependency: &Value) -> [Value; 1] {
        let mut full = json!({"kind": null, "optional": false, "features": [], "path": null, "rename": null});
        full.as_object_mut().unwrap().extend(dependency.as_object().unwrap().clone());
        [json!({"name": name, "dependencies": [full]})]
    }

    #[test]
    fn a_wrong_arrow_is_caught() {
        let wrong = package("skiff-host", &json!({"name": "skiff-scheduler", "path": "/x/scheduler"}));
        assert_caught(&check(&wrong), &["skiff-host: must not use skiff-scheduler"]);
        let in_tests = package("skiff-scheduler", &json!({"name": "skiff-host", "kind": "dev"}));
        assert_caught(&check(&in_tests), &["skiff-scheduler: must not use skiff-host"]);
        let by_path = package("skiff-disk", &json!({"name": "helpers", "path": "/x/helpers"}));
        assert_caught(&check(&by_path), &["skiff-disk: must not use helpers"]);
        let upwards = package("skiff-api", &json!({"name": "skiff-registry", "optional": true}));
        assert_caught(&check(&upwards), &["skiff-api: must not use skiff-registry"]);
    }

    #[test]
    fn an_unknown_crate_is_caught() {
        assert_caught(&check(&package("skiff-extra", &json!({"name": "serde"}))), &["skiff-extra", "place it"]);
    }

    #[test]
    fn the_registrys_server_is_for_the_top_only() {
        let wrong = json!({"name": "skiff-registry", "features": ["client", "server"]});
        assert_caught(&check(&package("skiff-scheduler", &wrong)), &["uses the server of skiff-registry"]);
        assert_kept(&check(&package("skiff", &wrong)));
    }

    #[test]
    fn a_new_need_of_the_bottom_is_caught() {
        assert_caught(&check(&package("skiff-api", &json!({"name": "tokio"}))), &["skiff-api: needs tokio"]);
        assert_kept(&check(&package("skiff-api", &json!({"name": "tokio", "optional": true}))));
    }

    #[test]
    fn a_guest_that_sees_the_house_is_caught() {
        let wrong = package("hello", &json!({"name": "skiff-api"}));
        assert_caught(&check_outside(&wrong), &["hello: must not use skiff-api"]);
        assert_kept(&check_outside(&package("hello", &json!({"name": "skiff-sdk", "path": "/x"}))));
    }

    #[test]
    fn dependencies_are_named_as_code_names_them() {
        let packages = package("a", &json!({"name": "tokio-util", "rename": "util"}));
        assert_eq!(dependency_names(&packages, "a"), ["util"]);
        assert!(dependency_names(&package("a", &json!({"name": "wat", "kind": "dev"})), "a").is_empty());
    }
}
