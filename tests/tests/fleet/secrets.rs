//! Secrets of services that use them: nobody else sees them, on no disk and in no answer, and nodes need nobody to have them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use skiff_tests::{Fleet, eventually, guest};

use super::fleet;

/// With characters that JSON and shells escape, and that are more than a byte.
const SECRET: &str = "hunter2 \"quoted\" \\ back\nline ü–é 0123456789";
const APP: &str = "kind: Config\nname: app\ndata: {REGION: eu}\n---\nkind: Service\nname: app\nimage: probe\nreplicas: 2\nconfig: [app]\nsecrets: [stripe]\nenvFrom: [app, stripe]\nhttp:\n  routes: [{host: app.test, path: /}]\n";

/// What the secret looks like in files and answers.
fn forms() -> Vec<Vec<u8>> {
    let json = serde_json::to_string(SECRET).unwrap();
    let mut hex = String::new();
    SECRET.bytes().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
    // A prefix of base64 is the same whatever stands behind it.
    let encoded = [STANDARD.encode(SECRET), STANDARD_NO_PAD.encode(SECRET), URL_SAFE.encode(SECRET)];
    let twice = serde_json::to_string(json.trim_matches('"')).unwrap();
    [SECRET.to_owned(), json.trim_matches('"').to_owned(), twice, hex.to_uppercase(), hex]
        .into_iter()
        .chain(encoded)
        .map(|form| form.trim_matches('"').as_bytes().to_vec())
        .collect()
}

fn has_it(bytes: &[u8]) -> bool {
    forms().iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
}

/// Every file under a folder; how many there were.
fn search(folder: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files += search(&path);
        } else if kind.is_file() {
            // What a process removes meanwhile is nowhere.
            let Ok(bytes) = fs::read(&path) else { continue };
            assert!(!has_it(&bytes), "the secret is in {}", path.display());
            files += 1;
        }
    }
    files
}

fn config_of(fleet: &Fleet, node: &str) -> String {
    fleet.get(node, "app.test", "/config").unwrap().text().to_owned()
}

#[test]
fn a_secret_in_use_is_in_no_file_and_no_answer() {
    let mut fleet = fleet(2);
    fleet.skiff(&["push", "probe", guest("probe").to_str().unwrap()]).ok();
    let value = fleet.write("value", SECRET);
    let file = format!("KEY={value}");
    fleet.skiff(&["create", "secret", "stripe", "--from-file", &file]).ok();
    fs::remove_file(&value).unwrap();
    let app = fleet.write("app.yaml", APP);
    fleet.skiff(&["apply", "-f", &app, "--wait"]).ok();
    for node in ["n1", "n2"] {
        assert_eq!(config_of(&fleet, node), format!("KEY={SECRET}\nREGION=eu\n"));
        let env = fleet.get(node, "app.test", "/env").unwrap().text().to_owned();
        assert_eq!(env, format!("KEY={SECRET}\nREGION=eu\n"));
    }

    // A change is there without another replica.
    let before = fleet.replicas();
    let changed = fleet.write("app.yaml", APP.replace("eu", "us"));
    fleet.skiff(&["apply", "-f", &changed]).ok();
    for node in ["n1", "n2"] {
        eventually("the new value is told", || config_of(&fleet, node).contains("REGION=us").then_some(()));
    }
    assert_eq!(fleet.replicas(), before);

    // Journals are read at the next start, and the whole is written when it comes anew: so both are there to be searched.
    for node in ["n1", "n2"] {
        fleet.kill_node(node);
        fleet.start_node(node);
        fleet.until_liveness(node, "Alive");
    }
    eventually("all is back", || config_of(&fleet, "n1").contains("KEY=").then_some(()));
    for args in [
        &["get", "secret", "stripe", "-o", "yaml"][..],
        &["get", "secrets", "-A", "-o", "json"],
        &["describe", "secret", "stripe"],
        &["describe", "service", "app"],
        &["get", "revisions", "-o", "json"],
        &["get", "replicas", "-o", "json"],
        &["get", "events", "-A", "-o", "json"],
        &["rollout", "history", "app", "--revision", "1"],
        &["logs", "app"],
    ] {
        let said = fleet.skiff(args).ok();
        assert!(!has_it(said.stdout.as_bytes()) && !has_it(said.stderr.as_bytes()), "{args:?}: {said}");
    }
    let backup = fleet.path("backup.tar");
    fleet.skiff(&["backup", backup.to_str().unwrap()]).ok();
    assert!(search(&fleet.path("")) > 20, "there are files to be searched");

    // Nobody is there to be asked, and the values are: they are kept, sealed.
    fleet.kill_server();
    for node in ["n1", "n2"] {
        fleet.kill_node(node);
        fleet.start_node(node);
        assert_eq!(config_of(&fleet, node), format!("KEY={SECRET}\nREGION=us\n"));
        let status = fs::read_to_string(format!("/proc/{}/limits", fleet.node(node).pid())).unwrap();
        let core = status.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    assert!(search(&fleet.path("")) > 20);
}
