//! Calls of guests to services on other nodes.

use skiff_api::grant::Allow;
use skiff_api::resource::Callers;
use skiff_api::wire::ServiceRoutes;

use crate::fleet::{Fleet, Member};
use crate::support::*;

fn outbound(service: &str, path: &str) -> String {
    format!("/outbound?url=http://{service}.default.internal{path}")
}

/// A service's name, its node (0 or 1), and its callers.
type At<'a> = (&'a str, usize, Callers);

/// Two nodes with probes, each told where the others are; services are at `NAME.test` on both.
async fn spread(fleet: &Fleet, services: &[At<'_>]) -> [Member; 2] {
    let mut nodes = [fleet.node("one").await, fleet.node("two").await];
    let endpoints = [nodes[0].endpoint(1), nodes[1].endpoint(1)];
    for (number, node) in nodes.iter_mut().enumerate() {
        let routes = services.iter().map(|(name, at, callers)| {
            let others = if *at == number { Vec::new() } else { vec![endpoints[*at].clone()] };
            let host = format!("{name}.test");
            ServiceRoutes { endpoints: others, callers: callers.clone(), ..routes(name, &[(Some(&host), "/")]) }
        });
        node.control.route(routes.collect::<Vec<_>>()).await;
        let mut template = fleet.world.template("probe");
        template.allow = Allow { services: vec!["*".parse().unwrap()], ..Allow::default() };
        let own: Vec<_> = services.iter().filter(|(_, at, _)| *at == number).map(|(name, ..)| *name).collect();
        let assignments = own.iter().map(|name| assignment(name, &format!("{name}-1-a"), template.clone()));
        node.control.desire(assignments.collect::<Vec<_>>()).await;
        for name in own {
            node.control.until_ready(&format!("{name}-1-a")).await;
        }
        node.settle().await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_to_the_node_that_has_the_service() {
    let fleet = Fleet::new().await;
    let only = Callers(Some(vec!["friend".parse().unwrap()]));
    let services = [
        ("a", 0, Callers::default()),
        ("friend", 0, Callers::default()),
        ("b", 1, Callers::default()),
        ("shy", 1, only),
    ];
    let [one, two] = spread(&fleet, &services).await;
    let web = Web::h1(one.node.gateway_addr());
    let answer = web.get_from("a.test", &outbound("b", "/status?code=201")).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "201\n"));
    assert_eq!(web.get_from("a.test", &outbound("b", "/trailers")).await.body, "200\nbody\nx-after: the body\n");
    let long = web.get_from("a.test", &outbound("b", "/bytes?n=3000000")).await;
    assert_eq!(long.body.bytes().filter(|byte| *byte == b'x').count(), 3_000_000);
    let failed = web.get_from("a.test", &outbound("b", "/panic")).await;
    assert!(failed.body.starts_with("500\n") && failed.body.contains("guest-trap"), "{}", failed.body);
    // Callers are checked where the service is.
    assert_eq!(web.get_from("friend.test", &outbound("shy", "/status?code=200")).await.body, "200\n");
    let denied = web.get_from("a.test", &outbound("shy", "/")).await;
    assert!(denied.body.contains("HttpRequestDenied"), "{}", denied.body);
    let gone = web.get_from("a.test", &outbound("nowhere", "/")).await;
    assert!(gone.body.starts_with("503\n") && gone.body.contains("\"no-replica\""), "{}", gone.body);
    assert_eq!(two.metric("skiff_peer_served_total"), 5);
    until_metric(&one.node, "skiff_outbound_requests_in_flight", |value| value == 0).await;
    until_metric(&two.node, "skiff_gateway_requests_in_flight", |value| value == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_other_node_does_not_let_in_is_denied() {
    let fleet = Fleet::new().await;
    let [mut one, two] = spread(&fleet, &[("a", 0, Callers::default()), ("b", 1, Callers(Some(Vec::new())))]).await;
    // This node has not heard yet that nobody may call it.
    let endpoints = vec![two.endpoint(1)];
    let a = routes("a", &[(Some("a.test"), "/")]);
    one.tell([a, ServiceRoutes { endpoints, ..routes("b", &[(Some("b.test"), "/")]) }]).await;
    let denied = Web::h1(one.node.gateway_addr()).get_from("a.test", &outbound("b", "/")).await;
    assert!(denied.body.contains("HttpRequestDenied"), "{}", denied.body);
    assert_eq!(two.metric("skiff_gateway_errors_total{code=\"not-a-caller\"}"), 1);
    let event = one.control.event("OutboundDenied").await;
    assert!(event.message.contains("http.callers of service default/b"), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_across_nodes_ends_at_eight() {
    let fleet = Fleet::new().await;
    let [one, two] = spread(&fleet, &[("a", 0, Callers::default()), ("b", 1, Callers::default())]).await;
    let web = Web::h1(one.node.gateway_addr());
    let nested = |deep: usize| {
        (0..deep).fold("/".to_owned(), |path, number| outbound(if number % 2 == 0 { "b" } else { "a" }, &path))
    };
    // From outside to a, then seven calls; the innermost answers.
    assert!(web.get_from("a.test", &nested(7)).await.body.ends_with("200\nprobe\n"));
    let answer = web.get_from("a.test", &nested(13)).await;
    assert!(answer.body.contains("508\n") && answer.body.contains("\"call-depth\""), "{}", answer.body);
    assert!(answer.body.contains("default/a > default/b > default/a"), "{}", answer.body);
    let refused = "skiff_outbound_refused_total{why=\"depth\"}";
    assert_eq!(one.metric(refused) + two.metric(refused), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_stops_the_chain_on_all_nodes() {
    let fleet = Fleet::new().await;
    let [one, two] = spread(&fleet, &[("a", 0, Callers::default()), ("b", 1, Callers::default())]).await;
    let web = Web::h1(one.node.gateway_addr());
    let path = outbound("b", "/sleep?ms=4000");
    {
        let waiting = web.get_from("a.test", &path);
        tokio::pin!(waiting);
        let started = until_metric(&two.node, "skiff_gateway_requests_in_flight", |value| value == 1);
        tokio::select! {
            _ = &mut waiting => panic!("it has answered"),
            () = started => {}
        }
    }
    let started = std::time::Instant::now();
    until_metric(&two.node, "skiff_gateway_requests_in_flight", |value| value == 0).await;
    assert!(started.elapsed() < std::time::Duration::from_secs(3), "it ended by itself");
}
