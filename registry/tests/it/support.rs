//! A registry on a free port, and short ways to talk to it.

use std::sync::Arc;

use axum::Router;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, StatusCode};
use skiff_api::Digest;
use skiff_disk::Disk;
use skiff_registry::hash::sha256;
use skiff_registry::store::Limits;
use skiff_registry::{Action, Authorizer, Decision, Registry, router};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) registry: Registry,
    pub(crate) http: reqwest::Client,
    dir: Option<TempDir>,
    task: JoinHandle<()>,
}

/// An answer with its body read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Lets everybody do everything.
pub(crate) struct Open;

impl Authorizer for Open {
    fn authorize(&self, _: Option<&str>, _: Action, _: Option<&str>) -> Decision {
        Decision::Allowed
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self::on(Registry::open(Disk::real(), dir.path().join("registry")).unwrap(), Open).await;
        server.dir = Some(dir);
        server
    }

    /// One with other limits.
    pub(crate) async fn with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open_with(Disk::real(), dir.path().join("registry"), limits).unwrap();
        let mut server = Self::on(registry, Open).await;
        server.dir = Some(dir);
        server
    }

    pub(crate) async fn on(registry: Registry, auth: impl Authorizer) -> Self {
        let routes = router(registry.clone(), Arc::new(auth));
        Self::routes(registry, routes).await
    }

    pub(crate) async fn routes(registry: Registry, routes: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { endpoint, registry, http: http(), dir: None, task }
    }

    /// The next process on the same data.
    pub(crate) async fn restart(mut self) -> Self {
        let dir = self.dir.take().unwrap();
        let limits = self.registry.limits().clone();
        drop(self);
        let registry = Registry::open_with(Disk::real(), dir.path().join("registry"), limits).unwrap();
        let mut server = Self::on(registry, Open).await;
        server.dir = Some(dir);
        server
    }

    /// A request whose body comes in pieces of a length that nobody was told.
    pub(crate) async fn stream(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        pieces: &[&[u8]],
    ) -> Answer {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let mut request = self.http.request(method, format!("http://{}{path}", self.endpoint));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let answer = request.body(body).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer { status, headers, body: answer.bytes().await.unwrap().to_vec() }
    }

    /// How many files of unfinished uploads there are.
    pub(crate) fn left(&self) -> usize {
        std::fs::read_dir(self.dir().join("uploads")).unwrap().count()
    }

    /// The folder of the registry's data.
    pub(crate) fn dir(&self) -> std::path::PathBuf {
        self.dir.as_ref().unwrap().path().join("registry")
    }

    pub(crate) async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = self.http.request(method, format!("http://{}{path}", self.endpoint));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body.to_vec()).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer { status, headers, body: answer.bytes().await.unwrap().to_vec() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], b"").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], b"").await
    }

    /// Pushes a blob at once.
    pub(crate) async fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let answer = self.call(Method::POST, &path, &[], bytes).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        digest
    }

    /// Starts an upload; returns its path.
    pub(crate) async fn upload(&self, repository: &str) -> String {
        let answer = self.call(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), &[], b"").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        assert_eq!(answer.header("range"), "0-0");
        answer.header("location").to_owned()
    }

    /// Pushes a manifest of the OCI type.
    pub(crate) async fn manifest(&self, repository: &str, reference: &str, bytes: &[u8]) -> Answer {
        let headers = [("content-type", skiff_registry::manifest::media::OCI_MANIFEST)];
        self.call(Method::PUT, &format!("/v2/{repository}/manifests/{reference}"), &headers, bytes).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &'static str) -> &str {
        self.headers.get(HeaderName::from_static(name)).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The specification's error code.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

/// A plain client. It speaks no TLS, but is not built without a configuration for it.
pub(crate) fn http() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

/// A manifest over blobs of a repository.
pub(crate) fn manifest_of(config: &Digest, layers: &[&Digest], more: &str) -> Vec<u8> {
    let descriptor = |digest: &Digest| format!(r#"{{"mediaType":"text/plain","digest":"{digest}","size":1}}"#);
    let layers: Vec<String> = layers.iter().map(|layer| descriptor(layer)).collect();
    let (config, layers) = (descriptor(config), layers.join(","));
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]{more}}}"#).into_bytes()
}
