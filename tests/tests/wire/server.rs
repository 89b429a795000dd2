//! One `skiff server`, and the API behind its TLS.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use jiff::Timestamp;
use reqwest::{Client, Method};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use skiff_api::wire::join::{JoinRequest, RenewRequest};
use skiff_api::{NodeName, Uid};
use skiff_link::tls::{self, Expect, Trust};
use skiff_link::{Authority, Clock, Identity, JoinToken, Key};
use skiff_tests::skiff_binary;
use tempfile::TempDir;

/// Killed, and waited for, when dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) folder: TempDir,
    child: Child,
    data: String,
    pub(crate) token: String,
    ca: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::Builder::new().prefix("skiff-wire-").tempdir().unwrap(), "127.0.0.1:0", "data")
    }

    /// With an authority that is there already, as after a restore: it began in the past.
    pub(crate) fn start_of(since: Timestamp) -> Self {
        let folder = tempfile::Builder::new().prefix("skiff-wire-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let authority = Authority::generate(since).unwrap();
        std::fs::write(folder.path().join("data/authority.pem"), authority.to_pem()).unwrap();
        Self::start_in(folder, "127.0.0.1:0", "data")
    }

    fn start_in(folder: TempDir, listen: &str, data: &str) -> Self {
        let log = File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let mut child = Command::new(skiff_binary())
            .args(["server", "--listen", listen, "--name", "skiff.example", "--data"])
            .arg(folder.path().join(data))
            .env("SKIFF_CONFIG", folder.path().join("context.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = line.strip_prefix("ready api=https://").and_then(|rest| rest.split(' ').next()?.parse().ok());
        let Some(addr) = ready else {
            panic!("{line:?}: {}", std::fs::read_to_string(folder.path().join("log")).unwrap())
        };
        let read = |name: &str| std::fs::read_to_string(folder.path().join(data).join(name)).unwrap();
        let ca = Authority::from_pem(&read("authority.pem")).unwrap().ca_pem();
        let token = read("token");
        let data = data.to_owned();
        Self { addr, folder, child, data, token, ca }
    }

    /// The same data folder and address, in a new process.
    pub(crate) fn restart(self) -> Self {
        let data = self.data.clone();
        self.restart_on(&data)
    }

    /// Another data folder, at the same address.
    pub(crate) fn restart_on(mut self, data: &str) -> Self {
        self.end();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Self::start_in(folder, &self.addr.to_string(), data)
    }

    fn end(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::KILL);
        self.child.wait().unwrap();
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::Ca(self.ca.clone())
    }

    /// The authority itself, for certificates that the server would not issue.
    pub(crate) fn authority(&self) -> Authority {
        Authority::from_pem(
            &std::fs::read_to_string(self.folder.path().join(&self.data).join("authority.pem")).unwrap(),
        )
        .unwrap()
    }

    pub(crate) fn http(&self, identity: Option<&Identity>) -> Client {
        let clock = Clock::new(Timestamp::UNIX_EPOCH);
        let config = tls::client(&self.trust(), Expect::ControlPlane, identity, &[tls::ALPN_H1], &clock).unwrap();
        Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.addr)
    }

    /// What the API answers its administrator.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.http(None).request(method, self.url(path)).bearer_auth(&self.token).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub(crate) async fn token(&self, request: Value) -> JoinToken {
        let (status, body) = self.call(Method::POST, "/v1/tokens", request).await;
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().unwrap().parse().unwrap()
    }

    /// What joining answers; the machine knows no more than its token.
    pub(crate) async fn join(&self, token: &JoinToken, key: &Key, name: &str) -> (u16, Value) {
        let clock = Clock::new(Timestamp::UNIX_EPOCH);
        let trust = Trust::Hash(token.ca_hash.clone());
        let config = tls::client(&trust, Expect::ControlPlane, None, &[tls::ALPN_H2, tls::ALPN_H1], &clock).unwrap();
        let client = Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap();
        let request = JoinRequest {
            id: token.id.to_string(),
            secret: token.secret.reveal().to_owned(),
            csr: key.csr().unwrap(),
            name: NodeName::new(name),
            labels: Default::default(),
        };
        let response = client.post(self.url("/v1/join")).json(&request).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// A machine that has joined.
    pub(crate) async fn joined(&self, name: &str) -> Identity {
        let (token, key) = (self.token(json!({})).await, Key::generate().unwrap());
        let (status, body) = self.join(&token, &key, name).await;
        assert_eq!(status, 200, "{body}");
        Identity::new(&key, body["chain"].as_str().unwrap(), body["ca"].as_str().unwrap()).unwrap()
    }

    pub(crate) async fn renew(&self, identity: Option<&Identity>) -> (u16, Value) {
        let key = Key::generate().unwrap();
        let request = RenewRequest { csr: key.csr().unwrap() };
        let response = self.http(identity).post(self.url("/v1/renew")).json(&request).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// What the registry answers somebody with that certificate, and with no token.
    pub(crate) async fn registry(&self, identity: Option<&Identity>, method: Method, path: &str) -> u16 {
        let request = self.http(identity).request(method, self.url(path));
        request.send().await.unwrap().status().as_u16()
    }

    /// Puts a blob into the registry; its digest.
    pub(crate) async fn push(&self, blob: &[u8]) -> String {
        let hash = <sha2::Sha256 as sha2::Digest>::digest(blob);
        let digest = hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        let url = self.url(&format!("/v2/default/blobs/blobs/uploads/?digest={digest}"));
        let sent = self.http(None).post(url).bearer_auth(&self.token).body(blob.to_vec()).send().await.unwrap();
        assert_eq!(sent.status(), 201);
        digest
    }

    pub(crate) async fn pull(&self, digest: &str) -> Vec<u8> {
        let url = self.url(&format!("/v2/default/blobs/blobs/{digest}"));
        let answer = self.http(None).get(url).bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap().to_vec()
    }

    pub(crate) async fn liveness(&self, node: &str) -> String {
        let (_, body) = self.call(Method::GET, &format!("/v1/nodes/{node}"), json!(null)).await;
        body["status"]["liveness"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) async fn until_liveness(&self, node: &str, liveness: &str) {
        let start = std::time::Instant::now();
        while self.liveness(node).await != liveness {
            assert!(start.elapsed() < skiff_tests::wait::PATIENCE, "node {node} is not {liveness}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// A certificate that the cluster's authority issued at another time, or for another machine.
    pub(crate) fn issued(&self, uid: &Uid, at: Timestamp) -> Identity {
        let (authority, key) = (self.authority(), Key::generate().unwrap());
        let chain = authority.issue_node(&key.csr().unwrap(), uid, at).unwrap();
        Identity::new(&key, &chain, &authority.ca_pem()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
