//! Rights: a challenge for nobody, a refusal for the wrong one, and nothing learnt past them.

use reqwest::{Method, StatusCode};
use serde_json::json;
use skiff_disk::Disk;
use skiff_registry::server::{ANONYMOUS, token_of};
use skiff_registry::{Action, Authorizer, Decision, Registry};

use crate::support::{Server, manifest_of};

/// `admin` may do everything, `reader` may pull from `pub/…`.
struct Tokens;

impl Authorizer for Tokens {
    fn authorize(&self, header: Option<&str>, action: Action, repository: Option<&str>) -> Decision {
        match header.and_then(token_of).as_deref() {
            Some("admin") => Decision::Allowed,
            Some("reader") if action == Action::Pull && repository.is_none_or(|r| r.starts_with("pub/")) => {
                Decision::Allowed
            }
            Some("reader") => Decision::Denied,
            _ => Decision::Unauthenticated,
        }
    }
}

/// The same, where anybody may pull from `pub/…`.
struct OpenTokens;

impl Authorizer for OpenTokens {
    fn authorize(&self, header: Option<&str>, action: Action, repository: Option<&str>) -> Decision {
        let is_nobody = header.and_then(token_of).is_none_or(|token| token == ANONYMOUS);
        let is_open = action == Action::Pull && repository.is_some_and(|name| name.starts_with("pub/"));
        match is_nobody {
            true if is_open => Decision::Allowed,
            true => Decision::Unauthenticated,
            false => Tokens.authorize(header, action, repository),
        }
    }

    fn open_by(&self) -> Option<&'static str> {
        Some("http")
    }
}

#[tokio::test]
async fn where_anybody_may_pull_clients_are_sent_for_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(Registry::open(Disk::real(), dir.path()).unwrap(), OpenTokens).await;
    let realm = format!("Bearer realm=\"http://{}/v2/token\",service=\"skiff\"", server.endpoint);
    for path in ["/v2/", "/v2/secret/a/manifests/v1", "/v2/_catalog"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (StatusCode::UNAUTHORIZED, realm.as_str()));
    }
    // Whoever has no login gets a token all the same, and what it opens is what is open.
    let nobody = server.get("/v2/token?service=skiff&scope=repository:pub/a:pull").await;
    assert_eq!((nobody.status, nobody.header("cache-control")), (StatusCode::OK, "no-store"));
    let token = nobody.json()["token"].as_str().unwrap().to_owned();
    let with = async |token: &str, path: &str| {
        server.call(Method::GET, path, &[("authorization", &format!("Bearer {token}"))], b"").await.status
    };
    assert_eq!(with(&token, "/v2/pub/a/manifests/v1").await, StatusCode::NOT_FOUND);
    assert_eq!(with(&token, "/v2/secret/a/manifests/v1").await, StatusCode::UNAUTHORIZED);
    assert_eq!(with(&token, "/v2/").await, StatusCode::UNAUTHORIZED);
    // A login's is its own, and a wrong one gets none.
    let log_in = async |password: &str| {
        let request = server.http.get(format!("http://{}/v2/token", server.endpoint)).basic_auth("x", Some(password));
        request.send().await.unwrap()
    };
    let known: serde_json::Value = serde_json::from_slice(&log_in("reader").await.bytes().await.unwrap()).unwrap();
    assert_eq!(known["token"], "reader");
    assert_eq!(with("reader", "/v2/").await, StatusCode::OK);
    assert_eq!(log_in("wrong").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(server.call(Method::POST, "/v2/token", &[], b"").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn asks_for_the_right_of_every_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(Registry::open(Disk::real(), dir.path()).unwrap(), Tokens).await;
    let call = async |token: &str, method: Method, path: &str, body: &[u8]| {
        server.call(method, path, &[("authorization", &format!("Bearer {token}"))], body).await
    };
    for path in ["/v2/", "/v2/_catalog", "/v2/pub/a/tags/list", "/v2/nonsense", "/v2/A/tags/list"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"), "{path}");
        assert_eq!(answer.header("www-authenticate"), "Basic realm=\"skiff\"");
    }
    let basic = server.http.get(format!("http://{}/v2/", server.endpoint)).basic_auth("anybody", Some("reader"));
    assert_eq!(basic.send().await.unwrap().status(), StatusCode::OK);

    for repository in ["pub/a", "secret/a"] {
        let registry = &server.registry;
        let id = registry.start_upload(repository).unwrap();
        registry.append_upload(repository, &id, 0, b"{}").unwrap();
        let config = skiff_registry::hash::sha256(b"{}");
        registry.finish_upload(repository, &id, &config).unwrap();
        let path = format!("/v2/{repository}/manifests/v1");
        let headers = [("authorization", "Bearer admin"), ("content-type", "a/b")];
        let put = server.call(Method::PUT, &path, &headers, &manifest_of(&config, &[], "")).await;
        assert_eq!(put.status, StatusCode::CREATED);
    }
    assert_eq!(call("reader", Method::GET, "/v2/pub/a/manifests/v1", b"").await.status, StatusCode::OK);
    assert_eq!(call("reader", Method::GET, "/v2/_catalog", b"").await.json()["repositories"], json!(["pub/a"]));
    let denied = [
        (Method::GET, "/v2/secret/a/manifests/v1"),
        (Method::POST, "/v2/pub/a/blobs/uploads/"),
        (Method::GET, "/v2/pub/a/blobs/uploads/x"),
        (Method::PUT, "/v2/pub/a/manifests/v1"),
        (Method::DELETE, "/v2/pub/a/manifests/v1"),
    ];
    for (method, path) in denied {
        assert_eq!(call("reader", method, path, b"").await.code(), "DENIED", "{path}");
    }
}

/// Pushes to `own/…`, reads nothing else.
struct Owner;

impl Authorizer for Owner {
    fn authorize(&self, _: Option<&str>, _: Action, repository: Option<&str>) -> Decision {
        match repository.is_none_or(|r| r.starts_with("own/")) {
            true => Decision::Allowed,
            false => Decision::Denied,
        }
    }
}

#[tokio::test]
async fn mounts_only_what_may_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(Registry::open(Disk::real(), dir.path()).unwrap(), Owner).await;
    let digest = skiff_registry::hash::sha256(b"secret");
    let id = server.registry.start_upload("secret/a").unwrap();
    server.registry.append_upload("secret/a", &id, 0, b"secret").unwrap();
    server.registry.finish_upload("secret/a", &id, &digest).unwrap();
    let path = format!("/v2/own/a/blobs/uploads/?mount={digest}&from=secret/a");
    assert_eq!(server.call(Method::POST, &path, &[], b"").await.status, StatusCode::ACCEPTED);
    assert_eq!(server.get(&format!("/v2/own/a/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
}
