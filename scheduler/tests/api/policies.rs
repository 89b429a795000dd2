//! Image policies: kept as any object, and asked before anything that would run an image is written.

use serde_json::{Value, json};
use skiff_api::Code;
use skiff_registry::sign::{GeneratedKey, SigningKey, bundle, simple};

use super::support::{Server, digest, memory, servers, service};

struct Signer {
    key: SigningKey,
    public: String,
}

fn signer() -> Signer {
    let pair = GeneratedKey::new(None).unwrap();
    Signer { key: SigningKey::read(&pair.private, None).unwrap(), public: pair.public.to_string() }
}

impl Signer {
    /// Attaches a signature of `signed` to what is in a repository.
    fn sign(&self, server: &Server, repository: &str, n: u8, signed: u8) {
        let mut all = server.images.1.lock().unwrap();
        let attached = all.entry((repository.to_owned(), digest(n))).or_default();
        attached.signatures.push(bundle::sign(&self.key, &digest(signed)).unwrap());
        attached.signatures.push(simple::sign(&self.key, repository, &digest(signed)).unwrap());
    }
}

fn policy(name: &str, repositories: &[&str], keys: &[&Signer]) -> Value {
    let keys: Vec<&str> = keys.iter().map(|signer| signer.public.as_str()).collect();
    json!({"kind": "ImagePolicy", "name": name, "repositories": repositories, "keys": keys})
}

#[tokio::test]
async fn policies_are_objects_like_others() {
    const ONE: &str = "/v1/namespaces/default/imagepolicies/signed";
    for server in servers().await {
        let (one, two) = (signer(), signer());
        assert_eq!(server.applied(policy("signed", &["*"], &[&one])).await["action"], "created");
        assert_eq!(server.applied(policy("signed", &["*"], &[&one])).await["action"], "unchanged");
        let changed = server.applied(policy("signed", &["default/*"], &[&one, &two])).await;
        assert_eq!(
            (&changed["action"], &changed["object"]["metadata"]["generation"]),
            (&json!("configured"), &json!(2))
        );
        let list = server.get("/v1/imagepolicies").await;
        assert_eq!((&list["kind"], &list["items"][0]), (&json!("ImagePolicyList"), &server.get(ONE).await));
        assert_eq!(server.get(ONE).await["spec"]["keys"].as_array().unwrap().len(), 2);
        let mut wrong = policy("wrong", &["*"], &[]);
        let problem = server.refused("POST", "/v1/apply", wrong.to_string(), 400).await;
        assert!(problem.detail.contains("keys: there is no key"), "{}", problem.detail);
        wrong["keys"] = json!(["-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]);
        let problem = server.refused("POST", "/v1/imagepolicies", wrong.to_string(), 400).await;
        assert!(problem.detail.contains("neither a P-256 nor an Ed25519 key"), "{}", problem.detail);
        assert_eq!(server.call("DELETE", ONE, "").await.0, 200);
        assert_eq!(server.call("GET", ONE, "").await.0, 404);
    }
}

#[tokio::test]
async fn a_namespace_with_a_policy_is_not_empty() {
    let server = memory().await;
    server.applied(json!({"kind": "Namespace", "name": "shop"})).await;
    let mut signed = policy("signed", &["*"], &[&signer()]);
    signed["namespace"] = json!("shop");
    server.applied(signed).await;
    let problem = server.refused("DELETE", "/v1/namespaces/shop", "", 409).await;
    assert!(problem.detail.contains("imagepolicy/signed"), "{}", problem.detail);
}

#[tokio::test]
async fn an_unsigned_image_is_refused_whichever_way_it_comes() {
    for server in servers().await {
        let signer = signer();
        let cart = service("cart");
        server.applied(cart.clone()).await;
        server.applied(policy("signed", &["*"], &[&signer])).await;

        // What is pinned already is asked for again, and so is what would get more replicas.
        let problem = server.refused("POST", "/v1/apply", cart.to_string(), 403).await;
        assert_eq!((problem.code, problem.object.as_deref()), (Code::NotSigned, Some("service/default/cart")));
        assert!(problem.detail.contains("image policy signed wants"), "{}", problem.detail);
        assert!(problem.detail.ends_with("found: no signature"), "{}", problem.detail);
        assert!(problem.hint.as_deref().is_some_and(|hint| hint.contains("skiff sign IMAGE --key FILE")));
        let scale = "/v1/namespaces/default/services/cart/scale";
        server.refused("PUT", scale, r#"{"replicas": 7}"#, 403).await;
        assert_eq!(server.call("PUT", scale, r#"{"replicas": 0}"#).await.0, 200, "fewer is no start");
        let mut live = server.get("/v1/namespaces/default/services/cart").await;
        live["metadata"]["labels"] = json!({"a": "b"});
        server.refused("PUT", "/v1/namespaces/default/services/cart", live.to_string(), 403).await;
        let mut other = service("other");
        other["image"] = cart["image"].clone();
        server.refused("POST", "/v1/namespaces/default/services", other.to_string(), 403).await;
        server.refused("POST", "/v1/apply?dryRun=true", other.to_string(), 403).await;

        let pinned =
            server.get("/v1/namespaces/default/services/cart").await["spec"]["image"].as_str().unwrap().to_owned();
        let digest_hex = pinned.rsplit_once("sha256:").unwrap().1.to_owned();
        let n = (0..=255_u8).find(|n| digest(*n).hex() == digest_hex).unwrap();
        // Another image's signature is none of this one.
        signer.sign(&server, "default/hello", n, n.wrapping_add(1));
        let problem = server.refused("POST", "/v1/apply", cart.to_string(), 403).await;
        assert!(problem.detail.contains("it is of another image"), "{}", problem.detail);
        self::signer().sign(&server, "default/hello", n, n);
        let problem = server.refused("POST", "/v1/apply", cart.to_string(), 403).await;
        assert!(problem.detail.contains("by another key"), "{}", problem.detail);
        signer.sign(&server, "default/hello", n, n);
        server.applied(cart.clone()).await;
        assert_eq!(server.call("PUT", scale, r#"{"replicas": 7}"#).await.0, 200);

        // All that cover it count; a revoked key counts no more.
        let second = self::signer();
        server.applied(policy("second", &["default/*"], &[&second])).await;
        let problem = server.refused("POST", "/v1/apply", cart.to_string(), 403).await;
        assert!(problem.detail.contains("image policy second wants"), "{}", problem.detail);
        second.sign(&server, "default/hello", n, n);
        server.applied(cart.clone()).await;
        server.applied(policy("signed", &["*"], &[&second, &self::signer()])).await;
        server.applied(cart.clone()).await;
        server.applied(policy("signed", &["*"], &[&self::signer()])).await;
        server.refused("POST", "/v1/apply", cart.to_string(), 403).await;
    }
}

#[tokio::test]
async fn an_image_that_no_policy_covers_is_refused_and_other_namespaces_are_free() {
    let server = memory().await;
    server.applied(json!({"kind": "Namespace", "name": "shop"})).await;
    server.applied(policy("signed", &["ghcr.io/acme/*"], &[&signer()])).await;
    let problem = server.refused("POST", "/v1/apply", service("cart").to_string(), 403).await;
    assert!(problem.detail.contains("no image policy of the namespace covers it"), "{}", problem.detail);
    assert!(problem.hint.as_deref().is_some_and(|hint| hint.contains("add its repository to an ImagePolicy")));
    let mut free = service("cart");
    free["namespace"] = json!("shop");
    free["image"] = json!("default/hello:1");
    server.applied(free).await;
}
