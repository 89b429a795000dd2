//! Calls from one service to another on the same node.

use std::time::Duration;

use skiff_api::grant::Allow;
use skiff_api::resource::{Callers, Template};
use skiff_host::NodeHandle;

use crate::support::*;

fn allowing(services: &[&str]) -> Allow {
    Allow { services: services.iter().map(|text| text.parse().unwrap()).collect(), ..Allow::default() }
}

/// A service's name, its callers, and what differs in its template.
type Probe<'p> = (&'p str, Callers, &'p dyn Fn(&mut Template));

/// Probes that call one another, at `NAME.test`.
async fn probes(world: &World, services: &[Probe<'_>]) -> (NodeHandle, Control) {
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    let assignments: Vec<_> = services
        .iter()
        .map(|(name, _, change)| {
            let mut template = world.template("probe");
            change(&mut template);
            assignment(name, &format!("{name}-1-a"), template)
        })
        .collect();
    let found = services.iter().map(|(name, callers, _)| {
        let host = format!("{name}.test");
        let mut routes = routes(name, &[(Some(host.as_str()), "/")]);
        routes.callers = callers.clone();
        routes
    });
    control.route(found).await;
    control.desire(assignments).await;
    for (name, ..) in services {
        control.until_ready(&format!("{name}-1-a")).await;
    }
    (node, control)
}

fn outbound(service: &str, path: &str) -> String {
    format!("/outbound?url=http://{service}.default.internal{path}")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_must_agree() {
    let world = World::new().await;
    let only = |names: &[&str]| Callers(Some(names.iter().map(|name| name.parse().unwrap()).collect()));
    let all = |template: &mut Template| template.allow = allowing(&["*"]);
    let (node, mut control) = probes(
        &world,
        &[
            ("a", Callers::default(), &|template| template.allow = allowing(&["b", "shy", "gone"])),
            ("b", Callers::default(), &|_| {}),
            ("shy", only(&["friend", "ops/*"]), &|_| {}),
            ("friend", Callers::default(), &all),
        ],
    )
    .await;
    let web = Web::h1(node.gateway_addr());
    let from = |caller: &'static str, path: String| {
        let web = &web;
        async move { web.get_from(&format!("{caller}.test"), &path).await }
    };
    let answer = from("a", outbound("b", "/status?code=201")).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "201\n"));
    assert_eq!(from("friend", outbound("shy", "/status?code=200")).await.body, "200\n");

    // The caller does not allow it itself.
    let denied = from("b", outbound("a", "/")).await;
    assert!(denied.body.contains("HttpRequestDenied"), "{}", denied.body);
    let event = control.event("OutboundDenied").await;
    assert_eq!(event.replica, replica("b-1-a"));
    assert!(event.message.contains("http://a.default.internal"), "{event:?}");
    assert!(event.message.ends_with("(hint: allow: {services: [a]})"), "{event:?}");
    // The service does not let it.
    let denied = from("a", outbound("shy", "/")).await;
    assert!(denied.body.contains("HttpRequestDenied"), "{}", denied.body);
    let event = control.event("OutboundDenied").await;
    assert!(event.message.contains("add \"a\" to http.callers of service default/shy"), "{event:?}");
    // Told once, counted always.
    for _ in 0..3 {
        from("a", outbound("shy", "/")).await;
    }
    assert!(control.events.iter().all(|event| event.reason != "OutboundDenied"), "{:?}", control.events);
    assert_eq!(metric(&node, "skiff_outbound_refused_total{why=\"caller\"}"), 4);
    assert_eq!(metric(&node, "skiff_outbound_refused_total{why=\"service\"}"), 1);

    // A name of the cluster that is nobody's, and a service that is not here.
    for url in ["https://b.default.internal/", "http://b.internal/", "http://b.default.internal:81/"] {
        let denied = web.get_from("a.test", &format!("/outbound?url={url}")).await;
        assert!(denied.body.contains("HttpRequestDenied"), "{url}: {}", denied.body);
    }
    let gone = from("a", outbound("gone", "/")).await;
    assert!(gone.body.starts_with("503\n") && gone.body.contains("\"no-replica\""), "{}", gone.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_there_is_an_answer_here() {
    let world = World::new().await;
    let all = |template: &mut Template| template.allow = allowing(&["*"]);
    let slow = |template: &mut Template| template.timeout.first_byte = timeout("200ms");
    let (node, _control) = probes(
        &world,
        &[("a", Callers::default(), &all), ("b", Callers::default(), &|_| {}), ("slow", Callers::default(), &slow)],
    )
    .await;
    let web = Web::h1(node.gateway_addr());
    for (path, status, code) in [
        ("/panic", "500\n", "guest-trap"),
        ("/no-response", "502\n", "guest-no-response"),
        ("/trap-after-part", "500\n", "guest-trap"),
        ("/a/../b", "400\n", "bad-path"),
    ] {
        let answer = web.get_from("a.test", &outbound("b", path)).await;
        assert!(answer.body.starts_with(status) && answer.body.contains(code), "{path}: {}", answer.body);
    }
    let late = web.get_from("a.test", &outbound("slow", "/sleep?ms=60000")).await;
    assert!(late.body.starts_with("504\n") && late.body.contains("first-byte-timeout"), "{}", late.body);
    // What it was given is given back.
    until_metric(&node, "skiff_outbound_requests_in_flight", |value| value == 0).await;
    assert_eq!(web.get_from("a.test", &outbound("b", "/")).await.body, "200\nprobe\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_through_several_services() {
    let world = World::new().await;
    let all = |template: &mut Template| template.allow = allowing(&["*"]);
    let services = ["a", "b", "c"].map(|name| (name, Callers::default(), &all as &dyn Fn(&mut Template)));
    let (node, _control) = probes(&world, &services).await;
    let web = Web::h1(node.gateway_addr());
    let nested = format!("/outbound?url=http://b.default.internal{}", outbound("c", "/bytes?n=3000000"));
    let answer = web.get_from("a.test", &nested).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.bytes().filter(|byte| *byte == b'x').count(), 3_000_000);
    // As gRPC has its status.
    let trailers = web.get_from("a.test", &outbound("b", "/trailers")).await;
    assert_eq!(trailers.body, "200\nbody\nx-after: the body\n");
    until_metric(&node, "skiff_outbound_requests_in_flight", |value| value == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_ends_and_a_cycle_does_not_wait_for_itself() {
    let world = World::new().await;
    let all = |template: &mut Template| template.allow = allowing(&["*"]);
    let narrow = |template: &mut Template| {
        template.allow = allowing(&["*"]);
        template.in_flight = 1;
        template.timeout.first_byte = timeout("1s");
    };
    let (node, _control) = probes(
        &world,
        &[("a", Callers::default(), &all), ("b", Callers::default(), &all), ("narrow", Callers::default(), &narrow)],
    )
    .await;
    let web = Web::h1(node.gateway_addr());
    // Twelve calls deep, from a to b and back.
    let deep = (0..12).fold("/".to_owned(), |path, number| outbound(if number % 2 == 0 { "b" } else { "a" }, &path));
    let answer = web.get_from("a.test", &deep).await;
    assert!(answer.body.contains("508\n") && answer.body.contains("\"call-depth\""), "{}", answer.body);
    assert!(answer.body.contains("default/a > default/b > default/a"), "{}", answer.body);
    assert_eq!(metric(&node, "skiff_outbound_refused_total{why=\"depth\"}"), 1);
    let seven = (0..7).fold("/".to_owned(), |path, number| outbound(if number % 2 == 0 { "b" } else { "a" }, &path));
    assert!(web.get_from("b.test", &seven).await.body.ends_with("200\nprobe\n"));

    // It waits for the place that it has itself.
    let circle = web.get_from("narrow.test", &outbound("narrow", "/")).await;
    assert_eq!((circle.status.as_u16(), circle.code()), (504, "first-byte-timeout"), "{}", circle.body);
    assert_eq!(web.get_from("narrow.test", "/").await.body, "probe\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_stops_the_whole_chain() {
    let world = World::new().await;
    let patient = |template: &mut Template| {
        template.allow = allowing(&["*"]);
        template.timeout.first_byte = timeout("none");
    };
    let services = ["a", "b"].map(|name| (name, Callers::default(), &patient as &dyn Fn(&mut Template)));
    let (node, _control) = probes(&world, &services).await;
    let web = Web::h1(node.gateway_addr());
    let path = outbound("b", "/sleep?ms=600000");
    {
        let waiting = web.get_from("a.test", &path);
        tokio::pin!(waiting);
        let started = until_metric(&node, "skiff_outbound_requests_in_flight", |value| value == 1);
        tokio::select! {
            _ = &mut waiting => panic!("it has answered"),
            () = started => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until_metric(&node, "skiff_outbound_requests_in_flight", |value| value == 0).await;
    let labels = "{namespace=\"default\",service=\"b\",replica=\"b-1-a\"}";
    until_metric(&node, &format!("skiff_replica_requests_in_flight{labels}"), |value| value == 0).await;
}
