//! The client against the server: what is pushed comes back, and what goes wrong is told.

use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use skiff_api::Digest;
use skiff_disk::Disk;
use skiff_registry::client::Error;
use skiff_registry::hash::sha256;
use skiff_registry::server::token_of;
use skiff_registry::{Action, Artifact, Authorizer, Client, ClientOptions, Decision, Registry};
use tokio::net::TcpListener;

use crate::support::{Server, http, manifest_of};

const COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (call $exit (i32.const 0))))"#;

fn artifact(text: &str) -> Artifact {
    Artifact::from_wasm("a.wasm", wat::parse_str(text).unwrap()).unwrap()
}

/// A component of some size: its custom section is `bytes` long.
fn big_artifact(bytes: usize) -> Artifact {
    artifact(&format!("(component (@custom \"filler\" \"{}\"))", "x".repeat(bytes)))
}

fn client(endpoint: &str) -> Client {
    let idle_timeout = Duration::from_millis(500);
    Client::new(ClientOptions { idle_timeout, attempts: 2, ..ClientOptions::new(endpoint) }).unwrap()
}

async fn pull(client: &Client, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("component.wasm");
    let pulled = client.pull_component("shop/cart", digest, (&Disk::real(), &path), bytes_max, |_, _| {}).await;
    match pulled {
        Ok(pulled) => {
            let bytes = std::fs::read(path).unwrap();
            assert_eq!((pulled.digest, pulled.bytes), (sha256(&bytes), bytes.len() as u64));
            Ok(bytes)
        }
        Err(e) => {
            assert!(!path.exists(), "a failed pull must leave nothing");
            Err(e)
        }
    }
}

#[tokio::test]
async fn pushes_and_pulls() {
    let server = Server::start().await;
    let client = client(&server.endpoint);
    // More than two chunks.
    for artifact in [artifact(COMMAND), big_artifact(9 << 20)] {
        let mut told = Vec::new();
        let digest = client.push("shop/cart", "1.4", &artifact, |done, all| told.push((done, all))).await.unwrap();
        assert_eq!(&digest, artifact.digest());
        assert!(told.is_sorted() && told.last().is_some_and(|(done, all)| done == all), "{told:?}");
        assert_eq!(client.resolve("shop/cart", "1.4").await.unwrap(), digest);
        let manifest = client.pull_manifest("shop/cart", "1.4").await.unwrap();
        assert_eq!((&manifest.bytes, &manifest.digest), (artifact.manifest(), &digest));
        assert_eq!(&pull(&client, &digest, 1 << 30).await.unwrap(), artifact.component());
        let again = client.push("shop/cart", "1.5", &artifact, |_, _| {}).await.unwrap();
        assert_eq!(again, digest);
    }
}

/// What happens to the first PATCH that passes by.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It reaches the registry, its answer does not reach the client.
    AnswerLost,
    /// It reaches the registry, and the connection breaks before the answer.
    Broken,
    /// The registry was restarted and does not know the upload.
    Forgotten,
}

#[tokio::test]
async fn goes_on_where_an_upload_broke_off() {
    for trouble in [Trouble::AnswerLost, Trouble::Broken, Trouble::Forgotten] {
        let server = Server::start().await;
        let proxy = Proxy { target: server.endpoint.clone(), trouble, patches: AtomicU32::new(0), http: http() };
        let proxy = Arc::new(proxy);
        let endpoint = serve(Router::new().fallback(any(forward)).with_state(Arc::clone(&proxy))).await;
        let artifact = big_artifact(9 << 20);
        let mut told = Vec::new();
        let digest = client(&endpoint).push("shop/cart", "1", &artifact, |done, _| told.push(done)).await.unwrap();
        assert_eq!(&pull(&client(&server.endpoint), &digest, 1 << 30).await.unwrap(), artifact.component());
        // The three of the component, the one of the config, and that in trouble again, if the registry did not get it.
        let expected = if matches!(trouble, Trouble::Forgotten) { 5 } else { 4 };
        assert_eq!(proxy.patches.load(SeqCst), expected, "{trouble:?}");
        assert!(told.is_sorted() && told.contains(&(8 << 20)), "{told:?}");
    }
}

#[tokio::test]
async fn gives_up_an_upload_that_never_gets_through() {
    let never = any(async |method: Method| match method {
        Method::HEAD => StatusCode::NOT_FOUND.into_response(),
        Method::POST => (StatusCode::ACCEPTED, [("location", "/v2/shop/cart/blobs/uploads/1")]).into_response(),
        _ => (StatusCode::RANGE_NOT_SATISFIABLE, "not there").into_response(),
    });
    let endpoint = serve(Router::new().fallback(never)).await;
    let error = client(&endpoint).push("shop/cart", "1", &artifact(COMMAND), |_, _| {}).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { status: 416, .. }), "{error}");
}

/// Passes everything on, but for the first PATCH.
struct Proxy {
    target: String,
    trouble: Trouble,
    patches: AtomicU32,
    http: reqwest::Client,
}

async fn forward(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    parts.headers.remove(HOST);
    let in_trouble = parts.method == Method::PATCH && proxy.patches.fetch_add(1, SeqCst) == 0;
    if in_trouble && matches!(proxy.trouble, Trouble::Forgotten) {
        return (StatusCode::NOT_FOUND, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#).into_response();
    }
    let url = format!("http://{}{}", proxy.target, parts.uri);
    let answer = proxy.http.request(parts.method, url).headers(parts.headers).body(body).send().await.unwrap();
    if in_trouble && matches!(proxy.trouble, Trouble::AnswerLost) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    if in_trouble {
        // A body that fails before it starts: the connection is closed.
        let broken = futures_util::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("broken")) });
        return (StatusCode::BAD_GATEWAY, Body::from_stream(broken)).into_response();
    }
    let (status, headers) = (answer.status(), answer.headers().clone());
    (status, headers, answer.bytes().await.unwrap()).into_response()
}

async fn serve(routes: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    endpoint
}

#[tokio::test]
async fn tells_what_is_not_there() {
    let server = Server::start().await;
    let client = client(&server.endpoint);
    let error = client.resolve("shop/cart", "1.4").await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    assert!(error.to_string().contains("skiff push shop/cart:1.4 FILE.wasm"), "{error}");
    let error = pull(&client, &sha256(b"nothing"), 1).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn tells_what_holds_no_component() {
    let server = Server::start().await;
    let config = server.blob("shop/cart", b"x").await;
    let manifest = manifest_of(&config, &[&config], "");
    server.manifest("shop/cart", "1", &manifest).await;
    let error = pull(&client(&server.endpoint), &sha256(&manifest), 1).await.unwrap_err().to_string();
    assert!(error.contains("its layer is neither WebAssembly nor a tar: it starts with \"x\""), "{error}");
    assert!(!error.contains("skiff push NAME"), "whoever pulls it need not have pushed it: {error}");
}

#[tokio::test]
async fn refuses_a_component_that_is_too_large_before_pulling_it() {
    let server = Server::start().await;
    let client = client(&server.endpoint);
    let digest = client.push("shop/cart", "1", &artifact(COMMAND), |_, _| {}).await.unwrap();
    let error = pull(&client, &digest, 100).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes_max: 100, .. }), "{error}");
}

#[tokio::test]
async fn finds_damage_on_the_way() {
    let server = Server::start().await;
    let client = client(&server.endpoint);
    let artifact = artifact(COMMAND);
    let digest = client.push("shop/cart", "1", &artifact, |_, _| {}).await.unwrap();
    let layer = sha256(artifact.component());
    let file = server.dir().join("blobs/sha256").join(&layer.hex()[..2]).join(layer.hex());
    let mut bytes = artifact.component().to_vec();
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert!(matches!(pull(&client, &digest, 1 << 30).await.unwrap_err(), Error::DigestMismatch { .. }));
    std::fs::write(&file, &bytes[1..]).unwrap();
    assert!(matches!(pull(&client, &digest, 1 << 30).await.unwrap_err(), Error::SizeMismatch { .. }));
    bytes.push(0);
    std::fs::write(&file, &bytes).unwrap();
    assert!(matches!(pull(&client, &digest, 1 << 30).await.unwrap_err(), Error::SizeMismatch { .. }));
}

struct Nobody(Decision);

impl Authorizer for Nobody {
    fn authorize(&self, _: Option<&str>, _: Action, _: Option<&str>) -> Decision {
        self.0
    }
}

#[tokio::test]
async fn tells_a_wrong_token_from_a_missing_right() {
    let dir = tempfile::tempdir().unwrap();
    for (decision, expected) in
        [(Decision::Unauthenticated, "does not accept this token"), (Decision::Denied, "does not allow this")]
    {
        let server = Server::on(Registry::open(Disk::real(), dir.path()).unwrap(), Nobody(decision)).await;
        let error = client(&server.endpoint).resolve("shop/cart", "1").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn tells_what_is_wrong_with_the_registry() {
    // A port that was just free, and is again.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let error = client(&closed).resolve("shop/cart", "1").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && error.to_string().contains("skiff up"), "{error}");

    let silent = serve(Router::new().fallback(any(std::future::pending::<()>))).await;
    let error = client(&silent).resolve("shop/cart", "1").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");

    let busy = serve(Router::new().fallback(any(async || (StatusCode::TOO_MANY_REQUESTS, "slow down")))).await;
    let error = client(&busy).pull_manifest("shop/cart", "1").await.unwrap_err();
    assert!(error.to_string().contains("429 slow down"), "{error}");

    for endpoint in ["", "a b", "ftp://a", "a:1/path", "http://"] {
        assert!(matches!(Client::new(ClientOptions::new(endpoint)), Err(Error::Endpoint { .. })), "{endpoint}");
    }
}

/// Lets the token `right` do everything and keeps what was asked for.
#[derive(Default, Clone)]
struct Asked(Arc<Mutex<Vec<Option<String>>>>);

impl Authorizer for Asked {
    fn authorize(&self, header: Option<&str>, _: Action, repository: Option<&str>) -> Decision {
        self.0.lock().unwrap().push(repository.map(str::to_owned));
        match header.and_then(token_of).as_deref() {
            Some("right") => Decision::Allowed,
            _ => Decision::Unauthenticated,
        }
    }
}

#[tokio::test]
async fn brings_its_token_to_every_request() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked::default();
    let server = Server::on(Registry::open(Disk::real(), dir.path()).unwrap(), asked.clone()).await;
    let options = |token: &str| ClientOptions::new(&server.endpoint).token(Some(token.to_owned()));
    let client = Client::new(options("right")).unwrap();
    let digest = client.push("shop/cart", "1", &artifact(COMMAND), |_, _| {}).await.unwrap();
    assert_eq!(client.resolve("shop/cart", "1").await.unwrap(), digest);
    pull(&client, &digest, 1 << 30).await.unwrap();
    let asked = std::mem::take(&mut *asked.0.lock().unwrap());
    assert!(asked.iter().all(|repository| repository.as_deref() == Some("shop/cart")), "no login first: {asked:?}");

    let client = Client::new(options("wrong\n")).unwrap();
    let pushed = client.push("shop/cart", "1", &artifact(COMMAND), |_, _| {}).await;
    for error in [pushed.map(drop), pull(&client, &digest, 1).await.map(drop)] {
        assert!(matches!(error, Err(Error::Unauthorized { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn keeps_its_token_from_other_places() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let see = {
        let seen = Arc::clone(&seen);
        async move |headers: HeaderMap| {
            seen.lock().unwrap().push(headers.contains_key(AUTHORIZATION));
            StatusCode::NOT_FOUND
        }
    };
    let elsewhere = serve(Router::new().fallback(any(see))).await;
    let lead = any(async move |method: Method, uri: Uri| match method {
        Method::POST => (StatusCode::ACCEPTED, [("location", format!("http://{elsewhere}/upload"))]).into_response(),
        Method::HEAD if uri.path().contains("/blobs/") => StatusCode::NOT_FOUND.into_response(),
        _ => (StatusCode::TEMPORARY_REDIRECT, [("location", format!("http://{elsewhere}{uri}"))]).into_response(),
    });
    let endpoint = serve(Router::new().fallback(lead)).await;
    let options = ClientOptions { attempts: 1, ..ClientOptions::new(endpoint) }.token(Some("secret".to_owned()));
    let client = Client::new(options).unwrap();
    client.push("shop/cart", "1", &artifact(COMMAND), |_, _| {}).await.unwrap_err();
    client.resolve("shop/cart", "1").await.unwrap_err();
    client.pull_manifest("shop/cart", "1").await.unwrap_err();
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|token| !token), "{seen:?}");
}

#[tokio::test]
async fn stops_reading_a_manifest_that_does_not_end() {
    let endless = any(async || {
        Body::from_stream(futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 << 10])))
    });
    let endpoint = serve(Router::new().fallback(endless)).await;
    let error = client(&endpoint).pull_manifest("shop/cart", "1").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { what: "the manifest", .. }), "{error}");
}

const CHILD: &str = "SKIFF_TEST_PROXY_CHILD";

/// In a process of its own, whose environment names a proxy that is not there.
#[test]
fn looks_for_no_proxy() {
    if std::env::var_os(CHILD).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(async {
            let server = Server::start().await;
            let client = client(&server.endpoint);
            let digest = client.push("shop/cart", "1", &artifact(COMMAND), |_, _| {}).await.unwrap();
            pull(&client, &digest, 1 << 30).await.unwrap();
        });
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "roundtrip::looks_for_no_proxy"])
        .env(CHILD, "1")
        .env_remove("no_proxy")
        .env_remove("NO_PROXY");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, "http://127.0.0.1:1");
    }
    let child = child.output().unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}
