//! Watches: what changes, as it changes, one JSON object a line.
//!
//! | line | when |
//! |---|---|
//! | `ADDED`, `MODIFIED`, `DELETED` | an object came, changed, went; it carries the last state |
//! | `BOOKMARK` | nothing for [`BOOKMARK_EVERY`]: where to resume |
//! | `ERROR` | a problem; the watch ends. On `compacted`, list again |
//!
//! Exactly what follows `resourceVersion` is sent, each transaction whole and in order. Without one, the objects that
//! exist come first, as `ADDED`. Under a label selector, an object that stops matching is `DELETED` and one that starts
//! to match is `ADDED`: a watcher holds what a list would answer. The client ends a watch by closing the connection; a
//! slow one is served from the store's history and holds nobody up.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};
use skiff_api::Problem;
use skiff_api::resource::API_VERSION;
use tokio_util::sync::CancellationToken;

use super::ApiState;
use super::failure::{Failure, Result};
use super::list;
use super::selection::{Selection, to_json};
use crate::metrics::Watcher;
use crate::store::{Batch, Change, Revision, Watch};

/// Often enough that a watcher that reconnects finds its revision in the store, and that a dead connection is noticed
/// within some seconds.
const BOOKMARK_EVERY: Duration = Duration::from_secs(10);

/// Starts a watch after a revision, or with what there is.
pub(super) async fn watch(state: &ApiState, selection: Selection, after: Option<Revision>) -> Result<Response> {
    let mut ready = VecDeque::new();
    let after = match after {
        Some(revision) => revision,
        None => {
            let page = list::page(state, &selection, None, None, usize::MAX).await?;
            ready.extend(page.items.into_iter().map(|object| line("ADDED", object)));
            page.revision
        }
    };
    let lines = Lines {
        watch: state.objects.store().watch(&selection.prefix(), after),
        selection,
        ready,
        ended: false,
        stop: state.stop.clone(),
        _counted: state.metrics.watcher(),
    };
    let body = stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    Ok(ndjson(Body::from_stream(body)))
}

/// An answer of lines that come one by one.
pub(super) fn ndjson(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")], body).into_response()
}

/// A watch as the client sees it.
struct Lines {
    watch: Watch,
    selection: Selection,
    ready: VecDeque<Bytes>,
    ended: bool,
    stop: CancellationToken,
    _counted: Watcher,
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            let waited = tokio::select! {
                () = self.stop.cancelled() => return None,
                waited = tokio::time::timeout(BOOKMARK_EVERY, self.watch.next()) => waited,
            };
            match waited {
                Ok(Ok(batch)) => {
                    if let Err(failure) = self.take(&batch) {
                        self.fail(failure);
                    }
                }
                Ok(Err(error)) => self.fail(error.into()),
                Err(_) => return Some(self.bookmark()),
            }
        }
    }

    fn take(&mut self, batch: &Batch) -> Result<()> {
        for change in &batch.changes {
            self.ready.extend(event(&self.selection, change, batch.revision)?);
        }
        Ok(())
    }

    fn fail(&mut self, Failure(problem): Failure) {
        self.ended = true;
        self.ready.push_back(line("ERROR", problem_json(&problem)));
    }

    fn bookmark(&self) -> Bytes {
        let metadata = json!({"resourceVersion": self.watch.position().to_string()});
        line("BOOKMARK", json!({"apiVersion": API_VERSION, "kind": self.selection.kind, "metadata": metadata}))
    }
}

/// What one change is to a watcher of the selection.
fn event(selection: &Selection, change: &Change, revision: Revision) -> Result<Option<Bytes>> {
    let before = change.before.as_ref().map(|entry| selection.read(entry)).transpose()?.filter(|f| f.is_selected);
    let after = change.after.as_ref().map(|entry| selection.read(entry)).transpose()?.filter(|f| f.is_selected);
    Ok(match (before, after) {
        (None, None) => None,
        (None, Some(now)) => Some(line("ADDED", now.object)),
        (Some(_), Some(now)) => Some(line("MODIFIED", now.object)),
        (Some(last), None) => {
            // At the revision of its end, so that a watch that resumes there does not see it again.
            let mut object = last.object;
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            Some(line("DELETED", object))
        }
    })
}

fn line(kind: &str, object: Value) -> Bytes {
    let mut text = json!({"type": kind, "object": object}).to_string();
    text.push('\n');
    text.into()
}

fn problem_json(problem: &Problem) -> Value {
    to_json(problem).unwrap_or_default()
}
