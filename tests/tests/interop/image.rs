//! Images as tools write them, made by hand and pushed with plain requests.

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use skiff_tests::{Cluster, Request, guest};

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

pub(super) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub(super) fn hello() -> Vec<u8> {
    std::fs::read(guest("hello")).unwrap()
}

/// A type, and bytes.
pub(super) type Blob<'a> = (&'a str, &'a [u8]);

/// Pushes a blob at once, and returns its descriptor.
pub(super) fn push_blob(cluster: &Cluster, repository: &str, (media_type, bytes): Blob<'_>) -> Value {
    let digest = digest(bytes);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    let answer =
        cluster.api("POST", &path).header("content-type", "application/octet-stream").body(bytes).send().unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

pub(super) fn push_manifest(
    cluster: &Cluster,
    repository: &str,
    tag: &str,
    media_type: &str,
    manifest: &Value,
) -> Value {
    let bytes = serde_json::to_vec(manifest).unwrap();
    let request: Request = cluster.api("PUT", &format!("/v2/{repository}/manifests/{tag}"));
    let answer = request.header("content-type", media_type).body(bytes.clone()).send().unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    json!({"mediaType": media_type, "digest": digest(&bytes), "size": bytes.len()})
}

/// Pushes an image, and returns its descriptor.
pub(super) fn push_image(
    cluster: &Cluster,
    (repository, tag): (&str, &str),
    media_type: &str,
    config: Blob<'_>,
    layers: &[(Blob<'_>, Value)],
) -> Value {
    let layers: Vec<Value> = layers
        .iter()
        .map(|(blob, annotations)| {
            let mut descriptor = push_blob(cluster, repository, *blob);
            if !annotations.is_null() {
                descriptor["annotations"] = annotations.clone();
            }
            descriptor
        })
        .collect();
    let config = push_blob(cluster, repository, config);
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    push_manifest(cluster, repository, tag, media_type, &manifest)
}

pub(super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
