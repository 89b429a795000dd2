//! Registries of other people: how they want one to log in, and what a bad line or a busy one does.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, RANGE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::stream;
use serde_json::json;
use skiff_disk::Disk;
use skiff_registry::client::{Credential, Error};
use skiff_registry::hash::sha256;
use skiff_registry::manifest::media;
use skiff_registry::{Artifact, Client, ClientOptions};
use tokio::net::TcpListener;

use crate::support::Server;

/// What a test's registry does, and what it has seen.
#[derive(Debug, Default)]
struct Seen {
    /// What was shown for each request, `-` for nothing.
    shown: Vec<String>,
    /// Questions for tokens: query or form, and what was shown.
    tokens: Vec<String>,
    ranges: Vec<String>,
}

#[derive(Clone)]
struct Foreign {
    seen: Arc<Mutex<Seen>>,
    /// `WWW-Authenticate`, with `REALM` for the address of tokens.
    challenge: &'static str,
    accepts: &'static str,
    blob: Arc<Vec<u8>>,
    line: Line,
    requests: Arc<AtomicUsize>,
}

/// What happens to a blob on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Good,
    /// It breaks after so many bytes of each answer.
    Breaks(usize),
    /// The same, and ranges are not understood: each answer is of all and a little longer than the last.
    BreaksWithoutRanges(usize),
    /// It breaks, and the rest is of another blob.
    Lies(usize),
    /// The first answers are 429, with a time to come back.
    Busy(usize),
}

impl Foreign {
    fn new(challenge: &'static str, accepts: &'static str) -> Self {
        let blob = Arc::new(component(3 << 20));
        let (seen, requests) = (Arc::default(), Arc::default());
        Self { seen, challenge, accepts, blob, line: Line::Good, requests }
    }

    fn manifest(&self) -> Vec<u8> {
        let layer = json!({"mediaType": media::WASM_LAYER, "digest": sha256(&self.blob), "size": self.blob.len()});
        json!({"schemaVersion": 2, "layers": [layer]}).to_string().into_bytes()
    }

    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let routes = Router::new().fallback(any(answer)).with_state((self.clone(), endpoint.clone()));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        endpoint
    }

    /// Pulls the component, as a user with this login.
    async fn pull(&self, login: Option<Credential>) -> Result<Vec<u8>, Error> {
        let endpoint = self.serve().await;
        let client = Client::new(ClientOptions {
            idle_timeout: Duration::from_secs(20),
            attempts: 3,
            ..ClientOptions::foreign(&endpoint, false, login)
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        let client = client.unwrap();
        let digest = client.resolve("shop/cart", "1").await?;
        client.pull_component("shop/cart", &digest, (&Disk::real(), &path), 8 << 20, |_, _| {}).await?;
        Ok(std::fs::read(path).unwrap())
    }

    fn seen(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn component(bytes: usize) -> Vec<u8> {
    wat::parse_str(format!("(component (@custom \"filler\" \"{}\"))", "x".repeat(bytes))).unwrap()
}

async fn answer(State((foreign, endpoint)): State<(Foreign, String)>, request: Request) -> Response {
    let (shown, range) = {
        let header = |name| request.headers().get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        (header(AUTHORIZATION), header(RANGE))
    };
    let uri = request.uri().clone();
    if uri.path() == "/token" {
        let form = axum::body::to_bytes(request.into_body(), 1 << 16).await.unwrap();
        let asked = uri.query().unwrap_or_else(|| str::from_utf8(&form).unwrap());
        foreign.seen.lock().unwrap().tokens.push(format!("{asked} {shown}"));
        return match shown.ends_with("wrong") {
            true => StatusCode::UNAUTHORIZED.into_response(),
            false => json!({"access_token": "granted", "expires_in": 300}).to_string().into_response(),
        };
    }
    foreign.seen.lock().unwrap().shown.push(shown.clone());
    if shown != foreign.accepts {
        let challenge = foreign.challenge.replace("REALM", &format!("http://{endpoint}/token"));
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response();
    }
    let busy = foreign.requests.fetch_add(1, SeqCst);
    if let Line::Busy(times) = foreign.line
        && busy < times
    {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response();
    }
    if uri.path().contains("/manifests/") {
        let manifest = foreign.manifest();
        let digest = sha256(&manifest).to_string();
        let body = if request.method() == Method::HEAD { Vec::new() } else { manifest };
        return ([("content-type", media::OCI_MANIFEST), ("docker-content-digest", &digest)], body).into_response();
    }
    foreign.blob(&range, busy)
}

impl Foreign {
    fn blob(&self, range: &str, request: usize) -> Response {
        if range != "-" {
            self.seen.lock().unwrap().ranges.push(range.to_owned());
        }
        let from = range.strip_prefix("bytes=").map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        let size = self.blob.len();
        let (from, to) = match self.line {
            Line::Good | Line::Busy(_) => (from, size),
            Line::Breaks(bytes) | Line::Lies(bytes) => (from, size.min(from + bytes)),
            Line::BreaksWithoutRanges(bytes) => (0, size.min(bytes * request)),
        };
        let mut part = self.blob[from..to].to_vec();
        if matches!(self.line, Line::Lies(_)) && from > 0 {
            part[0] ^= 1;
        }
        let broken = (to < size).then(|| Err(std::io::Error::other("broken")));
        let body = Body::from_stream(stream::iter([Ok(part)].into_iter().chain(broken)));
        let length = ("content-length", (size - from).to_string());
        match from {
            0 => ([length], body).into_response(),
            _ => {
                let range = ("content-range", format!("bytes {from}-{}/{size}", size - 1));
                (StatusCode::PARTIAL_CONTENT, [length, range], body).into_response()
            }
        }
    }
}

fn login(password: &str) -> Option<Credential> {
    Some(Credential::Password { user: "ann".into(), password: password.into() })
}

/// `ann:pw`.
const BASIC: &str = "Basic YW5uOnB3";

#[tokio::test]
async fn logs_in_with_a_password_once_it_is_asked_for() {
    let foreign = Foreign::new("Basic realm=\"x\"", BASIC);
    assert_eq!(foreign.pull(login("pw")).await.unwrap(), *foreign.blob);
    // TLS is looked for first, on this machine too: that connection is none.
    assert_eq!(foreign.seen().shown, ["-", BASIC, BASIC, BASIC]);
    let error = foreign.pull(None).await.unwrap_err().to_string();
    assert!(error.contains("wants a login for shop/cart:1 (hint: skiff login 127.0.0.1:"), "{error}");
    let error = foreign.pull(login("other")).await.unwrap_err().to_string();
    assert!(error.contains("does not accept the login for shop/cart:1"), "{error}");
}

const BEARER: &str = "Bearer realm=\"REALM\",service=\"reg\",scope=\"repository:shop/cart:pull\"";

#[tokio::test]
async fn buys_one_token_for_all_that_it_is_good_for() {
    let foreign = Foreign::new(BEARER, "Bearer granted");
    assert_eq!(foreign.pull(login("pw")).await.unwrap(), *foreign.blob);
    let seen = foreign.seen();
    assert_eq!(seen.shown, ["-", "Bearer granted", "Bearer granted", "Bearer granted"]);
    assert_eq!(seen.tokens, [format!("service=reg&scope=repository%3Ashop%2Fcart%3Apull {BASIC}")]);
    // Anybody may pull what is public, with a token.
    foreign.pull(None).await.unwrap();
    assert_eq!(foreign.seen().tokens, ["service=reg&scope=repository%3Ashop%2Fcart%3Apull -"]);
    foreign.pull(Some(Credential::Identity("it".into()))).await.unwrap();
    let asked =
        "grant_type=refresh_token&service=reg&client_id=skiff&scope=repository%3Ashop%2Fcart%3Apull&refresh_token=it -";
    assert_eq!(foreign.seen().tokens, [asked]);
    foreign.pull(Some(Credential::Bearer("granted".into()))).await.unwrap();
    assert!(foreign.seen().tokens.is_empty());
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_not_bought_again_and_again() {
    let foreign = Foreign::new(BEARER, "Bearer other");
    let error = foreign.pull(login("pw")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert_eq!(foreign.seen().tokens.len(), 1);
}

#[tokio::test]
async fn asks_for_tokens_where_it_may_only() {
    for realm in ["Bearer realm=\"file:///etc/passwd\"", "Bearer realm=\"no address\""] {
        let error = Foreign::new(realm, "Bearer granted").pull(login("pw")).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
}

#[tokio::test]
async fn goes_on_where_a_pull_broke_off() {
    let foreign = Foreign { line: Line::Breaks(1_100_000), ..Foreign::new("", "-") };
    assert_eq!(foreign.pull(None).await.unwrap(), *foreign.blob);
    let ranges = foreign.seen().ranges;
    assert!(ranges.len() >= 2 && ranges[0] != ranges[1], "{ranges:?}");
    let foreign = Foreign { line: Line::BreaksWithoutRanges(900_000), ..Foreign::new("", "-") };
    assert_eq!(foreign.pull(None).await.unwrap(), *foreign.blob);
}

#[tokio::test]
async fn a_rest_that_does_not_fit_is_found() {
    let foreign = Foreign { line: Line::Lies(1_100_000), ..Foreign::new("", "-") };
    let error = foreign.pull(None).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_line_that_brings_nothing_is_given_up() {
    let foreign = Foreign { line: Line::Breaks(10), ..Foreign::new("", "-") };
    let error = foreign.pull(None).await.unwrap_err();
    assert!(matches!(error, Error::Transfer { .. }), "{error}");
}

#[tokio::test]
async fn comes_back_when_a_busy_registry_says() {
    let foreign = Foreign { line: Line::Busy(2), ..Foreign::new("", "-") };
    assert_eq!(foreign.pull(None).await.unwrap(), *foreign.blob);
    let foreign = Foreign { line: Line::Busy(3), ..Foreign::new("", "-") };
    assert!(matches!(foreign.pull(None).await.unwrap_err(), Error::Unavailable { status: 429, .. }));
}

#[tokio::test]
async fn pushes_where_blobs_are_taken_whole() {
    let server = Server::start().await;
    let client = Client::new(ClientOptions::foreign(&server.endpoint, false, None)).unwrap();
    let artifact = Artifact::from_wasm("a.wasm", component(6 << 20)).unwrap();
    let digest = client.push("shop/cart", "1", &artifact, |_, _| {}).await.unwrap();
    assert_eq!(client.tags("shop/cart").await.unwrap(), Some(vec!["1".to_owned()]));
    assert_eq!(client.tags("shop/none").await.unwrap(), None);
    let manifest = client.pull_manifest("shop/cart", "1").await.unwrap();
    assert_eq!(client.put_manifest("shop/cart", "2", &manifest.media_type, &manifest.bytes).await.unwrap(), digest);
    assert_eq!(client.repositories().await.unwrap(), ["shop/cart"]);
    assert!(client.delete_manifest("shop/cart", "2").await.unwrap());
    assert!(!client.delete_manifest("shop/cart", "2").await.unwrap());
    assert_eq!(client.resolve("shop/cart", "1").await.unwrap(), digest);
}

#[tokio::test]
async fn lists_of_many_pages_are_read_to_their_end() {
    let server = Server::start().await;
    let client = Client::new(ClientOptions::new(&server.endpoint)).unwrap();
    let artifact = Artifact::from_wasm("a.wasm", component(10)).unwrap();
    client.push("shop/cart", "0", &artifact, |_, _| {}).await.unwrap();
    for tag in 1..1100 {
        let tag = tag.to_string();
        client.put_manifest("shop/cart", &tag, media::OCI_MANIFEST, artifact.manifest()).await.unwrap();
    }
    let tags = client.tags("shop/cart").await.unwrap().unwrap();
    assert_eq!(tags.len(), 1100);
}
