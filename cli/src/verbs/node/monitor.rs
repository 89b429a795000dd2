//! What a node tells programs of its own machine: that it runs, and its metrics.
//!
//! Nobody shows a token here, so nobody else is answered: the address must be one of the loopback.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use skiff_host::NodeHandle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::exit::{Exit, Failure};
use crate::verbs::serving::api::{self, Door};
use crate::verbs::serving::listen::{listen, local_addr};

/// The media type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A listener that is open, and not yet answered.
pub(super) struct Monitor {
    listener: TcpListener,
    pub(super) addr: SocketAddr,
}

impl Monitor {
    pub(super) fn open(addr: SocketAddr) -> Result<Self, Failure> {
        if !addr.ip().is_loopback() {
            let text = format!(
                "failed to serve metrics on {addr}: anybody could read them there (hint: choose an address of this machine alone, such as 127.0.0.1:9070, and let a collector on it read that)"
            );
            return Err(Failure::message(Exit::Invalid, text));
        }
        let listener = listen("metrics", "--metrics", addr)?;
        let addr = local_addr(&listener)?;
        Ok(Self { listener, addr })
    }

    /// Answers until the sender is dropped.
    pub(super) fn serve(self, node: &Arc<NodeHandle>) -> (oneshot::Sender<()>, JoinHandle<()>) {
        let weak = Arc::downgrade(node);
        let metrics = move || {
            let text = weak.upgrade().map(|node| node.metrics()).unwrap_or_default();
            std::future::ready(([(CONTENT_TYPE, METRICS)], text))
        };
        let router = Router::new().route("/metrics", get(metrics)).route("/healthz", get(async || "ok\n"));
        let (stop, stops) = oneshot::channel();
        let task = tokio::spawn(async move {
            if let Err(error) = api::serve(self.listener, router, Door::Plain, stops).await {
                tracing::error!(%error, "metrics are served no more");
            }
        });
        (stop, task)
    }
}
