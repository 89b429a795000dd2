//! The example of a component in front of a container with a disk, as its README says it.

use std::path::Path;
use std::process::Command;

use skiff_tests::docker::{Engine, apart};
use skiff_tests::programs::done;
use skiff_tests::{Cluster, Request, guest, within};

use super::containers::PATIENCE;
use super::docker::log_in;

fn example(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/mixed").join(file).to_string_lossy().into_owned()
}

#[test]
fn a_component_keeps_its_book_in_a_container() {
    apart(|| {
        let (engine, folder) = (Engine::start(), tempfile::tempdir().unwrap());
        let cluster = Cluster::builder().arg(&format!("--docker={}", engine.socket().display())).start();
        let (docker, registry) = (engine.docker("tester"), cluster.api_addr().to_string());
        // Its image, of one static binary.
        let (program, image) = (folder.path().join("ledger"), format!("{registry}/mixed/ledger:1"));
        std::fs::copy(example("ledger/Dockerfile"), folder.path().join("Dockerfile")).unwrap();
        let flags = ["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "panic=abort", "-o"];
        done(Command::new("rustc").args(flags).arg(&program).arg(example("ledger/ledger.rs")));
        log_in(&docker, &registry, &cluster.token());
        docker.ok(&["build", "-t", &image, folder.path().to_str().unwrap()]);
        docker.ok(&["push", &image]);
        cluster.skiff(&["push", "mixed/front", guest("mixed-front").to_str().unwrap()]).ok();
        cluster.skiff(&["apply", "-f", &example("skiff.yaml"), "--wait"]).ok();

        let sign = |body: &str| {
            let request = Request::new(cluster.gateway_addr(), "POST", "/book");
            request.header("content-type", "application/json").body(body.as_bytes()).send().unwrap()
        };
        assert_eq!(cluster.get("/book").text(), "[]");
        assert_eq!(sign(r#"{"name": "Ada", "text": "Hello"}"#).status, 201);
        assert_eq!(sign(r#"{"name": "", "text": "x"}"#).status, 400);
        assert_eq!(sign(r#"{"name": "Bo\n", "text": "a \"line\"\nof two"}"#).status, 201);
        let book = cluster.get("/book").text();
        assert_eq!(book, r#"[{"name":"Ada","text":"Hello"},{"name":"Bo\n","text":"a \"line\"\nof two"}]"#);
        // Another container, the same entries.
        cluster.skiff(&["rollout", "restart", "ledger", "-n", "mixed"]).ok();
        cluster.skiff(&["rollout", "status", "ledger", "-n", "mixed"]).ok();
        within(PATIENCE, "the book is as before", || (cluster.get("/book").text() == book).then_some(()));
        let logs = cluster.skiff(&["logs", "ledger", "-n", "mixed"]).ok().stdout;
        assert!(logs.contains("2 entries, listening on port 8080"), "{logs}");
        cluster.skiff(&["delete", "-f", &example("skiff.yaml")]).ok();
        within(PATIENCE, "nothing is left", || {
            let left = [["ps", "--all"], ["volume", "ls"]]
                .map(|[a, b]| docker.ok(&[a, b, "--quiet", "--filter", "label=skiff.node"]));
            left.iter().all(String::is_empty).then_some(())
        });
    });
}
