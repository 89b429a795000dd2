//! Native images for several platforms, as builders push them: each machine runs its own, and a copy has all.

use serde_json::{Value, json};
use skiff_tests::docker::apart;
use skiff_tests::{Cluster, Request};

use super::containers::{NATIVE, SERVER, World};
use super::docker::{import, log_in, pushed};
use super::image::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, push_manifest};

const OTHERS: [(&str, &str); 2] = [("linux", "s390x"), ("windows", "amd64")];

fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What an index says of an image that is there.
fn entry(cluster: &Cluster, tag: &str, (os, architecture): (&str, &str)) -> Value {
    let request: Request = cluster.api("GET", &format!("/v2/default/native/manifests/{tag}"));
    let answer = request.header("accept", &format!("{OCI_MANIFEST}, {DOCKER_MANIFEST}")).send().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    json!({
        "mediaType": answer.header("content-type").unwrap(),
        "digest": answer.header("docker-content-digest").unwrap(),
        "size": answer.body.len(),
        "platform": {"os": os, "architecture": architecture},
    })
}

fn push_index(cluster: &Cluster, tag: &str, entries: &[Value]) {
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    push_manifest(cluster, "default/native", tag, OCI_INDEX, &index);
}

#[test]
fn each_machine_runs_its_image_of_an_index() {
    apart(|| {
        let world = World::start(Cluster::builder().arg("--anonymous-pull=*"), SERVER);
        let (cluster, docker, folder) = (&world.cluster, world.docker(), tempfile::tempdir().unwrap());
        // What runs nowhere: an image of another platform, which docker takes for its own.
        let registry = cluster.api_addr().to_string();
        log_in(&docker, &registry, &cluster.token());
        let other = format!("{registry}/default/native:other");
        import(&docker, folder.path(), ("other", b"\x7fELF of another kind"), &other);
        pushed(&docker, &other);
        let others = OTHERS.map(|platform| entry(cluster, "other", platform));
        let own = entry(cluster, "1", ("linux", own_architecture()));
        push_index(cluster, "many", &[others[0].clone(), own.clone(), others[1].clone()]);
        world.apply("many", &NATIVE.replace("native:1", "native:many"));
        assert_eq!(cluster.eventually_answers("/", 200).text(), "hi\n");

        // Nothing for this machine: the replica says so.
        push_index(cluster, "none", &others);
        world.apply("none", &NATIVE.replace("native:1", "native:none").replace("{path: /}", "{path: /none}"));
        let said = world.eventually_said(&["describe", "service", "none"], "PullFailed");
        let expected =
            format!("it is an index for linux/s390x, windows/amd64, and not for linux/{}", own_architecture());
        assert!(said.contains(&expected), "{said}");

        // A cluster that copies it has all of it, byte for byte, and runs it when the other is gone.
        let copying = World::new();
        let image = format!("{registry}/default/native:many");
        copying.apply("copied", &NATIVE.replace("native:1", &image));
        assert_eq!(copying.cluster.eventually_answers("/", 200).text(), "hi\n");
        let service: Value = copying.cluster.skiff(&["get", "service", "copied", "-o", "json"]).ok().json();
        let pinned = service["spec"]["image"].as_str().unwrap().rsplit_once('@').unwrap().1.to_owned();
        let host = registry.replace(':', "_");
        for digest in [pinned.as_str(), own["digest"].as_str().unwrap(), others[0]["digest"].as_str().unwrap()] {
            let path = format!("/v2/default/mirror/{host}/default/native/manifests/{digest}");
            let accept = format!("{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_MANIFEST}");
            let answer = copying.cluster.api("GET", &path).header("accept", &accept).send().unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
    });
}
