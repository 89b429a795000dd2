//! What may run in one place only, and what containers keep: what is refused, and in which words.

use serde_json::json;

use super::support::{memory, service};

const SERVICES: &str = "/v1/namespaces/default/services";

#[tokio::test]
async fn there_is_one_copy_at_most() {
    let server = memory().await;
    let mut cart = service("cart");
    cart["exclusive"] = json!(true);
    server.call("POST", "/v1/apply", cart.to_string()).await;
    for replicas in [json!(2), json!("every-node")] {
        let mut many = cart.clone();
        many["replicas"] = replicas;
        let problem = server.refused("POST", "/v1/apply", many.to_string(), 400).await;
        assert!(problem.detail.contains("the one copy that may run with exclusive: true"), "{}", problem.detail);
        assert_eq!(problem.hint.as_deref(), Some("write 1, or 0 to stop it"));
    }
    let scale = format!("{SERVICES}/cart/scale");
    let problem = server.refused("PUT", &scale, r#"{"replicas": 3}"#, 400).await;
    assert!(problem.detail.contains("replicas: 3 is more than the one copy"), "{}", problem.detail);
    server.call("PUT", &scale, r#"{"replicas": 0}"#).await;
    let mut offline = cart.clone();
    offline["offline"] = json!({"replaceAfter": "10s"});
    let problem = server.refused("POST", "/v1/apply", offline.to_string(), 400).await;
    assert!(problem.detail.contains("offline.replaceAfter") && problem.detail.contains("33s"), "{}", problem.detail);
}

#[tokio::test]
async fn volumes_are_for_containers() {
    let server = memory().await;
    let mut cart = service("cart");
    cart["volumes"] = json!([{"name": "data", "path": "/data"}]);
    let problem = server.refused("POST", "/v1/apply", cart.to_string(), 400).await;
    assert!(problem.detail.contains("holds a component, and volumes is for containers"), "{}", problem.detail);
    assert!(problem.hint.unwrap().contains("keyvalue"));
    for (volume, expected) in [
        (json!({"name": "data", "path": "data"}), "does not start with '/'"),
        (json!({"name": "data"}), "path"),
        (json!({"hostPath": "/srv/../etc", "path": "/data"}), "a part of it is . or .."),
        (json!({"path": "/data"}), "it has neither a name nor a hostPath"),
        (json!({"name": "data", "path": "/data", "readonly": true}), "unknown field"),
    ] {
        cart["volumes"] = json!([volume]);
        let problem = server.refused("POST", "/v1/apply", cart.to_string(), 400).await;
        assert!(problem.detail.contains(expected), "{volume}: {}", problem.detail);
    }
}
