//! Tunnels: bytes both ways between whoever asks the API and something on a node.
//!
//! ```text
//!   dig ── ToNode::Tunnel ──> node ── take_up ──> input goes to the node, output to whoever asked
//!    '── nothing within TAKEN_WITHIN, or NoTunnel ──> an error in words
//! ```
//! A node takes a tunnel up on a connection of its own, so that what is large or slow in one holds up nothing else, and
//! the connection's own windows are what holds back either side. Only the machine that was asked may take it up.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use skiff_api::wire::{ToNode, TunnelTo};
use skiff_api::{Code, NodeName, Problem, Uid};
use tokio::sync::oneshot;

use super::{LinkId, LogRouter};

/// A node answers at once; a slow line makes it seconds.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// Tunnels that wait to be taken up.
const WAITING_MAX: usize = 256;

/// One direction. It ends with an error where it broke.
pub type Flow = BoxStream<'static, io::Result<Bytes>>;

/// Joins the two ends of tunnels. Cheap to clone.
#[derive(Clone)]
pub struct Tunnels {
    nodes: LogRouter,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    dug: HashMap<u64, Dug>,
    next: u64,
}

/// A tunnel whose node has not come yet.
struct Dug {
    link: LinkId,
    uid: Uid,
    input: Flow,
    taken: oneshot::Sender<Result<Flow, String>>,
}

impl Tunnels {
    pub fn new(nodes: LogRouter) -> Self {
        Self { nodes, waiting: Arc::default() }
    }

    /// Sends `input` to something on a node, and answers with what comes of it.
    pub async fn dig(&self, node: &NodeName, to: TunnelTo, input: Flow) -> Result<Flow, Problem> {
        let absent = || Problem::new(Code::Unavailable, format!("node {node} is not connected"));
        let (link, uid, to_node) = self.nodes.way_to(node).ok_or_else(absent)?;
        let (taken, takes) = oneshot::channel();
        let id = {
            let mut waiting = self.lock();
            if waiting.dug.len() >= WAITING_MAX {
                let detail = format!("{WAITING_MAX} others wait to be connected");
                return Err(Problem::new(Code::Unavailable, detail).hint("try again"));
            }
            waiting.next += 1;
            let id = waiting.next;
            waiting.dug.insert(id, Dug { link, uid, input, taken });
            id
        };
        // Whoever gives up waiting leaves nothing behind.
        let _filled = Filled { tunnels: self, id };
        to_node.try_send(ToNode::Tunnel { id, to }).map_err(|_| absent())?;
        match tokio::time::timeout(TAKEN_WITHIN, takes).await {
            Ok(Ok(Ok(output))) => Ok(output),
            Ok(Ok(Err(why))) => Err(Problem::new(Code::Conflict, why)),
            Ok(Err(_)) => Err(absent()),
            Err(_) => {
                let within = TAKEN_WITHIN.as_secs();
                Err(Problem::new(Code::Unavailable, format!("node {node} did not answer within {within} s")))
            }
        }
    }

    /// A machine is there with its end: its output is passed on, and what is meant for it returned.
    pub fn take_up(&self, uid: &Uid, id: u64, output: Flow) -> Result<Flow, NoSuchTunnel> {
        self.meet(id, output, |dug| dug.uid == *uid)
    }

    /// The same for a node in this process.
    pub fn take_up_here(&self, id: u64, output: Flow) -> Result<Flow, NoSuchTunnel> {
        self.meet(id, output, |_| true)
    }

    fn meet(&self, id: u64, output: Flow, may: impl FnOnce(&Dug) -> bool) -> Result<Flow, NoSuchTunnel> {
        let Some(dug) = self.take(id, may) else { return Err(NoSuchTunnel) };
        // Whoever asked may have gone in this very moment.
        dug.taken.send(Ok(output)).map_err(|_| NoSuchTunnel)?;
        Ok(dug.input)
    }

    pub(crate) fn refused_on(&self, link: LinkId, id: u64, why: String) {
        self.refuse(id, why, |dug| dug.link == link);
    }

    pub(crate) fn refused_by(&self, uid: &Uid, id: u64, why: String) {
        self.refuse(id, why, |dug| dug.uid == *uid);
    }

    fn refuse(&self, id: u64, why: String, may: impl FnOnce(&Dug) -> bool) {
        if let Some(dug) = self.take(id, may) {
            let _ = dug.taken.send(Err(why));
        }
    }

    fn take(&self, id: u64, may: impl FnOnce(&Dug) -> bool) -> Option<Dug> {
        let mut waiting = self.lock();
        if waiting.dug.get(&id).is_none_or(|dug| !may(dug)) {
            return None;
        }
        waiting.dug.remove(&id)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There is no tunnel of that number for that machine, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody waits at the other end of this tunnel")]
pub struct NoSuchTunnel;

struct Filled<'a> {
    tunnels: &'a Tunnels,
    id: u64,
}

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        self.tunnels.lock().dug.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use futures_util::stream;
    use skiff_api::{ReplicaKey, ReplicaName};
    use tokio::sync::mpsc;

    use super::*;

    fn flow(text: &'static str) -> Flow {
        stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed()
    }

    async fn read(mut flow: Flow) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = flow.next().await {
            all.extend_from_slice(&piece.unwrap());
        }
        all
    }

    fn task() -> TunnelTo {
        TunnelTo::Task(ReplicaKey { namespace: "default".parse().unwrap(), name: ReplicaName::new("job-1-a") })
    }

    /// Tunnels to node `n`, and what it is told.
    fn linked() -> (Tunnels, LinkId, mpsc::Receiver<ToNode>) {
        let (logs, (to_node, inbox)) = (LogRouter::default(), mpsc::channel(8));
        let tunnels = Tunnels::new(logs.clone());
        let link = LinkId::default();
        logs.open(NodeName::new("n"), Uid::new("machine"), link, to_node);
        (tunnels, link, inbox)
    }

    async fn asked(inbox: &mut mpsc::Receiver<ToNode>) -> u64 {
        match inbox.recv().await {
            Some(ToNode::Tunnel { id, .. }) => id,
            other => unreachable!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_machine_that_was_asked_takes_it_up_and_no_other() {
        let (tunnels, _, mut inbox) = linked();
        let node = NodeName::new("n");
        let (dug, taken) = tokio::join!(tunnels.dig(&node, task(), flow("typed")), async {
            let id = asked(&mut inbox).await;
            assert!(tunnels.take_up(&Uid::new("other"), id, flow("forged")).is_err());
            assert!(tunnels.take_up(&Uid::new("machine"), id + 1, flow("forged")).is_err());
            tunnels.refused_by(&Uid::new("other"), id, "forged".to_owned());
            let input = tunnels.take_up(&Uid::new("machine"), id, flow("said")).unwrap();
            assert!(tunnels.take_up(&Uid::new("machine"), id, flow("twice")).is_err());
            input
        });
        assert_eq!((read(dug.unwrap()).await, read(taken).await), (b"said".to_vec(), b"typed".to_vec()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_learns_why_nobody_comes() {
        let (tunnels, link, mut inbox) = linked();
        let node = NodeName::new("n");
        let (dug, ()) = tokio::join!(tunnels.dig(&node, task(), flow("")), async {
            let id = asked(&mut inbox).await;
            tunnels.refused_on(link, id, "it does not run here".to_owned());
        });
        assert_eq!(dug.err().unwrap().detail, "it does not run here");
        let silent = tunnels.dig(&node, task(), flow("")).await.err().unwrap();
        assert_eq!(silent.detail, "node n did not answer within 10 s");
        let absent = tunnels.dig(&NodeName::new("m"), task(), flow("")).await.err().unwrap();
        assert_eq!(absent.detail, "node m is not connected");
        assert!(tunnels.lock().dug.is_empty(), "nothing is left behind");
    }
}
