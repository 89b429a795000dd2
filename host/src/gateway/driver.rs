//! What answers a replica's requests: the node's own sandbox, or a container.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::docker::Callee;
use crate::metrics::Figures;
use crate::sandbox::{Body, Failure, Runner};

pub(crate) enum Driver {
    Wasm(Runner),
    Docker(Box<Callee>),
}

impl Driver {
    pub(super) fn figures(&self) -> &Arc<Figures> {
        match self {
            Self::Wasm(runner) => runner.figures(),
            Self::Docker(callee) => callee.figures(),
        }
    }

    /// Whether a request would be begun now. Containers are held to their limits by the kernel.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Wasm(runner) => runner.has_room(),
            Self::Docker(_) => true,
        }
    }

    pub(super) async fn room(&self) {
        if let Self::Wasm(runner) = self {
            runner.room().await;
        }
    }

    pub(super) fn note(&self, line: &str) {
        match self {
            Self::Wasm(runner) => runner.note(line),
            Self::Docker(callee) => callee.note(line),
        }
    }

    pub(super) fn warn(&self, reason: &str, message: String) {
        match self {
            Self::Wasm(runner) => runner.warn(reason, message),
            Self::Docker(callee) => callee.warn(reason, message),
        }
    }

    pub(super) async fn call<B>(&self, request: Request<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        match self {
            Self::Wasm(runner) => runner.call(request).await,
            // Boxed, so that a guest's call is no larger for it.
            Self::Docker(callee) => Box::pin(callee.call(request)).await,
        }
    }
}
