//! Requests of guests to servers outside. The servers are on loopback addresses, which are as far outside as a test gets:
//! they need grants like any other address that is not public.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use skiff_api::grant::Allow;
use skiff_host::capabilities::Resolve;
use skiff_host::{Node, NodeHandle, NodeOptions};

use crate::support::*;

fn allow(http: &[&str], private: &[&str]) -> Allow {
    Allow {
        http: http.iter().map(|text| text.parse().unwrap()).collect(),
        private: private.iter().map(|text| text.parse().unwrap()).collect(),
        ..Allow::default()
    }
}

/// A server that counts its connections.
struct Server {
    addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    async fn at(ip: &str) -> Self {
        let listener = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let routes = Router::new()
            .route("/", get(|| async { "outside\n" }))
            .route("/big", get(|| async { vec![b'x'; 2_000_000] }))
            .route("/host", get(|headers: http::HeaderMap| async move { headers["host"].to_str().unwrap().to_owned() }))
            .route("/close", get(|| async { ([("connection", "close")], "closed\n") }))
            .route("/moved", get(|| async { (http::StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]) }))
            .route("/never", get(std::future::pending::<()>));
        let counted = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let service = hyper_util::service::TowerToHyperService::new(routes.clone());
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        Self { addr, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Answers each look-up of a name with the next of its addresses.
#[derive(Debug, Default)]
struct Names(Mutex<BTreeMap<String, Vec<IpAddr>>>);

impl Names {
    fn of(name: &str, addresses: &[&str]) -> Arc<Self> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(BTreeMap::from([(name.to_owned(), addresses)]))))
    }
}

#[async_trait::async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock().unwrap();
        let addresses = names.get_mut(host).ok_or_else(|| io::Error::other("no such host"))?;
        Ok(if addresses.len() > 1 { vec![addresses.remove(0)] } else { addresses.clone() })
    }
}

async fn probe(world: &World, options: NodeOptions, allow: Allow) -> (NodeHandle, Control) {
    let node = Node::start(options).await.unwrap();
    let mut control = Control::of(&node).await;
    let mut template = world.template("probe");
    template.allow = allow;
    control.route([routes("app", &[(None, "/")])]).await;
    control.desire([assignment("app", "app-1-a", template)]).await;
    control.until_ready("app-1-a").await;
    (node, control)
}

async fn fetch(web: &Web, url: &str) -> String {
    web.get(&format!("/outbound?url={url}")).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_not_reached() {
    let world = World::new().await;
    let server = Server::at("127.0.0.1").await;
    let port = server.addr.port();
    let (node, mut control) = probe(&world, world.options(), allow(&["http://*:*"], &[])).await;
    let web = Web::h1(node.gateway_addr());
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://{}/", node.gateway_addr()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://10.255.255.1/".to_owned(),
    ] {
        let text = fetch(&web, &url).await;
        assert!(text.contains("DestinationIpProhibited"), "{url}: {text}");
    }
    let event = control.event("OutboundDenied").await;
    assert!(event.message.contains("(hint: allow: {private: [\"127.0.0.1\"]})"), "{event:?}");
    let https = fetch(&web, &format!("https://127.0.0.1:{port}/")).await;
    assert!(https.contains("HttpRequestDenied"), "{https}");
    for url in
        [format!("http://127.1:{port}/"), format!("http://2130706433:{port}/"), format!("http://u@127.0.0.1:{port}/")]
    {
        let text = fetch(&web, &url).await;
        assert!(text.contains("HttpRequestUriInvalid"), "{url}: {text}");
    }
    assert_eq!(server.accepted(), 0, "something connected");
    assert_eq!(metric(&node, "skiff_outbound_refused_total{why=\"address\"}"), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_is_reached_on_connections_that_are_kept() {
    let world = World::new().await;
    let server = Server::at("127.0.0.1").await;
    let port = server.addr.port();
    let named = format!("http://127.0.0.1:{port}");
    let (node, _control) = probe(&world, world.options(), allow(&[&named, "http://127.0.0.1:1"], &[])).await;
    let web = Web::h1(node.gateway_addr());
    for _ in 0..8 {
        assert_eq!(fetch(&web, &format!("{named}/")).await, "200\noutside\n");
    }
    assert!(server.accepted() < 8, "no connection was used twice");
    assert_eq!(fetch(&web, &format!("{named}/host")).await, format!("200\n127.0.0.1:{port}"));
    assert_eq!(fetch(&web, &format!("{named}/big")).await.len(), "200\n".len() + 2_000_000);
    for _ in 0..3 {
        assert_eq!(fetch(&web, &format!("{named}/close")).await, "200\nclosed\n");
    }
    assert!(fetch(&web, &format!("{named}/moved")).await.starts_with("302\n"), "a redirect was followed");
    assert!(fetch(&web, "http://127.0.0.1:1/").await.contains("ConnectionRefused"));
    // The request ends by its service's own limit, and the one that it sent with it.
    let late = web.get(&format!("/outbound?url={named}/never")).await;
    assert_eq!((late.status.as_u16(), late.code()), (504, "first-byte-timeout"));
    until_metric(&node, "skiff_outbound_requests_in_flight", |value| value == 0).await;
    assert_eq!(metric(&node, "skiff_outbound_failed_total"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_is_checked_is_the_one_that_is_reached() {
    let world = World::new().await;
    let (granted, other) = (Server::at("127.0.0.2").await, Server::at("127.0.0.1").await);
    let port = granted.addr.port();
    // The second look-up answers with an address that was not granted, on a port where the other one could listen.
    let names = Names::of("rebind.example", &["127.0.0.2", "127.0.0.1"]);
    let options = NodeOptions { names, ..world.options() };
    let (node, _control) = probe(&world, options, allow(&["http://rebind.example:*"], &["127.0.0.2"])).await;
    let web = Web::h1(node.gateway_addr());
    let url = format!("http://rebind.example:{port}/close");
    assert_eq!(fetch(&web, &url).await, "200\nclosed\n");
    let rebound = fetch(&web, &format!("http://rebind.example:{}/", other.addr.port())).await;
    assert!(rebound.contains("DestinationIpProhibited"), "{rebound}");
    assert_eq!((granted.accepted(), other.accepted()), (1, 0));
    let unknown = fetch(&web, "http://other.example:1/").await;
    assert!(unknown.contains("HttpRequestDenied"), "{unknown}");
}
