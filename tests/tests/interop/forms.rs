//! An image in each form that a tool writes is applied, pulled by the node, and answers through the gateway.
//!
//! The bytes are those that each tool documents or was seen to write; [`super::tools`] has images by the tools themselves.

use serde_json::{Value, json};
use skiff_tests::Cluster;

use super::image::*;

fn title(name: &str) -> Value {
    json!({"org.opencontainers.image.title": name})
}

/// Each image, by the name of the service that will run it.
fn push_all(cluster: &Cluster) -> Vec<&'static str> {
    let wasm = hello();
    let files = tar(&[("etc/motd", b"x"), ("app/hello.wasm", &wasm)]);
    let empty: Blob<'_> = ("application/vnd.oci.empty.v1+json", b"{}");
    let wasi =
        json!({"architecture": "wasm", "os": "wasip1", "config": {"Entrypoint": ["/app/hello.wasm"]}}).to_string();
    let linux = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/app/hello.wasm"]}}).to_string();
    let spin: Blob<'_> =
        ("application/vnd.fermyon.spin.application.v1+config", br#"{"spinVersion":"1","components":[]}"#);
    let page: Blob<'_> = ("application/vnd.wasm.content.layer.v1+data", b"<html>");
    let none = Value::Null;
    let push = |name: &str, media_type, config, layers: &[(Blob<'_>, Value)]| {
        push_image(cluster, (&format!("default/{name}"), "1"), media_type, config, layers)
    };
    push(
        "wkg",
        OCI_MANIFEST,
        ("application/vnd.wasm.config.v0+json", b"{}"),
        &[(("application/wasm", &wasm), none.clone())],
    );
    push(
        "spin",
        OCI_MANIFEST,
        spin,
        &[(("application/vnd.wasm.content.layer.v1+wasm", &wasm), none.clone()), (page, title("index.html"))],
    );
    push(
        "runwasi",
        OCI_MANIFEST,
        (OCI_CONFIG, wasi.as_bytes()),
        &[(("application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", &wasm), none.clone())],
    );
    push(
        "wasmcloud",
        OCI_MANIFEST,
        ("application/vnd.wasmcloud.actor.archive.config", b"{}"),
        &[(("application/vnd.module.wasm.content.layer.v1+wasm", &wasm), none.clone())],
    );
    push(
        "oras",
        OCI_MANIFEST,
        empty,
        &[((OCI_TAR, &wasm), title("hello.wasm")), ((OCI_TAR, b"# Hello"), title("README.md"))],
    );
    let docker = "application/vnd.docker.container.image.v1+json";
    let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    push(
        "docker",
        DOCKER_MANIFEST,
        (docker, wasi.as_bytes()),
        &[((layer, &gzip(&files)), none.clone()), ((layer, &gzip(&tar(&[("x", b"y")]))), none.clone())],
    );
    let zstd = zstd::encode_all(files.as_slice(), 3).unwrap();
    push(
        "podman",
        OCI_MANIFEST,
        (OCI_CONFIG, linux.as_bytes()),
        &[((&format!("{OCI_TAR}+zstd"), &zstd), none.clone())],
    );
    let plain = push("plain", OCI_MANIFEST, (OCI_CONFIG, wasi.as_bytes()), &[((OCI_TAR, &files), none.clone())]);

    // An index, which a builder makes for several platforms.
    let mut native = push_image(
        cluster,
        ("default/plain", "native"),
        OCI_MANIFEST,
        (OCI_CONFIG, br#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/bin/sh"]}}"#),
        &[((OCI_TAR, &tar(&[("bin/sh", b"\x7fELF")])), none)],
    );
    native["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut wasm = plain;
    wasm["platform"] = json!({"os": "wasi", "architecture": "wasm"});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [native, wasm]});
    push_manifest(cluster, "default/plain", "index", OCI_INDEX, &index);
    vec!["wkg", "spin", "runwasi", "wasmcloud", "oras", "docker", "podman", "plain", "plain:index"]
}

#[test]
fn what_any_tool_pushed_answers() {
    let cluster = Cluster::start();
    for image in push_all(&cluster) {
        let image = if image.contains(':') { image.to_owned() } else { format!("{image}:1") };
        let (name, host) = (image.replace(':', "-"), format!("{}.test", image.replace(':', "-")));
        cluster.skiff(&["run", &image, "--name", &name, "--host", &host]).ok();
        let answer = cluster.get_host(&host, "/");
        assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from Skiff!\n"), "{image}");
    }
    let inspected = cluster.skiff(&["inspect", "docker:1"]).ok().stdout;
    assert!(inspected.contains("app/hello.wasm in application/vnd.docker.image.rootfs.diff.tar.gzip"), "{inspected}");
    assert!(inspected.contains("runs as a service"), "{inspected}");
}

#[test]
fn what_is_no_component_is_refused_when_it_is_applied() {
    let cluster = Cluster::builder().arg("--docker=none").start();
    let none = Value::Null;
    let empty: Blob<'_> = ("application/vnd.oci.empty.v1+json", b"{}");
    let native = br#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/docker-entrypoint.sh"]}}"#;
    let wasm = hello();
    let other = [&wasm[..], b"\0\x05\x01x..."].concat();
    let push = |name: &str, config: Blob<'_>, layers: &[(Blob<'_>, Value)]| {
        push_image(&cluster, (&format!("default/{name}"), "1"), OCI_MANIFEST, config, layers);
    };
    push("native", (OCI_CONFIG, native), &[((OCI_TAR, &tar(&[("a", b"b")])), none.clone())]);
    push(
        "two",
        empty,
        &[(("application/wasm", &wasm), title("a.wasm")), (("application/wasm", &other), title("b.wasm"))],
    );
    push("broken", empty, &[(("application/wasm", &wasm[..wasm.len() - 7]), none.clone())]);
    push("page", empty, &[(("text/html", b"<html>"), none.clone())]);
    let bomb = gzip(&tar(&[("zeros", &vec![0; 40 << 20]), ("a.wasm", &[&wasm[..4], &vec![0; 300 << 20]].concat())]));
    push("bomb", (OCI_CONFIG, br#"{"os":"wasi","architecture":"wasm"}"#), &[((OCI_TAR, &bomb), none)]);
    for (image, expected) in [
        ("two", "it has 2 components, not one: a.wasm, b.wasm"),
        ("broken", "is cut off"),
        ("page", "its layer is neither WebAssembly nor a tar: it starts with \"<htm\""),
        ("bomb", "a.wasm in it has more than the 268435456 bytes that are allowed"),
    ] {
        let run = cluster.skiff(&["run", &format!("{image}:1")]).fails_with(4);
        assert!(run.stderr.contains(expected) && run.stderr.contains("(hint: "), "{image}: {run}");
        assert!(!run.stderr.contains("skiff push NAME"), "{run}");
    }
    // A container is one for a node with an engine.
    let waits = cluster.skiff(&["run", "native:1", "--timeout", "2s"]).fails_with(8);
    assert!(waits.stderr.contains("Docker"), "{waits}");
}
