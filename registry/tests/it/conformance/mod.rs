//! The cases of the distribution specification's conformance suite, by their names, as raw HTTP.
//!
//! - [`blobs`]: every way to push a blob, ranges, well-known contents, bad digests; per algorithm.
//! - [`data`]: what is pushed, as manifests and blobs.
//! - [`manifests`]: push, list, head, pull, referrers, delete of each of these; and errors.
//! - [`peer`]: Debian's `docker-registry`, for which the same list must fail where it is known to.

mod blobs;
mod data;
mod manifests;
mod peer;

use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::support::{Server, http};

/// What a case finds: nothing, or what is wrong.
type Outcome = Result<(), String>;

const REPOSITORY: &str = "conformance/repo1";
const OTHER: &str = "conformance/repo2";

/// A registry under test, and what was found.
struct Suite {
    http: reqwest::Client,
    base: String,
    cases: Vec<(String, Outcome)>,
}

/// An answer, read whole.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    what: String,
}

impl Suite {
    async fn run(endpoint: &str) -> Vec<(String, Outcome)> {
        let mut suite = Self { http: http(), base: format!("http://{endpoint}"), cases: Vec::new() };
        suite.ping().await;
        suite.empty().await;
        suite.all_blobs().await;
        suite.all_manifests().await;
        suite.manifest_errors().await;
        suite.cases
    }

    fn case(&mut self, name: impl Into<String>, outcome: Outcome) {
        self.cases.push((name.into(), outcome));
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, path, headers, reqwest::Body::from(body.to_vec())).await
    }

    /// A body of a length that is not announced.
    async fn stream(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let pieces: Vec<_> = body.chunks(100).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        self.send(method, path, headers, reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))).await
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: reqwest::Body) -> Answer {
        // A Location may be a path or a whole address.
        let url = if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() };
        let what = format!("{method} {path}");
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match request.body(body).send().await {
            Ok(answer) => {
                let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
                let body = answer.bytes().await.map(|body| body.to_vec()).unwrap_or_default();
                Answer { status, headers, body, what }
            }
            Err(e) => Answer { status: 0, headers: HeaderMap::new(), body: e.to_string().into_bytes(), what },
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], b"").await
    }

    async fn ping(&mut self) {
        let answer = self.get("/v2/").await;
        self.case("ping", answer.is(&[200]));
    }

    async fn empty(&mut self) {
        let tags = self.get("/v2/conformance/nothing/tags/list").await;
        self.case("empty/tag list", tags.is(&[404]));
        let digest = skiff_registry::hash::sha256(b"never pushed");
        let referrers = self.get(&format!("/v2/conformance/nothing/referrers/{digest}")).await;
        let list = || match referrers.json()["manifests"].as_array() {
            Some(list) if list.is_empty() => referrers.has("content-type", skiff_registry::manifest::media::OCI_INDEX),
            _ => Err("the list is not empty".to_owned()),
        };
        self.case("empty/referrers", referrers.is(&[200]).and_then(|()| list()));
    }
}

impl Answer {
    fn is(&self, statuses: &[u16]) -> Outcome {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]);
        check(statuses.contains(&self.status), || {
            format!("{}: status {} instead of {statuses:?}: {body}", self.what, self.status)
        })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn has(&self, name: &str, value: &str) -> Outcome {
        check(self.header(name) == value, || {
            format!("{}: {name} is {:?} instead of {value:?}", self.what, self.header(name))
        })
    }

    fn is_body(&self, body: &[u8]) -> Outcome {
        check(self.body == body, || format!("{}: the body is another", self.what))
    }

    /// Where to go on.
    fn location(&self) -> Result<String, String> {
        match self.header("location") {
            "" => Err(format!("{}: there is no Location", self.what)),
            location => Ok(location.to_owned()),
        }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn check(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(why()) }
}

/// A location with one more parameter.
fn with_query(location: &str, query: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}{query}")
}

#[tokio::test]
async fn the_embedded_registry_passes_every_case() {
    let server = Server::start().await;
    let cases = Suite::run(&server.endpoint).await;
    let failed: Vec<_> = cases.iter().filter_map(|(name, outcome)| Some((name, outcome.as_ref().err()?))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let names: std::collections::BTreeSet<_> = cases.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert_eq!(server.left(), 0, "an upload was left behind");
}
