use skiff_api::id::ReplicaName;

use super::*;

fn replica(metrics: &Metrics, name: &str) -> Arc<Figures> {
    let key = ReplicaKey { namespace: "shop".parse().unwrap(), name: ReplicaName::new(name) };
    let service = ServiceKey { namespace: "shop".parse().unwrap(), name: "cart".parse().unwrap() };
    metrics.replica(&key, &service)
}

fn assert_has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|have| have == *line), "{line} is missing in {text}");
    }
}

#[test]
fn prints_what_was_counted() {
    assert!(CODES.is_sorted() && TRAPS.is_sorted() && BUCKETS_US.is_sorted());
    let metrics = Metrics::default();
    metrics.gateway.answered(StatusCode::NOT_FOUND, Duration::from_micros(700));
    metrics.gateway.refused("no-route");
    metrics.connections(2);
    assert_has(
        &metrics.print(),
        &[
            "# TYPE skiff_gateway_responses_total counter",
            "skiff_gateway_responses_total{class=\"4xx\"} 1",
            "skiff_gateway_response_seconds_bucket{le=\"0.0005\"} 0",
            "skiff_gateway_response_seconds_bucket{le=\"0.001\"} 1",
            "skiff_gateway_response_seconds_bucket{le=\"+Inf\"} 1",
            "skiff_gateway_response_seconds_sum 0.0007",
            "skiff_gateway_response_seconds_count 1",
            "skiff_gateway_errors_total{code=\"no-route\"} 1",
            "skiff_gateway_errors_total{code=\"queue-full\"} 0",
            "skiff_gateway_connections 2",
        ],
    );
}

#[test]
fn a_replicas_figures_live_as_long_as_it() {
    let metrics = Metrics::default();
    let (cart, idle) = (replica(&metrics, "cart-1-a"), replica(&metrics, "cart-1-b"));
    cart.answered(StatusCode::OK, Duration::from_secs(11));
    cart.add(Gauge::InFlight, 1);
    cart.trapped("unreachable");
    cart.refused("guest-trap");
    let text = metrics.print();
    let labels = "namespace=\"shop\",service=\"cart\",replica=\"cart-1-a\"";
    assert_has(
        &text,
        &[
            &format!("skiff_replica_responses_total{{class=\"2xx\",{labels}}} 1"),
            &format!("skiff_replica_response_seconds_bucket{{le=\"10\",{labels}}} 0"),
            &format!("skiff_replica_response_seconds_bucket{{le=\"+Inf\",{labels}}} 1"),
            &format!("skiff_replica_response_seconds_sum{{{labels}}} 11"),
            &format!("skiff_replica_requests_in_flight{{{labels}}} 1"),
            &format!("skiff_replica_traps_total{{kind=\"unreachable\",{labels}}} 1"),
            &format!("skiff_replica_errors_total{{code=\"guest-trap\",{labels}}} 1"),
        ],
    );
    assert!(!text.contains("cart-1-b"), "{text}");
    drop((cart, idle));
    assert!(!metrics.print().contains("cart-1-a"));
}

#[test]
fn threads_count_apart_and_are_read_together() {
    let metrics = Metrics::default();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    metrics.gateway.answered(StatusCode::OK, Duration::ZERO);
                    metrics.gateway.add(Gauge::Queued, 1);
                }
            });
        }
    });
    assert_has(
        &metrics.print(),
        &["skiff_gateway_responses_total{class=\"2xx\"} 8000", "skiff_gateway_requests_queued 8000"],
    );
}

#[test]
fn removed_replicas_do_not_pile_up() {
    let metrics = Metrics::default();
    for number in 0..10 * SWEEP_MIN {
        drop(replica(&metrics, &format!("cart-1-{number}")));
    }
    assert!(metrics.replicas.lock().unwrap().by_key.len() <= 2 * SWEEP_MIN);
}
