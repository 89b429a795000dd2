//! Whatever a tool pushed, its component comes out: each case is an image as that tool writes it.

use std::io::Write;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use skiff_api::Digest;
use skiff_disk::Disk;
use skiff_registry::client::{Error, PulledComponent};
use skiff_registry::hash::sha256;
use skiff_registry::manifest::media;
use skiff_registry::{Client, ClientOptions};

use crate::support::Server;

const CORE: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (call $exit (i32.const 0))))"#;

const BYTES_MAX: u64 = 4 << 20;

fn component() -> Vec<u8> {
    wat::parse_str(r#"(component (import "a:b/c@1.0.0" (instance)) (@custom "name" "x"))"#).unwrap()
}

/// A blob with its type and title, to be pushed.
type Part<'a> = (&'a str, &'a [u8], Option<&'a str>);

struct Bench {
    server: Server,
}

impl Bench {
    async fn start() -> Self {
        Self { server: Server::start().await }
    }

    async fn descriptor(&self, (media_type, bytes, title): Part<'_>) -> Value {
        let digest = self.server.blob("shop/cart", bytes).await;
        let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        if let Some(title) = title {
            descriptor["annotations"] = json!({"org.opencontainers.image.title": title});
        }
        descriptor
    }

    async fn put(&self, media_type: &str, manifest: &Value) -> Digest {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let path = format!("/v2/shop/cart/manifests/{}", sha256(&bytes));
        let answer = self.server.call(Method::PUT, &path, &[("content-type", media_type)], &bytes).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        sha256(&bytes)
    }

    async fn image(&self, media_type: &str, config: Part<'_>, layers: &[Part<'_>]) -> Digest {
        let mut descriptors = Vec::new();
        for layer in layers {
            descriptors.push(self.descriptor(*layer).await);
        }
        let config = self.descriptor(config).await;
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": descriptors});
        self.put(media_type, &manifest).await
    }

    async fn index(&self, media_type: &str, entries: &[(&Digest, &str, &str)]) -> Digest {
        let entry = |(digest, os, architecture): &(&Digest, &str, &str)| {
            let platform = json!({"os": os, "architecture": architecture});
            json!({"mediaType": media::OCI_MANIFEST, "digest": digest, "size": 1, "platform": platform})
        };
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
        self.put(media_type, &index).await
    }

    async fn pull(&self, image: &Digest) -> Result<(PulledComponent, Vec<u8>), Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("component.wasm");
        let client = Client::new(ClientOptions::new(&self.server.endpoint)).unwrap();
        let pulled = client.pull_component("shop/cart", image, (&Disk::real(), &path), BYTES_MAX, |_, _| {}).await;
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), usize::from(pulled.is_ok()), "{left:?}");
        let pulled = pulled?;
        let bytes = std::fs::read(path).unwrap();
        assert_eq!((&pulled.digest, pulled.bytes), (&sha256(&bytes), bytes.len() as u64));
        Ok((pulled, bytes))
    }

    async fn fails(&self, image: &Digest) -> String {
        self.pull(image).await.unwrap_err().to_string()
    }
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// An image's config as docker writes it.
fn config(os: &str, architecture: &str, entrypoint: &[&str]) -> Vec<u8> {
    json!({"architecture": architecture, "os": os, "config": {"Entrypoint": entrypoint}, "rootfs": {"type": "layers"}})
        .to_string()
        .into_bytes()
}

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const EMPTY: Part<'static> = ("application/vnd.oci.empty.v1+json", b"{}", None);

#[tokio::test]
async fn raw_layers_of_every_tool_are_kept_byte_for_byte() {
    let bench = Bench::start().await;
    let wasm = component();
    let config = |kind: &'static str, content: &'static [u8]| -> Part<'static> { (kind, content, None) };
    let spin = config("application/vnd.fermyon.spin.application.v1+config", br#"{"components":[]}"#);
    let asset: Part<'_> = ("application/vnd.wasm.content.layer.v1+data", b"<html>", Some("index.html"));
    let cases: [(&str, Part<'_>, Vec<Part<'_>>); 8] = [
        ("wkg", config(media::WASM_CONFIG, b"{}"), vec![(media::WASM_LAYER, &wasm, None)]),
        ("spin", spin, vec![asset, ("application/vnd.wasm.content.layer.v1+wasm", &wasm, None)]),
        (
            "wasm-to-oci",
            config("application/vnd.wasm.config.v1+json", b"{}"),
            vec![("application/vnd.wasm.content.layer.v1+wasm", &wasm, Some("cart.wasm"))],
        ),
        (
            "runwasi",
            config(OCI_CONFIG, br#"{"architecture":"wasm","os":"wasip2","config":{}}"#),
            vec![("application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", &wasm, None)],
        ),
        (
            "wasmcloud",
            config("application/vnd.wasmcloud.actor.archive.config", b""),
            vec![("application/vnd.module.wasm.content.layer.v1+wasm", &wasm, Some("cart_s.wasm"))],
        ),
        ("oras push cart.wasm", EMPTY, vec![("application/vnd.oci.image.layer.v1.tar", &wasm, Some("cart.wasm"))]),
        (
            "oras push README.md cart.wasm",
            config("application/vnd.unknown.config.v1+json", b"{}"),
            vec![
                ("application/vnd.oci.image.layer.v1.tar", b"# Cart", Some("README.md")),
                ("application/vnd.oci.image.layer.v1.tar", &wasm, Some("cart.wasm")),
            ],
        ),
        ("of no type", EMPTY, vec![("application/octet-stream", &wasm, None)]),
    ];
    for (tool, config, layers) in cases {
        let image = bench.image(media::OCI_MANIFEST, config, &layers).await;
        let (pulled, bytes) = bench.pull(&image).await.unwrap();
        assert_eq!(bytes, wasm, "{tool}");
        assert!(!pulled.form.adapted && pulled.form.path.is_none(), "{tool}");
    }
}

#[tokio::test]
async fn file_systems_of_docker_and_podman_are_unpacked() {
    let bench = Bench::start().await;
    let wasm = component();
    let files = tar(&[("etc/os-release", b"x"), ("app/cart.wasm", &wasm)]);
    let above = gzip(&tar(&[("app/readme", b"x")]));
    let (by_gzip, by_zstd) = (gzip(&files), zstd(&files));
    let docker = config("wasi", "wasm", &["/app/cart.wasm"]);
    let buildah = config("linux", "amd64", &["/app/cart.wasm"]);
    let docker_config = "application/vnd.docker.container.image.v1+json";
    let docker_layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let oci_layer = "application/vnd.oci.image.layer.v1.tar";
    let cases: [(&str, Part<'_>, Vec<Part<'_>>); 4] = [
        (
            media::DOCKER_MANIFEST,
            (docker_config, &docker, None),
            vec![(docker_layer, &by_gzip, None), (docker_layer, &above, None)],
        ),
        (media::OCI_MANIFEST, (OCI_CONFIG, &docker, None), vec![(oci_layer, &files, None)]),
        (
            media::OCI_MANIFEST,
            (OCI_CONFIG, &buildah, None),
            vec![("application/vnd.oci.image.layer.v1.tar+zstd", &by_zstd, None)],
        ),
        // A folder pushed by oras.
        (media::OCI_MANIFEST, EMPTY, vec![("application/x-folder", &by_gzip, Some("app"))]),
    ];
    for (media_type, config, layers) in cases {
        let image = bench.image(media_type, config, &layers).await;
        let (pulled, bytes) = bench.pull(&image).await.unwrap();
        assert_eq!(bytes, wasm);
        assert_eq!(pulled.form.path.as_deref(), Some("app/cart.wasm"));
    }
}

#[tokio::test]
async fn core_modules_are_adapted() {
    let bench = Bench::start().await;
    let core = wat::parse_str(CORE).unwrap();
    let command = config("wasi", "wasm", &["cart.wasm"]);
    let images = [
        bench.image(media::OCI_MANIFEST, EMPTY, &[(media::WASM_LAYERS[1], &core, None)]).await,
        bench
            .image(
                media::DOCKER_MANIFEST,
                ("application/vnd.docker.container.image.v1+json", &command, None),
                &[("application/vnd.docker.image.rootfs.diff.tar.gzip", &gzip(&tar(&[("cart.wasm", &core)])), None)],
            )
            .await,
    ];
    let expected = skiff_registry::Artifact::from_wasm("a.wasm", core).unwrap();
    for image in images {
        let (pulled, bytes) = bench.pull(&image).await.unwrap();
        assert!(pulled.form.adapted);
        assert_eq!(&bytes, expected.component(), "as a push would have done it");
    }
    let strange = wat::parse_str(r#"(module (import "env" "now" (func)) (func (export "_start")))"#).unwrap();
    let image = bench.image(media::OCI_MANIFEST, EMPTY, &[(media::WASM_LAYER, &strange, None)]).await;
    let text = bench.fails(&image).await;
    assert!(text.starts_with(&format!("shop/cart@{image} is a core module that imports env.now")), "{text}");
}

#[tokio::test]
async fn an_index_leads_to_the_component() {
    let bench = Bench::start().await;
    let wasm = component();
    let component = bench.image(media::OCI_MANIFEST, EMPTY, &[(media::WASM_LAYER, &wasm, None)]).await;
    let native = config("linux", "amd64", &["/bin/cart"]);
    let native = bench
        .image(
            media::OCI_MANIFEST,
            (OCI_CONFIG, &native, None),
            &[("application/vnd.oci.image.layer.v1.tar", b"x", None)],
        )
        .await;
    for media_type in [media::OCI_INDEX, media::DOCKER_LIST] {
        let index = bench.index(media_type, &[(&native, "linux", "amd64"), (&component, "wasi", "wasm")]).await;
        assert_eq!(bench.pull(&index).await.unwrap().1, wasm);
        let nested = bench.index(media_type, &[(&index, "wasi", "wasm")]).await;
        assert_eq!(bench.pull(&nested).await.unwrap().1, wasm);
        let foreign = bench.index(media_type, &[(&native, "linux", "amd64"), (&native, "linux", "arm64")]).await;
        assert!(bench.fails(&foreign).await.contains("it is an index for linux/amd64, linux/arm64 (hint: "));
    }
    let text = bench.fails(&native).await;
    assert!(text.contains("it is a container image for linux/amd64, which runs /bin/cart (hint: "), "{text}");
    let mut deep = component;
    for _ in 0..6 {
        deep = bench.index(media::OCI_INDEX, &[(&deep, "wasi", "wasm")]).await;
    }
    assert!(bench.fails(&deep).await.contains("more than 3 indexes"));
}

#[tokio::test]
async fn bombs_are_refused_and_leave_nothing() {
    let bench = Bench::start().await;
    let zeros = vec![0; 20 << 20];
    let mut large = b"\0asm\x0d\0\x01\0".to_vec();
    large.resize(5 << 20, 0);
    let entry = config("wasi", "wasm", &["cart.wasm"]);
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let beside = tar(&[("zeros", &zeros), ("cart.wasm", &component())]);
    let inside = tar(&[("cart.wasm", &large)]);
    for layer in [gzip(&beside), zstd(&beside), gzip(&inside), zstd(&inside), gzip(&large)] {
        let image = bench.image(media::OCI_MANIFEST, (OCI_CONFIG, &entry, None), &[(kind, &layer, None)]).await;
        let text = bench.fails(&image).await;
        assert!(text.contains("more than is allowed") || text.contains("more than the 4194304 bytes"), "{text}");
    }
    let vast = json!({"schemaVersion": 2, "layers": [{"mediaType": kind, "digest": bench.server.blob("shop/cart", b"x").await, "size": BYTES_MAX + 1}]});
    let image = bench.put(media::OCI_MANIFEST, &vast).await;
    assert!(bench.fails(&image).await.starts_with("a layer of shop/cart@"));
}
