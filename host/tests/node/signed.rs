//! Images that somebody must have signed: looked at before each start, with nobody to ask.

use std::path::PathBuf;
use std::sync::Arc;

use skiff_api::resource::{EventType, Phase, Template};
use skiff_api::wire::Assignment;
use skiff_api::{Digest, PublicKey, Trust};
use skiff_host::{Node, NodeHandle};
use skiff_registry::sign::{GeneratedKey, SigningKey, bundle, simple};
use skiff_registry::{Client, ClientOptions};

use crate::support::*;

struct Signer {
    key: SigningKey,
    public: PublicKey,
}

fn signer() -> Signer {
    let pair = GeneratedKey::new(None).unwrap();
    Signer { key: SigningKey::read(&pair.private, None).unwrap(), public: pair.public }
}

impl Signer {
    async fn sign_simple(&self, world: &World, image: &Digest) {
        let signature = simple::sign(&self.key, "anywhere/else", image).unwrap();
        client(world).attach("default/hello", image, &signature).await.unwrap();
    }

    async fn sign_bundle(&self, world: &World, image: &Digest) {
        let signature = bundle::sign(&self.key, image).unwrap();
        client(world).attach("default/hello", image, &signature).await.unwrap();
    }
}

fn client(world: &World) -> Client {
    Client::new(ClientOptions::new(&world.endpoint)).unwrap()
}

fn trusting(template: Template, signers: &[&Signer]) -> Assignment {
    let keys = signers.iter().map(|signer| signer.public.clone()).collect();
    let trust = Trust { policies: [("signed".to_owned(), keys)].into() };
    Assignment { trust: Some(Arc::new(trust)), ..assignment("app", "app-1-a", template) }
}

async fn started(world: &World, assignment: Assignment) -> (NodeHandle, Control) {
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.route([routes("app", &[(None, "/")])]).await;
    control.desire([assignment]).await;
    (node, control)
}

async fn until_failed(control: &mut Control) -> (String, String) {
    control.until(|control| control.phase("app-1-a") == Some(Phase::Failed)).await;
    let status = &control.statuses[&replica("app-1-a")];
    (status.reason.clone(), status.message.clone())
}

async fn status(node: &NodeHandle) -> u16 {
    Web::h1(node.gateway_addr()).get("/").await.status.as_u16()
}

fn file(world: &World, image: &Digest, end: &str) -> PathBuf {
    world.data().join("artifacts/sha256").join(format!("{}.{end}", image.hex()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_starts_and_starts_again_with_nobody_to_ask() {
    let world = World::new().await;
    let (image, signer) = (world.images["hello"].clone(), signer());
    signer.sign_simple(&world, &image).await;
    let (node, mut control) = started(&world, trusting(world.template("hello"), &[&signer])).await;
    control.until_ready("app-1-a").await;
    assert_eq!(status(&node).await, 200);
    drop((node, control));
    world.stop_registry();
    let node = world.node().await;
    let control = Control::of(&node).await;
    assert_eq!(control.phase("app-1-a"), Some(Phase::Ready));
    assert_eq!(status(&node).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_does_not_start_and_does_once_somebody_has() {
    let world = World::new().await;
    let (image, signer) = (world.images["hello"].clone(), signer());
    // A signature of another image.
    signer.sign_bundle(&world, &image).await;
    let other = skiff_registry::hash::sha256(b"other");
    let moved = simple::sign(&signer.key, "x", &other).unwrap();
    let stranger = self::signer();
    stranger.sign_simple(&world, &image).await;
    client(&world).attach("default/hello", &image, &moved).await.unwrap();
    let wanted = self::signer();
    let (node, mut control) = started(&world, trusting(world.template("hello"), &[&wanted])).await;
    let (reason, message) = until_failed(&mut control).await;
    assert_eq!(reason, "NotSigned", "{message}");
    assert!(message.contains("image policy signed wants") && message.contains("by another key"), "{message}");
    assert!(message.contains("of another image"), "{message}");
    assert_ne!(status(&node).await, 200);
    wanted.sign_bundle(&world, &image).await;
    control.until_ready("app-1-a").await;
    assert_eq!(status(&node).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_that_covers_it_an_image_does_not_start() {
    let world = World::new().await;
    let (image, signer) = (world.images["hello"].clone(), signer());
    signer.sign_simple(&world, &image).await;
    let mut assignment = trusting(world.template("hello"), &[&signer]);
    assignment.trust = Some(Arc::new(Trust { policies: Default::default() }));
    let (_node, mut control) = started(&world, assignment).await;
    let (reason, message) = until_failed(&mut control).await;
    assert_eq!(reason, "NotSigned");
    assert!(message.contains("no image policy of the namespace covers it"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_taken_back_counts_at_the_next_start() {
    let world = World::new().await;
    let (image, old, new) = (world.images["hello"].clone(), signer(), signer());
    old.sign_simple(&world, &image).await;
    let (node, mut control) = started(&world, trusting(world.template("hello"), &[&old])).await;
    control.until_ready("app-1-a").await;
    // Both live, then only the new one, which has signed nothing.
    control.change(vec![trusting(world.template("hello"), &[&old, &new])], Vec::new()).await;
    control.change(vec![trusting(world.template("hello"), &[&new])], Vec::new()).await;
    let told = |control: &Control| {
        let mut events = control.events.iter().filter(|event| event.reason == "NotSigned");
        events.any(|event| event.event_type == EventType::Warning && event.message.contains("runs on"))
    };
    control.until(told).await;
    assert_eq!(status(&node).await, 200, "what runs goes on");
    control.until(|control| control.seen == control.desired).await;
    drop((node, control));
    // With the registry, but without a signature that counts.
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    let (reason, _) = until_failed(&mut control).await;
    assert_eq!(reason, "NotSigned");
    assert_ne!(status(&node).await, 200);
    new.sign_simple(&world, &image).await;
    control.until_ready("app-1-a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_known_on_a_node_before_its_uplink_goes() {
    let world = World::new().await;
    let (image, old, new) = (world.images["hello"].clone(), signer(), signer());
    old.sign_simple(&world, &image).await;
    let (node, mut control) = started(&world, trusting(world.template("hello"), &[&old])).await;
    control.until_ready("app-1-a").await;
    new.sign_bundle(&world, &image).await;
    control.change(vec![trusting(world.template("hello"), &[&new])], Vec::new()).await;
    control.until(|control| control.seen == control.desired).await;
    let signed = file(&world, &image, "signed");
    let kept = async {
        while !std::fs::read_to_string(&signed).is_ok_and(|text| text.contains("sigstore.bundle")) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.unwrap();
    drop((node, control));
    world.stop_registry();
    let node = world.node().await;
    let control = Control::of(&node).await;
    assert_eq!(control.phase("app-1-a"), Some(Phase::Ready));
}

/// A replica that ran, whose node has no registry any more and finds something changed on its disk.
async fn tampered(change: impl FnOnce(&World, &Digest)) -> (String, String) {
    let world = World::new().await;
    let (image, signer) = (world.images["hello"].clone(), signer());
    signer.sign_simple(&world, &image).await;
    let (node, mut control) = started(&world, trusting(world.template("hello"), &[&signer])).await;
    control.until_ready("app-1-a").await;
    drop((node, control));
    world.stop_registry();
    change(&world, &image);
    let node = Node::start(world.options()).await.unwrap();
    let mut control = Control::of(&node).await;
    let told = |control: &Control| {
        control.events.iter().any(|event| ["ArtifactTampered", "NotSigned"].contains(&event.reason.as_str()))
    };
    control.until(told).await;
    control.until(|control| control.phase("app-1-a") == Some(Phase::Failed)).await;
    assert_ne!(status(&node).await, 200, "it must not answer");
    let event = control.events.iter().find(|event| ["ArtifactTampered", "NotSigned"].contains(&event.reason.as_str()));
    let event = event.unwrap();
    (event.reason.clone(), event.message.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_was_changed_on_disk_does_not_start_offline() {
    // With its sum, which shows damage but no intent.
    let (reason, message) = tampered(|world, image| {
        let other = std::fs::read(file(world, &world.images["probe"], "wasm"));
        let other = other.unwrap_or_else(|_| wat::parse_str("(component)").unwrap());
        std::fs::write(file(world, image, "sum"), skiff_registry::hash::sha256(&other).to_string()).unwrap();
        std::fs::write(file(world, image, "wasm"), other).unwrap();
    })
    .await;
    assert_eq!(reason, "ArtifactTampered", "{message}");
    assert!(message.contains("its component on disk is not what was signed"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_was_changed_on_disk_does_not_count_offline() {
    let (reason, message) = tampered(|world, image| {
        let path = file(world, image, "signed");
        let text = std::fs::read_to_string(&path).unwrap();
        // Another layer than the signed manifest has.
        let changed = text.replacen("application/wasm", "application/wasn", 1);
        assert_ne!(changed, text);
        std::fs::write(path, changed).unwrap();
    })
    .await;
    assert_eq!(reason, "ArtifactTampered", "{message}");
    let (reason, message) = tampered(|world, image| std::fs::remove_file(file(world, image, "signed")).unwrap()).await;
    assert_eq!(reason, "NotSigned", "{message}");
    assert!(message.contains("its signatures are not on this node"), "{message}");
}

/// A core module that another tool pushed: the node made the component itself, and makes it again to compare.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_from_a_layer_is_made_again_to_compare() {
    use skiff_registry::manifest::{Descriptor, Manifest, media};
    let world = World::new().await;
    let client = client(&world);
    let folder = tarred(&std::fs::read(guest("hello")).unwrap());
    let config = bytes::Bytes::from_static(b"{\"os\":\"wasi\",\"architecture\":\"wasm\",\"config\":{}}");
    let layer = bytes::Bytes::from(folder);
    let blob = |kind: &str, bytes: &bytes::Bytes| {
        Descriptor::new(kind, skiff_registry::hash::sha256(bytes), bytes.len() as u64)
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        config: Some(blob("application/vnd.oci.image.config.v1+json", &config)),
        layers: Some(vec![blob("application/vnd.oci.image.layer.v1.tar", &layer)]),
        ..Manifest::default()
    };
    for bytes in [&config, &layer] {
        client.put_blob("default/hello", &skiff_registry::hash::sha256(bytes), bytes).await.unwrap();
    }
    let bytes = bytes::Bytes::from(serde_json::to_vec(&manifest).unwrap());
    let image = client.put_manifest("default/hello", "tar", media::OCI_MANIFEST, &bytes).await.unwrap();
    let signer = signer();
    signer.sign_bundle(&world, &image).await;
    let mut template = world.template("hello");
    template.image = format!("default/hello@{image}").parse().unwrap();
    let (node, mut control) = started(&world, trusting(template, &[&signer])).await;
    control.until_ready("app-1-a").await;
    drop((node, control));
    world.stop_registry();
    let node = world.node().await;
    let control = Control::of(&node).await;
    assert_eq!(control.phase("app-1-a"), Some(Phase::Ready));
    drop((node, control));
    let path = file(&world, &image, "layer0");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    let told = |control: &Control| control.events.iter().any(|event| event.reason == "ArtifactTampered");
    control.until(told).await;
}

/// A tar file with one member.
fn tarred(content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..8].copy_from_slice(b"app.wasm");
    let mut field = |at: usize, text: String| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(100, "0000644\0".to_owned());
    field(108, "0000000\0".to_owned());
    field(116, "0000000\0".to_owned());
    field(124, format!("{:011o}\0", content.len()));
    field(136, "00000000000\0".to_owned());
    field(148, " ".repeat(8));
    field(156, "0".to_owned());
    field(257, "ustar\u{0}00".to_owned());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}
