//! Creating, reading, replacing, deleting, listing.

use serde_json::{Value, json};

use super::support::{digest, memory, servers, service};

const SERVICES: &str = "/v1/namespaces/default/services";

#[tokio::test]
async fn an_object_lives_its_life() {
    for server in servers().await {
        let (status, created) = server.call("POST", SERVICES, service("cart").to_string()).await;
        assert_eq!(status, 201, "{created}");
        assert_eq!(created["spec"]["image"], format!("hello:1@{}", digest(1)));
        assert_eq!(created["metadata"]["generation"], 1);
        let path = format!("{SERVICES}/cart");
        assert_eq!(server.get(&path).await, created);

        let mut wanted = created.clone();
        wanted["spec"]["replicas"] = json!(3);
        let (status, replaced) = server.call("PUT", &path, wanted.to_string()).await;
        assert_eq!(status, 200, "{replaced}");
        assert_eq!((&replaced["metadata"]["generation"], &replaced["spec"]["replicas"]), (&json!(2), &json!(3)));
        assert_eq!(replaced["metadata"]["uid"], created["metadata"]["uid"]);

        // The same again is no write.
        let (_, again) = server.call("PUT", &path, replaced.to_string()).await;
        assert_eq!(again, replaced);

        let (status, deleted) = server.call("DELETE", &path, "").await;
        assert_eq!((status, deleted), (200, replaced));
        let problem = server.refused("GET", &path, "", 404).await;
        assert_eq!(problem.detail, "service/default/cart does not exist");
        server.refused("DELETE", &path, "", 404).await;
        server.refused("PUT", &path, wanted.to_string(), 404).await;
    }
}

#[tokio::test]
async fn replacing_with_an_old_version_is_a_conflict_and_without_one_the_last_wins() {
    let server = memory().await;
    let (_, first) = server.call("POST", SERVICES, service("cart").to_string()).await;
    let path = format!("{SERVICES}/cart");
    let mut wanted = service("cart");
    wanted["replicas"] = json!(2);
    let (_, second) = server.call("PUT", &path, wanted.to_string()).await;
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();

    let problem = server.refused("PUT", &path, first.to_string(), 409).await;
    assert_eq!(
        serde_json::to_value(&problem).unwrap(),
        json!({
            "title": "conflict", "status": 409, "code": "conflict",
            "detail": format!("service/default/cart changed: it is at {}, not at {}", version(&second), version(&first)),
            "hint": "read it again and repeat the change",
            "object": "service/default/cart",
        })
    );
    wanted["replicas"] = json!(4);
    let (status, last) = server.call("PUT", &path, wanted.to_string()).await;
    assert_eq!((status, &last["spec"]["replicas"]), (200, &json!(4)));
}

#[tokio::test]
async fn of_two_writers_from_one_reading_exactly_one_succeeds() {
    for server in servers().await {
        server.applied(service("cart")).await;
        let path = format!("{SERVICES}/cart");
        for round in 0..20 {
            let seen = server.get(&path).await;
            let write = |replicas: u32| {
                let mut wanted = seen.clone();
                wanted["spec"]["replicas"] = json!(replicas);
                server.call("PUT", &path, wanted.to_string())
            };
            let (a, b) = tokio::join!(write(100 + round), write(200 + round));
            let mut statuses = [a.0, b.0];
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 409]);
        }
        // Without a version both are taken, one after the other.
        let write = |replicas: u32| {
            let mut wanted = service("cart");
            wanted["replicas"] = json!(replicas);
            server.call("PUT", &path, wanted.to_string())
        };
        let before = server.get(&path).await["metadata"]["generation"].as_u64().unwrap();
        let answers = tokio::join!(write(1), write(2), write(3), write(4));
        assert_eq!([answers.0.0, answers.1.0, answers.2.0, answers.3.0], [200; 4]);
        assert_eq!(server.get(&path).await["metadata"]["generation"].as_u64().unwrap(), before + 4);
    }
}

#[tokio::test]
async fn lists_come_in_pages_of_one_revision_and_by_label() {
    for server in servers().await {
        for n in 0..7 {
            let mut object = service(&format!("s{n}"));
            object["labels"] = json!({"parity": if n % 2 == 0 { "even" } else { "odd" }});
            server.applied(object).await;
        }
        let names = |list: &Value| -> Vec<String> {
            list["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let first = server.get(&format!("{SERVICES}?limit=3")).await;
        assert_eq!((&first["kind"], &first["apiVersion"]), (&json!("ServiceList"), &json!("skiff/v1")));
        assert_eq!(names(&first), ["s0", "s1", "s2"]);
        // What happens between the pages is not seen.
        server.call("DELETE", &format!("{SERVICES}/s4"), "").await;
        let next =
            |list: &Value| format!("{SERVICES}?limit=3&continue={}", list["metadata"]["continue"].as_str().unwrap());
        let second = server.get(&next(&first)).await;
        assert_eq!(names(&second), ["s3", "s4", "s5"]);
        let third = server.get(&next(&second)).await;
        assert_eq!((names(&third), &third["metadata"]["continue"]), (vec!["s6".to_owned()], &Value::Null));
        for page in [&second, &third] {
            assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        }
        assert_eq!(names(&server.get("/v1/services?labelSelector=parity%3Deven").await), ["s0", "s2", "s6"]);
        let odd = server.get(&format!("{SERVICES}?labelSelector=parity!=even&limit=3")).await;
        assert_eq!(names(&odd), ["s1", "s3", "s5"]);
        let at = first["metadata"]["resourceVersion"].as_str().unwrap();
        assert_eq!(names(&server.get(&format!("{SERVICES}?resourceVersion={at}")).await).len(), 7);
        assert_eq!(names(&server.get("/v1/namespaces/other/services").await).len(), 0);
        server.objects.store().compact(server.objects.store().revision().await.unwrap()).await.unwrap();
        let problem = server.refused("GET", &next(&first), "", 410).await;
        assert_eq!(problem.code, skiff_api::Code::Compacted);
    }
}

#[tokio::test]
async fn namespaces_are_made_used_and_deleted() {
    let server = memory().await;
    let namespaces = server.get("/v1/namespaces").await;
    assert_eq!(namespaces["items"][0]["metadata"]["name"], "default");
    server.images.push("shop/hello", "1", 1, &["wasi:http/incoming-handler@0.2.10"]);

    let mut cart = service("cart");
    cart["namespace"] = json!("shop");
    let (status, problem) = server.apply(cart.clone()).await;
    assert_eq!(
        (status, problem),
        (
            404,
            json!({
                "title": "not found", "status": 404, "code": "not-found",
                "detail": "namespace shop does not exist",
                "hint": "apply it first: kind: Namespace, name: shop",
                "object": "namespace/shop",
            })
        )
    );
    let (status, _) = server.call("POST", "/v1/namespaces", r#"{"kind": "Namespace", "name": "shop"}"#).await;
    assert_eq!(status, 201);
    server.applied(cart).await;
    assert_eq!(server.get("/v1/namespaces/shop/services/cart").await["metadata"]["namespace"], "shop");

    let problem = server.refused("DELETE", "/v1/namespaces/shop", "", 409).await;
    assert_eq!(
        serde_json::to_value(&problem).unwrap(),
        json!({
            "title": "namespace not empty", "status": 409, "code": "namespace-not-empty",
            "detail": "namespace shop is not empty: it has service/cart",
            "hint": "delete its services first",
            "object": "namespace/shop",
        })
    );
    server.call("DELETE", "/v1/namespaces/shop/services/cart", "").await;
    assert_eq!(server.call("DELETE", "/v1/namespaces/shop", "").await.0, 200);
    let problem = server.refused("DELETE", "/v1/namespaces/default", "", 403).await;
    assert_eq!(problem.detail, "namespace default cannot be deleted");
    let problem = server.refused("POST", "/v1/namespaces", r#"{"kind": "Namespace", "name": "metadata"}"#, 400).await;
    assert_eq!(problem.detail, "name: the namespace \"metadata\" is reserved (line 1, column 31)");
}

#[tokio::test]
async fn two_services_cannot_have_one_route() {
    for server in servers().await {
        let with_route = |name: &str, path: &str| {
            let mut object = service(name);
            object["http"] = json!({"routes": [{"host": "shop.example.com", "path": path}]});
            object
        };
        server.applied(with_route("cart", "/cart")).await;
        for path in ["/cart", "/cart/"] {
            let (status, problem) = server.apply(with_route("card", path)).await;
            let want = json!({
                "title": "route taken", "status": 409, "code": "route-taken",
                "detail": "route shop.example.com/cart leads to service default/cart already",
                "hint": "choose another host or path, or take the route from that service first",
                "object": "service/default/cart",
            });
            assert_eq!((status, problem), (409, want));
        }
        // A dry run says the same, and takes nothing.
        let dry = "/v1/apply?dryRun=true";
        let problem = server.refused("POST", dry, with_route("card", "/cart").to_string(), 409).await;
        assert_eq!(problem.code, skiff_api::Code::RouteTaken);
        assert_eq!(server.call("POST", dry, with_route("card", "/card").to_string()).await.0, 200);
        server.applied(with_route("third", "/card")).await;
    }
}
