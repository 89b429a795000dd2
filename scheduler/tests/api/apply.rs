//! Apply: merging, pinning, and what it answers.

use serde_json::{Value, json};

use super::support::{OWN_REGISTRY, digest, memory, servers, service};

const CART: &str = "/v1/namespaces/default/services/cart";

fn with(mut document: Value, fields: Value) -> Value {
    for (key, value) in fields.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

#[tokio::test]
async fn says_what_it_did_and_does_nothing_twice() {
    for server in servers().await {
        let cart = service("cart");
        let created = server.applied(cart.clone()).await;
        assert_eq!((&created["action"], created.get("moved")), (&json!("created"), None));
        assert_eq!(created["object"], server.get(CART).await);
        let revision = server.objects.store().revision().await.unwrap();
        assert_eq!(server.applied(cart.clone()).await["action"], "unchanged");
        assert_eq!(server.objects.store().revision().await.unwrap(), revision, "nothing was written");

        let configured = server.applied(with(cart, json!({"replicas": 2}))).await;
        assert_eq!(
            (&configured["action"], &configured["object"]["spec"]["replicas"]),
            (&json!("configured"), &json!(2))
        );
        assert_eq!(configured["object"]["metadata"]["generation"], 2);
    }
}

#[tokio::test]
async fn a_field_belongs_to_who_names_it() {
    let server = memory().await;
    let cart = with(service("cart"), json!({"env": {"A": "1"}, "labels": {"tier": "backend"}}));
    server.applied(with(cart.clone(), json!({"http": {"inFlight": 7}}))).await;
    server.call("PUT", &format!("{CART}/scale"), r#"{"replicas": 5}"#).await;
    // Somebody else adds a variable and a label.
    let mut live = server.get(CART).await;
    live["spec"]["env"]["B"] = json!("2");
    live["metadata"]["labels"]["team"] = json!("shop");
    assert_eq!(server.call("PUT", CART, live.to_string()).await.0, 200);

    let object = server.applied(with(service("cart"), json!({"env": {"C": "3"}}))).await["object"].clone();
    assert_eq!(object["spec"]["replicas"], 5, "the file never named it: scale keeps its say");
    assert_eq!(object["spec"]["http"]["inFlight"], 64, "it left the file");
    assert_eq!(object["spec"]["env"], json!({"B": "2", "C": "3"}));
    assert_eq!(object["metadata"]["labels"], json!({"team": "shop"}));

    // Named and then not: the default, not what scale said.
    server.applied(with(service("cart"), json!({"replicas": 9}))).await;
    assert_eq!(server.applied(service("cart")).await["object"]["spec"]["replicas"], 1);
}

#[tokio::test]
async fn what_get_prints_can_be_applied() {
    let server = memory().await;
    server.applied(with(service("cart"), json!({"http": {"routes": [{"path": "/cart"}]}, "env": {"A": "1"}}))).await;
    let printed = server.get(CART).await;
    assert_eq!(server.applied(printed.clone()).await["action"], "unchanged");
    assert_eq!(server.get(CART).await, printed);
}

#[tokio::test]
async fn a_name_that_left_the_file_unchanged_is_forgotten_too() {
    let server = memory().await;
    server.applied(with(service("cart"), json!({"replicas": 1}))).await;
    // It says the default: nothing to do, but from now on it is not the file's.
    assert_eq!(server.applied(service("cart")).await["action"], "unchanged");
    server.call("PUT", &format!("{CART}/scale"), r#"{"replicas": 5}"#).await;
    assert_eq!(server.applied(service("cart")).await["object"]["spec"]["replicas"], 5);
}

#[tokio::test]
async fn tags_are_pinned_and_a_moved_one_is_told() {
    let server = memory().await;
    let handler = ["wasi:http/incoming-handler@0.2.10"];
    server.applied(service("cart")).await;
    server.images.push("default/hello", "1", 2, &handler);
    let moved = server.applied(service("cart")).await;
    assert_eq!(moved["action"], "configured");
    assert_eq!(moved["moved"], json!({"image": "hello:1", "from": digest(1).to_string(), "to": digest(2).to_string()}));
    assert_eq!(moved["object"]["spec"]["image"], format!("hello:1@{}", digest(2)));

    // Another tag is no move, and a pinned image stays where it is.
    server.images.push("default/hello", "2", 3, &handler);
    let other = server.applied(with(service("cart"), json!({"image": "hello:2"}))).await;
    assert_eq!((&other["action"], other.get("moved")), (&json!("configured"), None));
    let pinned = format!("hello@{}", digest(1));
    let object = server.applied(with(service("cart"), json!({"image": pinned}))).await["object"].clone();
    assert_eq!(object["spec"]["image"], pinned);

    // No tag is latest; the cluster's own address is the same as none; two segments name another namespace's.
    server.images.push("default/hello", "latest", 4, &handler);
    server.images.push("ops/hello", "1", 5, &handler);
    for (image, stored) in [
        ("hello".to_owned(), format!("hello@{}", digest(4))),
        (format!("{OWN_REGISTRY}/default/hello:2"), format!("default/hello:2@{}", digest(3))),
        ("ops/hello:1".to_owned(), format!("ops/hello:1@{}", digest(5))),
    ] {
        let object = server.applied(with(service("cart"), json!({"image": image}))).await["object"].clone();
        assert_eq!(object["spec"]["image"], stored);
    }
}

#[tokio::test]
async fn an_image_that_cannot_run_is_refused() {
    let server = memory().await;
    let refusal = |image: &str| {
        let document = with(service("cart"), json!({"image": image}));
        server.apply(document)
    };
    assert_eq!(
        refusal("hello:9").await,
        (
            404,
            json!({
                "title": "image not found", "status": 404, "code": "image-not-found",
                "detail": "image hello:9 is not in the registry: default/hello has no 9",
                "hint": "skiff push hello:9 FILE.wasm",
                "object": "service/default/cart",
            })
        )
    );
    let (status, problem) = refusal("ghcr.io/acme/cart:1").await;
    assert_eq!((status, &problem["object"]), (404, &json!("service/default/cart")), "{problem}");
    let (status, problem) = refusal(&format!("{OWN_REGISTRY}/a.b/cart:1")).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("a name that looks like another's"), "{problem}");
    server.images.push("default/task", "1", 7, &["wasi:cli/terminal-stdin@0.2.10"]);
    let (status, problem) = refusal("task:1").await;
    assert_eq!(status, 400);
    assert_eq!(
        problem["detail"],
        "image task:1 neither answers requests nor runs on its own: it exports wasi:cli/terminal-stdin@0.2.10, not \
         wasi:http/incoming-handler@0.2 or wasi:cli/run@0.2"
    );
    let world: (&[&str], &[&str]) =
        (&["wasi:io/poll@0.2.0", "wasi:blobstore/container@0.2.0"], &["wasi:http/incoming-handler@0.2.10"]);
    server.images.push_importing("default/counter", "1", 8, world);
    let (status, problem) = refusal("counter:1").await;
    assert_eq!(status, 400);
    assert_eq!(problem["detail"], "image counter:1 imports wasi:blobstore/container@0.2.0, which no node offers");
    assert!(problem["hint"].as_str().unwrap().contains("skiff inspect counter:1"), "{problem}");
    let services = server.get("/v1/services").await;
    assert_eq!(services["items"], json!([]));
}

#[tokio::test]
async fn an_image_of_another_registry_is_copied_and_keeps_its_name() {
    let server = memory().await;
    let handler: &[&str] = &["wasi:http/incoming-handler@0.2.10"];
    server.images.push("ghcr.io/acme/cart", "1", 6, handler);
    let apply = async |image: &str| server.applied(with(service("cart"), json!({"image": image}))).await;
    let answer = apply("ghcr.io/acme/cart:1").await;
    let pinned = format!("ghcr.io/acme/cart:1@{}", digest(6));
    assert_eq!(answer["object"]["spec"]["image"], pinned);
    // Pinned, it is found in its copy, whatever the other registry has.
    server.images.push("ghcr.io/acme/cart", "1", 7, handler);
    assert_eq!(apply(&pinned).await["action"], "unchanged");
    let answer = apply("ghcr.io/acme/cart:1").await;
    assert_eq!(answer["moved"]["to"], digest(7).to_string());
}

#[tokio::test]
async fn a_dry_run_answers_and_changes_nothing() {
    for server in servers().await {
        let revision = server.objects.store().revision().await.unwrap();
        let (status, answer) = server.call("POST", "/v1/apply?dryRun=true", service("cart").to_string()).await;
        assert_eq!((status, &answer["action"]), (200, &json!("created")));
        assert_eq!(answer["object"]["spec"]["image"], format!("hello:1@{}", digest(1)));
        assert_eq!(server.objects.store().revision().await.unwrap(), revision);
        server.applied(service("cart")).await;
        let changed = with(service("cart"), json!({"replicas": 8}));
        let (_, answer) = server.call("POST", "/v1/apply?dryRun=true", changed.to_string()).await;
        assert_eq!((&answer["action"], &answer["object"]["spec"]["replicas"]), (&json!("configured"), &json!(8)));
        assert_eq!(server.get(CART).await["spec"]["replicas"], 1);
        let problem = server.refused("POST", "/v1/apply?dryrun=true", service("cart").to_string(), 400).await;
        assert!(problem.detail.contains("dryrun"), "{problem}");
    }
}

#[tokio::test]
async fn appliers_at_the_same_time_all_have_their_say() {
    for server in servers().await {
        let apply = |key: &str| server.apply(with(service("cart"), json!({"labels": {key: "x"}})));
        let answers = tokio::join!(apply("a"), apply("b"), apply("c"), apply("d"));
        let actions =
            [answers.0.1, answers.1.1, answers.2.1, answers.3.1].map(|a| a["action"].as_str().unwrap().to_owned());
        assert_eq!(actions.iter().filter(|action| *action == "created").count(), 1, "{actions:?}");
        let labels = server.get(CART).await["metadata"]["labels"].clone();
        assert_eq!(labels.as_object().unwrap().len(), 1, "each took the label of the one before out: {labels}");
    }
}
