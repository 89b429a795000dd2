//! Configs and Secrets: sealed wherever they are seen, and in step with the services that name them.

use serde_json::{Value, json};
use skiff_api::Code;

use super::support::{Server, memory, servers, service};

const SECRET: &str = "/v1/namespaces/default/secrets/stripe";
const PLAIN: &str = "hunter2-in-the-clear";

fn config(name: &str, data: Value) -> Value {
    json!({"kind": "Config", "name": name, "data": data})
}

fn secret(name: &str, data: Value) -> Value {
    json!({"kind": "Secret", "name": name, "data": data})
}

fn reading(name: &str, fields: Value) -> Value {
    let mut service = service(name);
    service.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    service
}

/// All that the store has.
async fn stored(server: &Server) -> String {
    let listing = server.objects.store().list(skiff_scheduler::store::List::prefix("")).await.unwrap();
    listing.entries.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).collect()
}

#[tokio::test]
async fn a_secret_is_sealed_before_it_is_kept_or_told() {
    for server in servers().await {
        let written = secret("stripe", json!({"KEY": PLAIN, "OTHER": "x"}));
        let created = server.applied(written.clone()).await;
        assert_eq!(created["action"], "created");
        // The same again changes nothing: sealing gives the same text.
        assert_eq!(server.applied(written.clone()).await["action"], "unchanged");
        let seen = server.get(SECRET).await;
        let sealed = seen["spec"]["data"]["KEY"].as_str().unwrap().to_owned();
        assert!(sealed.starts_with("sealed:1:"), "{sealed}");
        // What was read goes back in as it is.
        assert_eq!(server.applied(seen.clone()).await["action"], "unchanged");
        let (status, replaced) = server.call("PUT", SECRET, secret("stripe", json!({"KEY": PLAIN})).to_string()).await;
        assert_eq!((status, replaced["spec"]["data"]["KEY"].as_str()), (200, Some(sealed.as_str())));
        let path = "/v1/namespaces/default/secrets";
        let (status, made) = server.call("POST", path, secret("two", json!({"KEY": PLAIN})).to_string()).await;
        assert_eq!(status, 201);
        assert_ne!(made["spec"]["data"]["KEY"], seen["spec"]["data"]["KEY"], "each place seals in its own way");
        for text in [created.to_string(), seen.to_string(), made.to_string(), stored(&server).await] {
            assert!(!text.contains(PLAIN), "{text}");
        }
        assert!(stored(&server).await.contains(&sealed));
    }
}

#[tokio::test]
async fn what_is_sealed_belongs_to_its_place() {
    let server = memory().await;
    server.applied(secret("stripe", json!({"KEY": PLAIN}))).await;
    let sealed = server.get(SECRET).await["spec"]["data"]["KEY"].clone();
    for (name, key) in [("other", "KEY"), ("stripe", "OTHER")] {
        let stolen = secret(name, json!({key: sealed}));
        let problem = server.refused("POST", "/v1/apply", stolen.to_string(), 400).await;
        assert!(problem.detail.contains(&format!("data.{key} looks sealed, and does not open")), "{}", problem.detail);
        assert!(problem.hint.is_some());
    }
    // As large as a Config may be, in the clear.
    let large = |bytes: usize| secret("large", json!({"KEY": "x".repeat(bytes)}));
    let problem = server.refused("POST", "/v1/apply", large(65_534).to_string(), 400).await;
    assert!(problem.detail.contains("secret/default/large: data: 65537 bytes"), "{}", problem.detail);
    server.applied(large(65_533)).await;
    // A path names the namespace where the body does not.
    server.applied(json!({"kind": "Namespace", "name": "shop"})).await;
    let path = "/v1/namespaces/shop/secrets";
    let (status, made) = server.call("POST", path, secret("stripe", json!({"KEY": PLAIN})).to_string()).await;
    assert_eq!(status, 201);
    assert_eq!(server.applied(made).await["action"], "unchanged");
}

#[tokio::test]
async fn a_service_names_what_is_there_and_each_key_once() {
    for server in servers().await {
        let cart = reading("cart", json!({"config": ["app"], "secrets": ["stripe"], "envFrom": ["stripe"]}));
        let problem = server.refused("POST", "/v1/apply", cart.to_string(), 404).await;
        assert!(problem.detail.contains("there is no config app"), "{}", problem.detail);
        server.applied(config("app", json!({"REGION": "eu", "a.b": "c"}))).await;
        let problem = server.refused("POST", "/v1/apply", cart.to_string(), 404).await;
        assert!(problem.hint.as_deref().is_some_and(|hint| hint.contains("skiff create secret stripe")));
        server.applied(secret("stripe", json!({"REGION": "x"}))).await;
        let problem = server.refused("POST", "/v1/apply", cart.to_string(), 400).await;
        assert!(problem.detail.contains("secret stripe and config app both define REGION"), "{}", problem.detail);
        server.applied(secret("stripe", json!({"KEY": "x"}))).await;
        server.applied(cart.clone()).await;
        assert_eq!(server.applied(cart.clone()).await["action"], "unchanged");

        let mut env = cart.clone();
        env["env"] = json!({"KEY": "y"});
        let problem = server.refused("POST", "/v1/apply", env.to_string(), 400).await;
        assert!(problem.detail.contains("env and secret stripe both define KEY"), "{}", problem.detail);
        let mut dotted = cart.clone();
        dotted["envFrom"] = json!(["app"]);
        let problem = server.refused("POST", "/v1/apply", dotted.to_string(), 400).await;
        assert!(problem.detail.contains("\"a.b\" of config app is not a variable's name"), "{}", problem.detail);
        dotted["envFrom"] = json!(["nobody"]);
        let problem = server.refused("POST", "/v1/apply", dotted.to_string(), 400).await;
        assert!(problem.detail.contains("envFrom[0]: nobody is none"), "{}", problem.detail);

        // The other way round: what is named stays so, and in step with who names it.
        let twice = config("app", json!({"KEY": "y"}));
        let problem = server.refused("POST", "/v1/apply", twice.to_string(), 400).await;
        assert!(problem.detail.contains("service/default/cart: config app and secret stripe"), "{}", problem.detail);
        let problem = server.refused("DELETE", SECRET, "", 409).await;
        assert_eq!(problem.code, Code::Conflict);
        assert!(problem.detail.contains("secret/default/stripe is in use by cart"), "{}", problem.detail);
        server.applied(config("app", json!({"REGION": "us"}))).await;
        assert_eq!(server.call("DELETE", "/v1/namespaces/default/services/cart", "").await.0, 200);
        assert_eq!(server.call("DELETE", SECRET, "").await.0, 200);
    }
}

#[tokio::test]
async fn a_namespace_with_settings_is_not_empty() {
    let server = memory().await;
    server.applied(json!({"kind": "Namespace", "name": "shop"})).await;
    let mut app = config("app", json!({"A": "b"}));
    app["namespace"] = json!("shop");
    server.applied(app).await;
    let problem = server.refused("DELETE", "/v1/namespaces/shop", "", 409).await;
    assert!(problem.detail.contains("config/app"), "{}", problem.detail);
}
