//! The control plane's metrics, in Prometheus' text format.
//!
//! | name | labels | unit |
//! |---|---|---|
//! | `skiff_api_requests_total` | `route`, `method`, `status` | requests |
//! | `skiff_api_request_seconds_total` | `route`, `method` | seconds until the head of the answer |
//! | `skiff_api_watchers` | | open watches |
//! | `skiff_store_revision` | | transactions that the store has committed |
//!
//! Labels are bounded: a route is a template of the router's table or `other`, and methods and statuses are few.
//! Other parts of the process add text of their own with [`Metrics::append`].

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Makes more of the text, when it is asked for. It must not block.
pub type Source = Arc<dyn Fn() -> String + Send + Sync>;

/// Where metrics are counted and read. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    requests: Mutex<BTreeMap<Request, u64>>,
    micros: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
    watchers: AtomicU64,
    sources: Mutex<Vec<Source>>,
}

/// The labels of one kind of answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    pub route: Arc<str>,
    pub method: &'static str,
    pub status: u16,
}

/// A watch that is counted as long as this lives.
pub struct Watcher(Metrics);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn request(&self, request: Request, took: Duration) {
        let mut requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let route = (request.route.clone(), request.method);
        *requests.entry(request).or_default() += 1;
        let mut micros = self.0.micros.lock().unwrap_or_else(PoisonError::into_inner);
        *micros.entry(route).or_default() += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    }

    #[must_use]
    pub fn watcher(&self) -> Watcher {
        self.0.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher(self.clone())
    }

    /// More text for every reading, such as the node's in the same process.
    pub fn append(&self, source: Source) {
        self.0.sources.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    pub fn render(&self, store_revision: u64) -> String {
        let mut text = String::new();
        self.render_requests(&mut text);
        let watchers = self.0.watchers.load(Ordering::Relaxed);
        head(&mut text, "skiff_api_watchers", "gauge", "Watches that are open.");
        line(&mut text, format_args!("skiff_api_watchers {watchers}"));
        head(&mut text, "skiff_store_revision", "counter", "Transactions that the store has committed.");
        line(&mut text, format_args!("skiff_store_revision {store_revision}"));
        let sources = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for source in sources {
            text.push_str(&source());
        }
        text
    }

    fn render_requests(&self, text: &mut String) {
        head(text, "skiff_api_requests_total", "counter", "Requests that were answered.");
        let requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (Request { route, method, status }, count) in requests {
            let labels = format_args!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
            line(text, format_args!("skiff_api_requests_total{{{labels}}} {count}"));
        }
        head(text, "skiff_api_request_seconds_total", "counter", "Time until the head of the answer, summed.");
        let micros = self.0.micros.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((route, method), micros) in micros {
            let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
            let labels = format_args!("route=\"{route}\",method=\"{method}\"");
            line(text, format_args!("skiff_api_request_seconds_total{{{labels}}} {seconds}.{rest:06}"));
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}"));
    line(text, format_args!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_was_counted() {
        let metrics = Metrics::new();
        let get = Request { route: "/v1/version".into(), method: "GET", status: 200 };
        metrics.request(get.clone(), Duration::from_micros(1_500_001));
        metrics.request(get, Duration::from_micros(1));
        metrics.append(Arc::new(|| "skiff_node_replicas 3\n".to_owned()));
        let watcher = metrics.watcher();
        let text = metrics.render(7);
        for line in [
            "skiff_api_requests_total{route=\"/v1/version\",method=\"GET\",status=\"200\"} 2",
            "skiff_api_request_seconds_total{route=\"/v1/version\",method=\"GET\"} 1.500002",
            "# TYPE skiff_api_watchers gauge",
            "skiff_api_watchers 1",
            "skiff_store_revision 7",
            "skiff_node_replicas 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        drop(watcher);
        assert!(metrics.render(7).contains("skiff_api_watchers 0\n"));
    }
}
