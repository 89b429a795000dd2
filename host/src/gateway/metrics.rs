//! The gateway's figures: names, units, and how they are printed. Labels are bounded: nothing in them comes from a client.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use http::StatusCode;

/// Every code of an answer that is the gateway's own; see [`super::answer::Refusal`] and [`crate::sandbox::Failure`].
const CODES: [&str; 18] = [
    "bad-path",
    "bad-request",
    "first-byte-timeout",
    "guest-cpu-limit",
    "guest-error",
    "guest-incomplete-body",
    "guest-invalid-response",
    "guest-memory-limit",
    "guest-no-response",
    "guest-trap",
    "instances-exhausted",
    "method-not-allowed",
    "no-replica",
    "no-route",
    "queue-full",
    "queue-timeout",
    "sandbox-failure",
    "total-timeout",
];

#[derive(Debug, Default)]
pub(super) struct Metrics {
    by_class: [AtomicU64; 5],
    by_code: [AtomicU64; CODES.len()],
    cut_off: AtomicU64,
    in_flight: AtomicI64,
    queued: AtomicI64,
    connections: AtomicI64,
}

/// Something that is counted while it lasts.
#[derive(Debug)]
pub(super) enum Gauge {
    InFlight,
    Queued,
    Connections,
}

impl Metrics {
    pub(super) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.by_class[class].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, code: &str) {
        if let Ok(at) = CODES.binary_search(&code) {
            self.by_code[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A response body that broke off: the status was sent by then.
    pub(super) fn cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add(&self, gauge: &Gauge, change: i64) {
        let gauge = match gauge {
            Gauge::InFlight => &self.in_flight,
            Gauge::Queued => &self.queued,
            Gauge::Connections => &self.connections,
        };
        gauge.fetch_add(change, Ordering::Relaxed);
    }

    /// In Prometheus' text format.
    pub(super) fn print(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, i128)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let load = |counter: &AtomicU64| i128::from(counter.load(Ordering::Relaxed));
        let level = |gauge: &AtomicI64| [(String::new(), i128::from(gauge.load(Ordering::Relaxed)))];
        let classes: Vec<_> =
            self.by_class.iter().zip(1..).map(|(n, class)| (format!("{{class=\"{class}xx\"}}"), load(n))).collect();
        let codes: Vec<_> =
            self.by_code.iter().zip(CODES).map(|(n, code)| (format!("{{code=\"{code}\"}}"), load(n))).collect();
        metric("skiff_gateway_responses_total", "counter", "Responses by class of their status.", &classes);
        metric("skiff_gateway_errors_total", "counter", "Responses that are the gateway's own, by code.", &codes);
        let cut_off = [(String::new(), load(&self.cut_off))];
        metric("skiff_gateway_bodies_cut_off_total", "counter", "Response bodies that broke off.", &cut_off);
        metric("skiff_gateway_requests_in_flight", "gauge", "Requests at work or waiting.", &level(&self.in_flight));
        metric("skiff_gateway_requests_queued", "gauge", "Requests waiting for a replica.", &level(&self.queued));
        metric("skiff_gateway_connections", "gauge", "Open client connections.", &level(&self.connections));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_was_counted() {
        assert!(CODES.is_sorted());
        let metrics = Metrics::default();
        metrics.answered(StatusCode::NOT_FOUND);
        metrics.refused("no-route");
        metrics.add(&Gauge::Connections, 2);
        let text = metrics.print();
        for line in [
            "# TYPE skiff_gateway_responses_total counter",
            "skiff_gateway_responses_total{class=\"4xx\"} 1",
            "skiff_gateway_errors_total{code=\"no-route\"} 1",
            "skiff_gateway_connections 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in {text}");
        }
    }
}
