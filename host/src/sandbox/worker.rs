//! A component that runs on its own, once, to its end.
//!
//! It begins in the lanes ([`crate::sandbox::lane`]) and stays there: nobody waits for an answer of it, and so nothing that
//! it does delays one that somebody waits for; and its turns are where its replica is held to `limits.cpu`. Its processor
//! time has no end, its memory has the limits of any instance.
//!
//! WASI has no signals. A worker that watches its standard input learns from its end that it is to stop, and has a while to
//! do so; one that never looked at it could not know, and ends where it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime_wasi::I32Exit;

use crate::sandbox::Failure;
use crate::sandbox::code::Loaded;
use crate::sandbox::console::Console;
use crate::sandbox::guest::{Ended, Guest, Panicked};
use crate::sandbox::runner::{Inner, Runner};
use crate::sandbox::stdio::{Input, Tail};

/// What an instance has that runs on its own.
pub(super) struct Alone {
    pub(super) input: Input,
    pub(super) tail: Tail,
}

/// How long a task waits for its client.
const ATTACHES_WITHIN: Duration = Duration::from_secs(60);

struct HangsUp(Console);

impl Drop for HangsUp {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

/// A worker that can be run.
pub struct Worker {
    inner: Arc<Inner>,
    loaded: Arc<Loaded>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself, with this status.
    Status(i32),
    Failed(Failure),
    /// It was asked to stop, and has, or was ended.
    Stopped,
}

/// What is known of a run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub exit: Exit,
    pub ran: Duration,
    /// The last lines that it wrote.
    pub tail: Vec<String>,
}

impl Worker {
    pub(super) fn new(runner: &Runner, loaded: Arc<Loaded>) -> Self {
        Self { inner: runner.0.clone(), loaded }
    }

    /// Runs an instance until it ends, or for `grace` after `stop` if it watches for that, and not after `now`. Dropping
    /// the run ends it. A console waits for its client a while, and hangs up at the end.
    pub async fn run(
        &self,
        stop: CancellationToken,
        grace: Duration,
        now: CancellationToken,
        console: Option<Console>,
    ) -> Report {
        let _hangs_up = console.clone().map(HangsUp);
        if let Some(console) = &console {
            stop.run_until_cancelled(console.attached(ATTACHES_WITHIN)).await;
        }
        if stop.is_cancelled() {
            return Report { exit: Exit::Stopped, ran: Duration::ZERO, tail: Vec::new() };
        }
        let (began, tail, input) = (Instant::now(), Tail::default(), Input::new(stop.clone(), console));
        let exit = match self.begin(Alone { input: input.clone(), tail: tail.clone() }) {
            Err(failure) => Exit::Failed(failure),
            Ok(mut guest) => {
                let too_late = async {
                    stop.cancelled().await;
                    if input.is_watched() {
                        now.run_until_cancelled(tokio::time::sleep(grace)).await;
                    }
                };
                tokio::select! {
                    ended = &mut guest => self.exit(ended),
                    () = too_late => Exit::Stopped,
                }
            }
        };
        let exit = if stop.is_cancelled() { Exit::Stopped } else { exit };
        Report { exit, ran: began.elapsed(), tail: tail.lines() }
    }

    fn begin(&self, alone: Alone) -> Result<Guest, Failure> {
        let lease = self.inner.share.lease().map_err(|short| self.inner.short(short))?;
        let (meter, mut store) = self.inner.fresh(lease, &self.loaded);
        store.data_mut().run_alone(alone);
        let loaded = self.loaded.clone();
        let work = async move {
            // No instance is left to go on with: each end is told as the guest's own call of `exit` is.
            let ended = loaded.linked.run(&mut store).await;
            Ended::Failed(store, ended.map_or_else(|error| error, wasmtime::Error::from))
        };
        Ok(Guest::apart(work, meter, self.inner.clone()))
    }

    fn exit(&self, ended: Result<Ended, Panicked>) -> Exit {
        if let Ok(Ended::Failed(store, error)) = ended {
            if let Some(status) = error.downcast_ref::<I32Exit>() {
                self.inner.lanes.bury(store);
                return Exit::Status(status.0);
            }
            return self.failed(Ok(Ended::Failed(store, error)));
        }
        self.failed(ended)
    }

    fn failed(&self, ended: Result<Ended, Panicked>) -> Exit {
        match self.inner.verdict(ended) {
            Err(failure) => Exit::Failed(failure),
            Ok(instance) => {
                self.inner.dispose(instance.store);
                Exit::Status(0)
            }
        }
    }
}
