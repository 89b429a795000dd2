//! Signed images: policies hold on the real binary, also for images of another registry and after a restart; what is signed
//! here openssl and Sigstore's library accept, and what openssl signs is accepted.

use std::process::Command;

use serde_json::Value;
use skiff_tests::{Cluster, Run, eventually, guest};

use super::foreign::DockerRegistry;
use skiff_tests::programs::{done, program};

fn push(cluster: &Cluster, image: &str) -> String {
    let run = cluster.skiff(&["push", image, guest("hello").to_str().unwrap()]).ok();
    run.stdout.split_whitespace().nth(1).unwrap().to_owned()
}

/// Makes a key, and answers the file of its private half.
fn key(cluster: &Cluster, name: &str) -> String {
    let path = cluster.path(name).to_str().unwrap().to_owned();
    let made = cluster.skiff(&["sign", "--generate-key", &path]).ok();
    assert!(made.stdout.contains(".pub sha256:"), "{made}");
    path
}

fn policy(cluster: &Cluster, name: &str, repositories: &str, keys: &[&str]) -> Run {
    let mut text = format!("kind: ImagePolicy\nname: {name}\nrepositories: [{repositories:?}]\nkeys:\n");
    for key in keys {
        let pem = std::fs::read_to_string(format!("{key}.pub")).unwrap();
        text += "- |\n";
        pem.lines().for_each(|line| text += &format!("  {line}\n"));
    }
    let file = cluster.write(&format!("{name}.yaml"), text);
    cluster.skiff(&["apply", "-f", &file]).ok()
}

fn service(cluster: &Cluster, image: &str) -> String {
    let text = format!("kind: Service\nname: hello\nimage: {image}\nhttp: {{routes: [{{path: /}}]}}\n");
    cluster.write("service.yaml", text)
}

#[test]
fn a_policy_holds_from_apply_to_a_restart_with_a_changed_disk() {
    let mut cluster = Cluster::builder().keep_ports().start();
    let pushed = push(&cluster, "hello:1");
    let (mine, other) = (key(&cluster, "mine.key"), key(&cluster, "other.key"));
    policy(&cluster, "signed", "default/*", &[&mine]);
    let table = cluster.skiff(&["get", "imagepolicies"]).ok().stdout;
    assert!(table.contains("REPOSITORIES") && table.contains("default/*"), "{table}");
    let described = cluster.skiff(&["describe", "imagepolicy", "signed"]).ok().stdout;
    assert!(described.contains("p256") && described.contains("sha256:"), "{described}");
    let yaml = cluster.skiff(&["get", "imagepolicy", "signed", "-o", "yaml"]).ok().stdout;
    let again = cluster.write("again.yaml", yaml);
    assert!(cluster.skiff(&["apply", "-f", &again]).ok().stdout.contains("unchanged"));

    let file = service(&cluster, "hello:1");
    let refused = cluster.skiff(&["apply", "-f", &file]).fails_with(6);
    assert!(
        refused.stderr.contains("image policy signed wants") && refused.stderr.contains("no signature"),
        "{refused}"
    );
    assert!(refused.stderr.contains("skiff sign IMAGE --key FILE"), "{refused}");
    cluster.skiff(&["sign", "hello:1", "--key", &other]).ok();
    let refused = cluster.skiff(&["apply", "-f", &file]).fails_with(6);
    assert!(refused.stderr.contains("by another key"), "{refused}");
    let inspected = cluster.skiff(&["inspect", "hello:1"]).ok().stdout;
    assert!(inspected.contains("refused: image policy signed wants"), "{inspected}");

    let signed = cluster.skiff(&["sign", "hello:1", "--key", &mine]).ok().stdout;
    assert!(signed.contains(&format!("default/hello@{pushed} signed p256 sha256:")), "{signed}");
    let signed = cluster.skiff(&["sign", "hello:1", "--key", &mine]).ok().stdout;
    assert!(signed.contains("is signed by"), "{signed}");
    let inspected = cluster.skiff(&["inspect", "hello:1"]).ok().stdout;
    assert!(inspected.contains("4 signatures; accepted by image policy signed"), "{inspected}");
    let json: Value = cluster.skiff(&["inspect", "hello:1", "-o", "json"]).ok().json();
    let statuses: Vec<&str> =
        json["signed"]["signatures"].as_array().unwrap().iter().map(|it| it["status"].as_str().unwrap()).collect();
    assert_eq!(json["signed"]["verdict"], "accepted", "{json}");
    assert_eq!(statuses.iter().filter(|status| **status == "signed").count(), 2, "{json}");
    cluster.skiff(&["apply", "-f", &file, "--wait"]).ok();
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");

    // What runs goes on when its key is taken back, and says so; nothing new starts.
    policy(&cluster, "signed", "default/*", &[&other, &key(&cluster, "third.key")]);
    cluster.skiff(&["apply", "-f", &file]).ok();
    policy(&cluster, "signed", "default/*", &[cluster.path("third.key").to_str().unwrap()]);
    cluster.skiff(&["scale", "hello", "--replicas", "2"]).fails_with(6);
    assert_eq!(cluster.get("/").status, 200);
    eventually("the event of a replica that would not start again", || {
        let events = cluster.skiff(&["get", "events"]).ok().stdout;
        (events.contains("NotSigned") && events.contains("runs on")).then_some(())
    });
    cluster.kill9();
    cluster.restart();
    let phase = |reason: &str| {
        let replicas: Value = cluster.skiff(&["get", "replicas", "-o", "json"]).ok().json();
        (replicas["items"][0]["status"]["reason"] == reason).then_some(())
    };
    eventually("a replica that does not start", || phase("NotSigned"));
    assert_ne!(cluster.get("/").status, 200);

    // It starts once the key counts again; with its component changed it does not.
    policy(&cluster, "signed", "default/*", &[&mine]);
    cluster.eventually_answers("/", 200);
    cluster.terminate();
    let hex = &pushed["sha256:".len()..];
    let artifacts = cluster.data().join("node/artifacts/sha256");
    std::fs::write(artifacts.join(format!("{hex}.wasm")), b"\0asm\x0d\0\x01\0").unwrap();
    std::fs::remove_file(artifacts.join(format!("{hex}.sum"))).unwrap();
    cluster.restart();
    // The registry is there: what was changed is pulled anew, and people are told.
    cluster.eventually_answers("/", 200);
    let events = cluster.skiff(&["get", "events"]).ok().stdout;
    assert!(events.contains("ArtifactTampered"), "{events}");
    cluster.skiff(&["delete", "imagepolicy", "signed"]).ok();
    cluster.skiff(&["get", "imagepolicy", "signed"]).fails_with(3);
}

#[test]
fn an_image_of_another_registry_comes_with_its_signatures() {
    let mut other = DockerRegistry::open();
    let cluster = Cluster::start();
    let image = format!("{}/acme/hello:1", other.addr);
    push(&cluster, &image);
    let mine = key(&cluster, "mine.key");
    policy(&cluster, "signed", &format!("{}/acme/*", other.addr), &[&mine]);
    let file = service(&cluster, &image);
    cluster.skiff(&["apply", "-f", &file]).fails_with(6);
    // Signed there, after the copy was made.
    cluster.skiff(&["sign", &image, "--key", &mine]).ok();
    let inspected = cluster.skiff(&["inspect", &image]).ok().stdout;
    assert!(inspected.contains("2 signatures; accepted by image policy signed"), "{inspected}");
    cluster.skiff(&["apply", "-f", &file, "--wait"]).ok();
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");
    other.stop();
    // With its digest, nobody is asked.
    let service: Value = cluster.skiff(&["get", "service", "hello", "-o", "json"]).ok().json();
    let pinned = self::service(&cluster, service["spec"]["image"].as_str().unwrap());
    cluster.skiff(&["apply", "-f", &pinned]).ok();
    cluster.skiff(&["delete", "service", "hello"]).ok();
    // Its copy by the copy's own name is covered by no policy.
    let own = cluster.skiff(&["images", "-A", "-o", "name"]).ok().stdout;
    let copy = own.lines().find(|line| line.contains("mirror") && line.ends_with(":1")).unwrap().to_owned();
    let refused = cluster.skiff(&["run", &copy, "--name", "around"]).fails_with(6);
    assert!(refused.stderr.contains("no image policy of the namespace covers it"), "{refused}");
}

/// Debian's skopeo and podman are built without Sigstore, and cosign is no package: openssl is the other side. It makes the
/// keys, signs a text as the specification has it, and checks what is signed here.
#[test]
fn openssl_signs_what_is_accepted_and_accepts_what_is_signed_here() {
    let openssl = program("openssl", "openssl");
    let cluster = Cluster::start();
    let run = |args: &[&str]| done(Command::new(&openssl).args(args).current_dir(cluster.path(".")));
    let pushed = push(&cluster, "hello:1");
    run(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "p256.key"]);
    run(&["genpkey", "-algorithm", "ED25519", "-out", "ed25519.key"]);
    for name in ["p256", "ed25519"] {
        run(&["pkey", "-in", &format!("{name}.key"), "-pubout", "-out", &format!("{name}.key.pub")]);
    }
    let path = |name: &str| cluster.path(name).to_str().unwrap().to_owned();
    let (p256, ed25519) = (path("p256.key"), path("ed25519.key"));

    // Ours, checked by openssl.
    cluster.skiff(&["sign", "hello:1", "--key", &p256]).ok();
    let tag = format!("{}.sig", pushed.replace(':', "-"));
    let get = |what: &str| cluster.api("GET", &format!("/v2/default/hello/{what}")).send().unwrap().text();
    let manifest: Value = serde_json::from_str(&get(&format!("manifests/{tag}"))).unwrap();
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    let payload = get(&format!("blobs/{}", layer["digest"].as_str().unwrap()));
    let parsed: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(parsed["critical"]["image"]["docker-manifest-digest"], pushed);
    assert_eq!(parsed["critical"]["type"], "cosign container image signature");
    assert_eq!(parsed["critical"]["identity"]["docker-reference"], format!("{}/default/hello", cluster.api_addr()));
    cluster.write("payload", &payload);
    cluster.write("signature.b64", layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap());
    run(&["base64", "-d", "-A", "-in", "signature.b64", "-out", "signature"]);
    let verified = run(&["dgst", "-sha256", "-verify", "p256.key.pub", "-signature", "signature", "payload"]);
    assert_eq!(verified, "Verified OK\n");

    // openssl's, under the tag as cosign would push it.
    let pushed_theirs = push(&cluster, "theirs:1");
    assert_eq!(pushed_theirs, pushed);
    let text = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{pushed}"}},"type":"cosign container image signature"}},"optional":null}}"#
    );
    cluster.write("theirs", &text);
    run(&["pkeyutl", "-sign", "-rawin", "-inkey", "ed25519.key", "-in", "theirs", "-out", "theirs.sig"]);
    let signature = run(&["base64", "-A", "-in", "theirs.sig"]);
    let put_blob = |bytes: &str| {
        let digest = super::image::digest(bytes.as_bytes());
        let put = cluster.api("POST", &format!("/v2/default/theirs/blobs/uploads/?digest={digest}"));
        assert_eq!(put.body(bytes.as_bytes()).send().unwrap().status, 201);
        digest
    };
    let (payload, config) = (put_blob(&text), put_blob("{}"));
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": payload, "size": text.len(),
            "annotations": {"dev.cosignproject.cosign/signature": signature.trim()},
        }],
    });
    let put = cluster.api("PUT", &format!("/v2/default/theirs/manifests/{tag}"));
    let put = put.header("content-type", "application/vnd.oci.image.manifest.v1+json").body(manifest.to_string());
    assert_eq!(put.send().unwrap().status, 201);
    policy(&cluster, "signed", "default/*", &[&ed25519]);
    let inspected = cluster.skiff(&["inspect", "theirs:1"]).ok().stdout;
    assert!(inspected.contains("1 signature; accepted by image policy signed"), "{inspected}");
    cluster.skiff(&["run", "theirs:1", "--name", "theirs", "--path", "/"]).ok();
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");
    cluster.skiff(&["run", "hello:1", "--name", "mine"]).fails_with(6);
}

#[test]
fn a_key_under_a_passphrase_wants_it() {
    let cluster = Cluster::start();
    push(&cluster, "hello:1");
    let mine = cluster.path("sealed.key").to_str().unwrap().to_owned();
    let mut command = cluster.command(&["sign", "hello:1", "--generate-key", &mine]);
    done(command.env("SKIFF_KEY_PASSPHRASE", "correct horse"));
    let text = std::fs::read_to_string(&mine).unwrap();
    assert!(text.contains("ENCRYPTED SIGSTORE PRIVATE KEY") && !text.contains("BEGIN PRIVATE KEY"));
    let without = cluster.skiff(&["sign", "hello:1", "--key", &mine]).fails_with(4);
    assert!(without.stderr.contains("its passphrase is needed"), "{without}");
    let mut command = cluster.command(&["sign", "hello:1", "--key", &mine]);
    let again = done(command.env("COSIGN_PASSWORD", "correct horse"));
    assert!(again.contains("is signed by"), "{again}");
    let kept = cluster.skiff(&["sign", "--generate-key", &mine]).fails_with(4);
    assert!(kept.stderr.contains("exists"), "{kept}");
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), text, "a key is never replaced");
}

/// The bundle, as Sigstore's own library for JavaScript reads it.
#[test]
fn sigstores_library_accepts_our_bundle() {
    let npm = program("npm", "npm");
    let cluster = Cluster::start();
    let pushed = push(&cluster, "hello:1");
    let mine = key(&cluster, "mine.key");
    cluster.skiff(&["sign", "hello:1", "--key", &mine]).ok();
    let get = cluster.api("GET", &format!("/v2/default/hello/referrers/{pushed}"));
    let index: Value = serde_json::from_str(&get.send().unwrap().text()).unwrap();
    let referrer = index["manifests"][0].clone();
    assert_eq!(referrer["artifactType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
    let get = cluster.api("GET", &format!("/v2/default/hello/manifests/{}", referrer["digest"].as_str().unwrap()));
    let manifest: Value = serde_json::from_str(&get.send().unwrap().text()).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let get = cluster.api("GET", &format!("/v2/default/hello/blobs/{layer}"));
    cluster.write("bundle.json", get.send().unwrap().text());
    cluster.write("package.json", r#"{"private": true, "type": "commonjs"}"#);
    let install =
        ["install", "--no-audit", "--no-fund", "--loglevel=error", "@sigstore/verify@4.1.3", "@sigstore/bundle@5.0.1"];
    done(Command::new(npm).args(install).current_dir(cluster.path(".")));
    let script = r#"
const fs = require("fs"), crypto = require("crypto");
const { bundleFromJSON } = require("@sigstore/bundle");
const { Verifier, toSignedEntity } = require("@sigstore/verify");
const bundle = bundleFromJSON(JSON.parse(fs.readFileSync("bundle.json", "utf8")));
const check = (file) => {
  const publicKey = crypto.createPublicKey(fs.readFileSync(file));
  const trust = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [],
    publicKey: () => ({ publicKey, validFor: () => true }) };
  const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
  verifier.verify(toSignedEntity(bundle));
};
check(process.argv[2]);
let refused = false;
try { check(process.argv[3]); } catch { refused = true; }
if (!refused) throw new Error("a stranger's key was accepted");
console.log("accepted");
"#;
    cluster.write("check.js", script);
    let stranger = key(&cluster, "stranger.key");
    let mut command = Command::new(program("node", "nodejs"));
    command.args(["check.js", &format!("{mine}.pub"), &format!("{stranger}.pub")]).current_dir(cluster.path("."));
    assert_eq!(done(&mut command), "accepted\n");
}
