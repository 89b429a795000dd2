//! Who may be a node: joining, renewing, removing, and what a certificate is worth on a link.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use skiff_api::Uid;
use skiff_api::resource::{Liveness, NodeSpec, Phase};
use skiff_api::wire::join::{JOIN_PATH, JoinAnswer, JoinRequest, RENEW_PATH, RenewAnswer, RenewRequest};
use skiff_api::wire::{FromNode, Hello, ToNode};
use skiff_api::{NodeName, Problem};
use skiff_link::{Authority, Clock, Identity, JoinToken, Key, Peer};
use skiff_scheduler::FleetOptions;
use skiff_scheduler::link::NodeLink;
use tower::ServiceExt;

use crate::cluster::{Cluster, PATIENCE};
use crate::node::{FakeNode, View, hello, ready};

/// A cluster that machines may join, and its clock.
async fn fleet() -> (Cluster, Arc<Clock>) {
    let clock = Clock::new(Timestamp::UNIX_EPOCH);
    let authority = Arc::new(Authority::generate(clock.now()).unwrap());
    (Cluster::start_fleet(FleetOptions { authority, clock: Arc::clone(&clock) }).await, clock)
}

impl Cluster {
    async fn ask(&self, method: &str, path: &str, body: impl Serialize, peer: Option<Peer>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("authorization", "Bearer secret");
        let mut request = request.body(Body::from(serde_json::to_vec(&body).unwrap())).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let response = self.control.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn token(&self, request: Value) -> JoinToken {
        let (status, body) = self.ask("POST", "/v1/tokens", request, None).await;
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().unwrap().parse().unwrap()
    }

    async fn join(&self, token: &JoinToken, key: &Key, name: &str) -> Result<JoinAnswer, Problem> {
        self.join_labelled(token, key, name, &[]).await
    }

    async fn join_labelled(
        &self,
        token: &JoinToken,
        key: &Key,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Result<JoinAnswer, Problem> {
        let request = JoinRequest {
            id: token.id.to_string(),
            secret: token.secret.reveal().to_owned(),
            csr: key.csr().unwrap(),
            name: NodeName::new(name),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        answer(self.ask("POST", JOIN_PATH, request, None).await)
    }

    async fn renew(&self, key: &Key, peer: Option<Peer>) -> Result<RenewAnswer, Problem> {
        answer(self.ask("POST", RENEW_PATH, RenewRequest { csr: key.csr().unwrap() }, peer).await)
    }

    async fn used(&self, token: &JoinToken) -> u64 {
        let (_, body) = self.ask("GET", &format!("/v1/tokens/{}", token.id), "", None).await;
        body["status"]["used"].as_u64().unwrap()
    }

    async fn joined(&self, name: &str) -> (Key, Uid) {
        let (token, key) = (self.token(json!({})).await, Key::generate().unwrap());
        let uid = self.join(&token, &key, name).await.unwrap().uid;
        (key, uid)
    }
}

fn answer<T: serde::de::DeserializeOwned>((status, body): (u16, Value)) -> Result<T, Problem> {
    match status {
        200 => Ok(serde_json::from_value(body).unwrap()),
        _ => Err(serde_json::from_value(body).unwrap()),
    }
}

fn code<T>(result: Result<T, Problem>) -> String {
    let problem = result.err().unwrap();
    assert_eq!(problem.status, problem.code.status());
    serde_json::to_value(problem.code).unwrap().as_str().unwrap().to_owned()
}

fn hello_of(name: &str, uid: &Uid) -> Hello {
    Hello { uid: uid.clone(), ..hello(name) }
}

/// What the link was refused for.
async fn refused(mut link: NodeLink, hello: Hello) -> String {
    link.to_control.send(FromNode::Hello(hello)).await.unwrap();
    let mut next = async || tokio::time::timeout(PATIENCE, link.from_control.recv()).await.unwrap();
    let Some(ToNode::Refused { why }) = next().await else { panic!("it was not refused") };
    assert_eq!(next().await, None);
    why
}

#[tokio::test]
async fn a_token_makes_a_node_and_asking_twice_makes_one() {
    let (cluster, _) = fleet().await;
    let token = cluster.token(json!({"uses": 2, "labels": {"pool": "edge", "disk": "ssd"}})).await;
    let key = Key::generate().unwrap();
    let labels = [("disk", "none"), ("rack", "7")];
    let joined = cluster.join_labelled(&token, &key, "n1", &labels).await.unwrap();
    let union = [("disk", "ssd"), ("pool", "edge"), ("rack", "7")];
    let union: BTreeMap<_, _> = union.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(joined.labels, union, "what the token says counts");
    let identity = Identity::new(&key, &joined.chain, &joined.ca).unwrap();
    assert_eq!((identity.uid(), identity.ca_hash()), (Some(&joined.uid), token.ca_hash.clone()));
    let node = cluster.objects.find::<NodeSpec>(None, "n1").await.unwrap();
    assert_eq!((&node.metadata.uid, &node.metadata.labels), (&joined.uid, &union));
    assert_eq!(node.status.liveness, Liveness::Dead, "nobody has heard it yet");

    // The answer was lost.
    assert_eq!(cluster.join_labelled(&token, &key, "n1", &labels).await.unwrap().uid, joined.uid);
    assert_eq!(cluster.used(&token).await, 1);
    // Its key has a name, and its name a key.
    let twice = cluster.join(&token, &key, "n2").await;
    assert!(twice.clone().unwrap_err().detail.contains("it is node n1"), "{twice:?}");
    assert_eq!(code(twice), "already-exists");
    let other = Key::generate().unwrap();
    assert_eq!(code(cluster.join(&token, &other, "n1").await), "already-exists");
    assert_eq!(cluster.used(&token).await, 1);
    assert_ne!(cluster.join(&token, &other, "n2").await.unwrap().uid, joined.uid);
    // Of all uses only the last one's may ask again.
    assert_eq!(code(cluster.join(&token, &Key::generate().unwrap(), "n3").await), "token-used-up");
    cluster.join(&token, &other, "n2").await.unwrap();
    assert_eq!(cluster.used(&token).await, 2);
}

#[tokio::test]
async fn a_token_is_used_as_often_as_it_may_be_whoever_comes_at_once() {
    let (cluster, _) = fleet().await;
    let token = cluster.token(json!({"uses": 3})).await;
    let joins = (0..10).map(|n| {
        let (cluster, token) = (&cluster, &token);
        async move { cluster.join(token, &Key::generate().unwrap(), &format!("n{n}")).await }
    });
    let answers = futures_util::future::join_all(joins).await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 3);
    assert!(bad.into_iter().all(|refused| code(refused) == "token-used-up"));
    assert_eq!(cluster.used(&token).await, 3);
}

#[tokio::test]
async fn a_token_that_is_not_good_is_good_for_nothing() {
    let (cluster, clock) = fleet().await;
    let (good, key) = (cluster.token(json!({"ttl": "1h", "uses": 9})).await, Key::generate().unwrap());
    let stolen =
        |id: &str, secret: &str| format!("skiff1.{id}.{secret}.{}", good.ca_hash).parse::<JoinToken>().unwrap();
    let secret = good.secret.reveal();
    assert_eq!(code(cluster.join(&stolen("nobodys", secret), &key, "n1").await), "token-unknown");
    let unknown = cluster.join(&stolen("nobodys", secret), &key, "n1").await.unwrap_err();
    let guessed = cluster.join(&stolen(good.id.as_str(), &"0".repeat(32)), &key, "n1").await.unwrap_err();
    assert_eq!(unknown, guessed, "nobody learns which tokens there are");

    let revoked = cluster.token(json!({})).await;
    let path = format!("/v1/tokens/{}/revoke", revoked.id);
    for _ in 0..2 {
        assert_eq!(cluster.ask("POST", &path, "", None).await.0, 200);
    }
    assert_eq!(code(cluster.join(&revoked, &key, "n1").await), "token-revoked");
    clock.raise(Timestamp::now() + SignedDuration::from_hours(2));
    assert_eq!(code(cluster.join(&good, &key, "n1").await), "token-expired");
    assert!(cluster.objects.get::<NodeSpec>(None, "n1").await.unwrap().is_none());
    assert_eq!(cluster.used(&good).await, 0);
    // Of tokens that are long over nothing is kept.
    clock.raise(Timestamp::now() + SignedDuration::from_hours(24 * 40));
    cluster.token(json!({})).await;
    assert_eq!(cluster.ask("GET", &format!("/v1/tokens/{}", good.id), "", None).await.0, 404);
}

#[tokio::test]
async fn bad_requests_are_refused_and_use_nothing() {
    let (cluster, _) = fleet().await;
    let (token, key) = (cluster.token(json!({})).await, Key::generate().unwrap());
    for name in ["", ".", "..", "a/b", "a b", &"x".repeat(300)] {
        assert_eq!(code(cluster.join(&token, &key, name).await), "invalid", "{name}");
    }
    for label in [("a b", "x"), ("a", "x y"), ("node", "x")] {
        assert_eq!(code(cluster.join_labelled(&token, &key, "n1", &[label]).await), "invalid", "{label:?}");
    }
    let ask = async |csr: &str| {
        let body = json!({"id": token.id, "secret": token.secret.reveal(), "csr": csr, "name": "n1"});
        answer::<JoinAnswer>(cluster.ask("POST", JOIN_PATH, body, None).await)
    };
    for csr in ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"] {
        assert_eq!(code(ask(csr).await), "invalid", "{csr}");
    }
    for body in [json!(null), json!({}), json!({"id": 1}), json!([])] {
        assert_eq!(code(answer::<JoinAnswer>(cluster.ask("POST", JOIN_PATH, body, None).await)), "invalid");
    }
    let long = "x".repeat(2 << 20);
    assert_eq!(code(answer::<JoinAnswer>(cluster.ask("POST", JOIN_PATH, long, None).await)), "too-large");
    assert_eq!(cluster.used(&token).await, 0);
    let wrong = [
        json!({"uses": 0}),
        json!({"uses": 1_000_000}),
        json!({"ttl": "0s"}),
        json!({"ttl": "367d"}),
        json!({"labels": {"node": "x"}}),
        json!({"use": 1}),
    ];
    for request in wrong {
        assert_eq!(cluster.ask("POST", "/v1/tokens", &request, None).await.0, 400, "{request}");
    }
    cluster.join(&token, &key, "n1").await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_renewed_also_when_it_has_expired_and_for_nobody_else() {
    let (cluster, _) = fleet().await;
    let (_, uid) = cluster.joined("n1").await;
    let next = Key::generate().unwrap();
    for not_after in [Timestamp::now() + SignedDuration::from_hours(1), Timestamp::UNIX_EPOCH] {
        let renewed = cluster.renew(&next, Some(Peer { uid: uid.clone(), not_after })).await.unwrap();
        let identity = Identity::new(&next, &renewed.chain, &renewed.ca).unwrap();
        assert_eq!(identity.uid(), Some(&uid));
        assert!(identity.not_after() > Timestamp::now() + SignedDuration::from_hours(99 * 24));
    }
    assert_eq!(code(cluster.renew(&next, None).await), "unauthorized");
}

#[tokio::test]
async fn a_node_that_was_removed_is_let_in_nowhere_and_its_name_is_free() {
    let (cluster, _) = fleet().await;
    let (key, uid) = cluster.joined("n1").await;
    let mut node = FakeNode::connect(
        cluster.control.connect_certified(uid.clone()),
        hello_of("n1", &uid),
        View::default(),
        ready(),
    )
    .await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    node.wait("one", |view| view.assigned.len() == 1).await;
    let gate = cluster.control.fleet().unwrap().gate().clone();
    let ended = tokio::spawn({
        let (gate, uid) = (gate.clone(), uid.clone());
        async move { gate.revoked(&uid).await }
    });
    assert_eq!(cluster.ask("DELETE", "/v1/nodes/n1", "", None).await.0, 200);
    // Whoever carries the link ends it.
    tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    node.stop().await;
    assert_eq!(cluster.ask("DELETE", "/v1/nodes/n1", "", None).await.0, 404);

    let peer = Peer { uid: uid.clone(), not_after: Timestamp::MAX };
    assert!(gate.admit(&peer, Timestamp::now()).is_err());
    assert_eq!(code(cluster.renew(&key, Some(peer)).await), "node-revoked");
    let token = cluster.token(json!({})).await;
    assert_eq!(code(cluster.join(&token, &key, "n1").await), "node-revoked");
    // What it had is placed where there is room: on the machine that has its name now.
    let fresh = Key::generate().unwrap();
    let other = cluster.join(&token, &fresh, "n1").await.unwrap().uid;
    let link = cluster.control.connect_certified(other.clone());
    let _node = FakeNode::connect(link, hello_of("n1", &other), View::default(), ready()).await;
    cluster.node_is("n1", Liveness::Alive).await;
    cluster.ready("hello").await;
    assert!(cluster.replicas().await.iter().all(|replica| replica.status.phase == Phase::Ready));
}

#[tokio::test]
async fn a_machine_speaks_for_itself_and_by_its_own_name() {
    let (cluster, _) = fleet().await;
    let ((_, one), (_, two)) = (cluster.joined("n1").await, cluster.joined("n2").await);
    let good = FakeNode::connect(
        cluster.control.connect_certified(one.clone()),
        hello_of("n1", &one),
        View::default(),
        ready(),
    )
    .await;
    cluster.node_is("n1", Liveness::Alive).await;
    let link = || cluster.control.connect_certified(two.clone());
    let cases = [
        (hello_of("n1", &one), "its certificate is another machine's"),
        (hello_of("n2", &one), "its certificate is another machine's"),
        (hello_of("n1", &two), "another machine has that name"),
        (hello_of("n3", &two), "it is n2 and says that it is n3"),
    ];
    for (hello, why) in cases {
        let said = refused(link(), hello).await;
        assert!(said.contains(why), "{said}");
    }
    // Nobody noticed, and the machine is still welcome as itself.
    let _two = FakeNode::connect(link(), hello_of("n2", &two), View::default(), ready()).await;
    cluster.node_is("n2", Liveness::Alive).await;
    assert_eq!(good.view.borrow().wholes, 1, "its link stayed");
    cluster.node_is("n1", Liveness::Alive).await;
}

#[tokio::test]
async fn of_two_copies_of_one_machine_the_second_is_refused_and_a_restart_is_not() {
    let (cluster, _) = fleet().await;
    let (_, uid) = cluster.joined("n1").await;
    let link = || cluster.control.connect_certified(uid.clone());
    let of = |incarnation: &str| Hello { incarnation: Uid::new(incarnation), ..hello_of("n1", &uid) };
    let mut first = FakeNode::connect(link(), of("1"), View::default(), ready()).await;
    first.wait("the whole", |view| view.wholes == 1).await;
    let why = refused(link(), of("2")).await;
    assert!(why.contains("another machine with the same identity"), "{why}");
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    // The same process may be back before its old link was missed; another one once it is gone.
    let again = FakeNode::connect(link(), of("1"), View::default(), ready()).await;
    let ended = async { while first.view.changed().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    again.stop().await;
    cluster.node_is("n1", Liveness::Suspect).await;
    let _restarted = FakeNode::connect(link(), of("2"), View::default(), ready()).await;
    cluster.node_is("n1", Liveness::Alive).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_says_nothing_ends() {
    let (cluster, _) = fleet().await;
    let mut link = cluster.control.connect_certified(Uid::new("x"));
    assert_eq!(link.from_control.recv().await, None);
}

#[tokio::test]
async fn a_cluster_of_one_process_makes_no_tokens_and_keeps_its_node() {
    let cluster = Cluster::start().await;
    let (status, body) = cluster.ask("POST", "/v1/tokens", json!({}), None).await;
    assert_eq!((status, &body["code"]), (403, &json!("forbidden")), "{body}");
    assert!(body["hint"].as_str().unwrap().contains("skiff server"), "{body}");
    assert_eq!(cluster.ask("POST", JOIN_PATH, json!({}), None).await.0, 404);
    let node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    cluster.node_is("n", Liveness::Alive).await;
    assert_eq!(cluster.ask("DELETE", "/v1/nodes/n", "", None).await.0, 403);
    node.stop().await;
    cluster.node_is("n", Liveness::Suspect).await;
    assert_eq!(cluster.ask("DELETE", "/v1/nodes/n", "", None).await.0, 200);
}
