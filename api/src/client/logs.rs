//! Streams of log lines.

use futures_util::stream::{self, Stream, StreamExt};
use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::client::calls::object_path;
use crate::client::{Client, Error};
use crate::id::Name;
use crate::problem::Problem;
use crate::resource::Kind;
use crate::wire::Stream as Standard;

/// Whose log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// All replicas of a service, merged.
    Service(String),
    /// All tasks of a job, merged. Followed, they end when it does.
    Job(String),
    Replica(String),
}

/// Which lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    pub tail: Option<u64>,
    pub since: Option<Timestamp>,
}

/// One line of a guest, and which replica wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogEntry {
    pub replica: String,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub time: Timestamp,
    pub stream: Standard,
    pub text: String,
}

/// A line of the answer: an entry, or the error that ended one replica's part.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Entry(LogEntry),
    Problem(Problem),
}

impl Client {
    /// The lines of a log. A problem in the stream (a node that is gone) is an item; the stream goes on after it.
    pub async fn logs(
        &self,
        namespace: &Name,
        target: &LogTarget,
        options: &LogOptions,
    ) -> Result<impl Stream<Item = Result<LogEntry, Error>> + use<>, Error> {
        let (kind, name) = match target {
            LogTarget::Service(name) => (Kind::Service, name),
            LogTarget::Job(name) => (Kind::Job, name),
            LogTarget::Replica(name) => (Kind::Replica, name),
        };
        let path = format!("{}/logs", object_path(kind, namespace, name)?);
        let mut query = vec![("follow", options.follow.to_string())];
        query.extend(options.tail.map(|tail| ("tail", tail.to_string())));
        query.extend(options.since.map(|since| ("since", since.to_string())));
        let response = self.send(self.request(Method::GET, &path, &query)).await?;
        let server = self.server();
        Ok(lines(self.clone(), response).map(move |line| {
            let line = line?;
            match serde_json::from_slice(&line) {
                Ok(Line::Entry(entry)) => Ok(entry),
                Ok(Line::Problem(problem)) => Err(Error::Problem(problem)),
                Err(error) => Err(Error::NotSkiff { server: server.clone(), why: error.to_string() }),
            }
        }))
    }
}

/// The most bytes of one line of a stream: an object with a status at its largest.
const LINE_BYTES_MAX: usize = 4 << 20;

/// The lines of a streamed answer, without their ends. A last line without an end was cut off and is left out.
pub(crate) fn lines(client: Client, response: reqwest::Response) -> impl Stream<Item = Result<Vec<u8>, Error>> + use<> {
    let state = (client, response, Vec::new(), false);
    stream::unfold(state, |(client, mut response, mut buffer, ended): (Client, _, Vec<u8>, bool)| async move {
        if ended {
            return None;
        }
        loop {
            if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let rest = buffer.split_off(end + 1);
                buffer.truncate(end);
                return Some((Ok(buffer), (client, response, rest, false)));
            }
            if buffer.len() > LINE_BYTES_MAX {
                let why = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                let error = Error::NotSkiff { server: client.server(), why };
                return Some((Err(error), (client, response, Vec::new(), true)));
            }
            match response.chunk().await {
                Ok(Some(piece)) => buffer.extend_from_slice(&piece),
                Ok(None) => return None,
                Err(error) => {
                    let error = client.failure(&error);
                    return Some((Err(error), (client, response, Vec::new(), true)));
                }
            }
        }
    })
}
