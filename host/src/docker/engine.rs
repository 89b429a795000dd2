//! The machine's engine, and how it is asked: each question ends in time, whatever the engine does.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error as Call;
use bollard::{API_DEFAULT_VERSION, Docker};

use super::error::Error;

/// An engine under load takes seconds to create a container; beyond this it hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A node that starts does not wait for an engine that hangs.
const PROBE: Duration = Duration::from_secs(2);

/// Of a connection that is kept busy on purpose, by a load or by waiting.
const LONG_SECS: u64 = 24 * 3600;

/// An engine, by its socket. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine(Arc<Inner>);

struct Inner {
    socket: String,
    /// Once it has said which version of its API it speaks.
    docker: Mutex<Option<Docker>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.0.socket).finish()
    }
}

impl Engine {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self(Arc::new(Inner { socket: socket.to_string_lossy().into_owned(), docker: Mutex::default() }))
    }

    /// Its version, if it answers at once.
    pub(crate) async fn probe(&self) -> Option<String> {
        let version = tokio::time::timeout(PROBE, self.ask("tell its version", async |docker| docker.version().await));
        match version.await {
            Ok(Ok(version)) => Some(version.version.unwrap_or_else(|| "unknown".to_owned())),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no Docker engine: this node runs no containers");
                None
            }
            Err(_) => {
                tracing::warn!(socket = self.0.socket, "the Docker engine hangs: this node runs no containers");
                None
            }
        }
    }

    /// One question.
    pub(super) async fn ask<T>(
        &self,
        what: &'static str,
        call: impl AsyncFnOnce(Docker) -> Result<T, Call>,
    ) -> Result<T, Error> {
        self.ask_for(what, PATIENCE, call).await
    }

    /// One that may take longer.
    pub(super) async fn ask_for<T>(
        &self,
        what: &'static str,
        patience: Duration,
        call: impl AsyncFnOnce(Docker) -> Result<T, Call>,
    ) -> Result<T, Error> {
        let asked = async {
            let docker = self.connected().await?;
            call(docker).await
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(answer) => answer.map_err(|error| {
                let error = Error::of(what, &self.0.socket, error);
                if matches!(error, Error::Unreachable { .. }) {
                    // Whatever comes after it may speak another version.
                    *self.0.docker.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                error
            }),
            Err(_) => Err(Error::Hangs { what, after: patience }),
        }
    }

    async fn connected(&self) -> Result<Docker, Call> {
        let known = self.0.docker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(docker) = known {
            return Ok(docker);
        }
        let docker = Docker::connect_with_unix(&self.0.socket, LONG_SECS, API_DEFAULT_VERSION)?;
        let docker = docker.negotiate_version().await?;
        *self.0.docker.lock().unwrap_or_else(PoisonError::into_inner) = Some(docker.clone());
        Ok(docker)
    }
}
