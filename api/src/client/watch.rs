//! Watches that resume.
//!
//! ```text
//! list --resourceVersion--> watch ==changes==> … connection lost --last resourceVersion--> watch
//!   ^------------------------- compacted: the past is gone ------------------------------'
//! ```
//! A change is delivered once: the resource version of the last one is where the next connection goes on. When the server
//! no longer keeps that past, the objects are listed again and [`Change::Restarted`] replaces what the caller has.

use std::time::Duration;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::logs::lines;
use crate::client::{Client, Error, ListQuery, Scope};
use crate::problem::{Code, Problem};
use crate::resource::Kind;

/// How long to wait before the first reconnection; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// A control plane that is back is found within this.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// One line of a watch, as the server sends it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WatchEvent {
    #[serde(rename = "type")]
    pub event_type: WatchType,
    /// The object; for `ERROR` a problem.
    pub object: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum WatchType {
    Added,
    Modified,
    Deleted,
    /// Nothing changed up to this resource version.
    Bookmark,
    Error,
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Every object there is, at the start and after a gap: replace what you have.
    Restarted(Vec<Value>),
    Added(Value),
    Modified(Value),
    Deleted(Value),
}

struct Watcher {
    client: Client,
    kind: Kind,
    scope: Scope,
    query: ListQuery,
    /// Where to go on; `None`: list first.
    version: Option<String>,
    lines: Option<BoxStream<'static, Result<Vec<u8>, Error>>>,
    retry: Duration,
    ended: bool,
}

impl Client {
    /// Everything that is and will be. Ends only with an error that waiting does not mend.
    pub fn watch(
        &self,
        kind: Kind,
        scope: Scope,
        query: ListQuery,
    ) -> impl Stream<Item = Result<Change, Error>> + use<> {
        let watcher = Watcher {
            client: self.clone(),
            kind,
            scope,
            query,
            version: None,
            lines: None,
            retry: RETRY_MIN,
            ended: false,
        };
        stream::unfold(watcher, |mut watcher| async move {
            if watcher.ended {
                return None;
            }
            let item = watcher.next().await;
            watcher.ended = item.is_err();
            Some((item, watcher))
        })
    }
}

impl Watcher {
    async fn next(&mut self) -> Result<Change, Error> {
        loop {
            match self.step().await {
                Ok(Some(change)) => {
                    self.retry = RETRY_MIN;
                    return Ok(change);
                }
                Ok(None) => {}
                // The first list must answer: a wrong address should be said, not waited for.
                Err(error) if self.version.is_none() || !is_passing(&error) => return Err(error),
                Err(_) => {
                    self.lines = None;
                    tokio::time::sleep(self.retry).await;
                    self.retry = (self.retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Change>, Error> {
        let Some(version) = &self.version else {
            let list = self.client.list_values(self.kind, &self.scope, &self.query).await?;
            self.version = Some(list.metadata.resource_version);
            return Ok(Some(Change::Restarted(list.items)));
        };
        let Some(open) = &mut self.lines else {
            let mut pairs = self.query.pairs();
            pairs.push(("watch", "true".to_owned()));
            pairs.push(("resourceVersion", version.clone()));
            let request = self.client.request(Method::GET, &self.scope.path(self.kind), &pairs);
            let response = match self.client.send(request).await {
                Err(error) if error.code() == Some(Code::Compacted) => {
                    self.restart();
                    return Ok(None);
                }
                other => other?,
            };
            self.lines = Some(lines(self.client.clone(), response).boxed());
            return Ok(None);
        };
        match open.next().await {
            Some(line) => self.read(&line?),
            None => {
                let why = "the watch ended".to_owned();
                Err(Error::Broken { server: self.client.server(), why })
            }
        }
    }

    fn read(&mut self, line: &[u8]) -> Result<Option<Change>, Error> {
        let not_skiff =
            |error: serde_json::Error| Error::NotSkiff { server: self.client.server(), why: error.to_string() };
        let event: WatchEvent = serde_json::from_slice(line).map_err(not_skiff)?;
        if event.event_type == WatchType::Error {
            let problem: Problem = serde_json::from_value(event.object).map_err(not_skiff)?;
            if problem.code != Code::Compacted {
                return Err(Error::Problem(problem));
            }
            self.restart();
            return Ok(None);
        }
        if let Some(version) = event.object.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
            self.version = Some(version.to_owned());
        }
        Ok(match event.event_type {
            WatchType::Added => Some(Change::Added(event.object)),
            WatchType::Modified => Some(Change::Modified(event.object)),
            WatchType::Deleted => Some(Change::Deleted(event.object)),
            WatchType::Bookmark | WatchType::Error => None,
        })
    }

    fn restart(&mut self) {
        self.version = None;
        self.lines = None;
    }
}

fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Broken { .. } => true,
        Error::Problem(problem) => problem.code == Code::Unavailable,
        Error::Untrusted { .. } | Error::NotSkiff { .. } | Error::Options(_) => false,
    }
}
