//! The standard streams of a task that a client attaches to, once.
//!
//! ```text
//!   guest ── output, framed ──> Pipe ──> Client ── tunnel ──> whoever ran it
//!         <── input ─────────── Pipe <── Client <── tunnel ──
//! ```
//! The task waits for its client before it begins, and for room when the client is slower than it is, so nothing of its
//! output is lost. A client that goes away ends its input, and holds it up no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::sandbox::pipe::Pipe;

/// The task's side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Console(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    input: Pipe,
    output: Pipe,
    is_terminal: bool,
    is_taken: AtomicBool,
    attached: CancellationToken,
}

impl Console {
    pub fn new(is_terminal: bool) -> Self {
        let (input, output, attached) = (Pipe::default(), Pipe::default(), CancellationToken::new());
        Self(Arc::new(Parts { input, output, is_terminal, is_taken: AtomicBool::new(false), attached }))
    }

    /// The client's side; `None` where one is attached, or has been, or comes too late.
    pub fn attach(&self) -> Option<Client> {
        let is_first = !self.0.is_taken.swap(true, Ordering::AcqRel);
        is_first.then(|| {
            self.0.attached.cancel();
            Client(self.clone())
        })
    }

    /// Waits until a client is attached, and no longer than that: then none can any more.
    pub(crate) async fn attached(&self, within: Duration) {
        let is_attached = tokio::time::timeout(within, self.0.attached.cancelled()).await.is_ok();
        if !is_attached && !self.0.is_taken.swap(true, Ordering::AcqRel) {
            self.0.output.abandon();
        }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.0.is_terminal
    }

    pub(crate) fn input(&self) -> &Pipe {
        &self.0.input
    }

    pub(crate) fn output(&self) -> &Pipe {
        &self.0.output
    }

    /// The task has ended, or does not begin.
    pub(crate) fn hang_up(&self) {
        self.0.is_taken.store(true, Ordering::Release);
        self.0.input.abandon();
        self.0.output.end();
    }
}

/// Whoever is attached to a task. Dropping it lets go of the task.
#[derive(Debug)]
pub struct Client(Console);

impl Client {
    /// What the task writes next, framed; `None` once it has ended.
    pub async fn output(&self) -> Option<Bytes> {
        self.0.output().next().await
    }

    /// Where the task reads. It outlives the client.
    pub fn keyboard(&self) -> Keyboard {
        Keyboard(self.0.input().clone())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.output().abandon();
        self.0.input().end();
    }
}

/// What a task reads comes from here. Dropping it is the end of that.
#[derive(Debug)]
pub struct Keyboard(Pipe);

impl Keyboard {
    /// Waits until the task has read enough of what came before.
    pub async fn write(&self, bytes: Bytes) {
        self.0.until_room().await;
        self.0.push(bytes);
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_client_attaches_and_nobody_waits_for_another() {
        let console = Console::new(false);
        let waits = tokio::spawn({
            let console = console.clone();
            async move { console.attached(Duration::from_secs(60)).await }
        });
        let client = console.attach().unwrap();
        waits.await.unwrap();
        assert!(console.attach().is_none());
        console.output().push(&b"said"[..]);
        assert_eq!(client.output().await.unwrap(), &b"said"[..]);
        client.keyboard().write(Bytes::from_static(b"typed")).await;
        drop(client);
        assert_eq!(console.input().next().await.unwrap(), &b"typed"[..]);
        assert_eq!(console.input().next().await, None);
        assert_eq!(console.output().room(), usize::MAX);

        let nobody = Console::new(false);
        nobody.attached(Duration::from_secs(60)).await;
        assert!(nobody.attach().is_none());
        assert_eq!(nobody.output().room(), usize::MAX);
    }
}
