//! Making links, and reading from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skiff_api::Uid;
use skiff_api::wire::{FromNode, ToNode};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{LogRouter, Tunnels};

/// Messages to one node that it has not taken yet. A burst of a thousand changes passes; a node that stands still does
/// not hold more than this.
const TO_NODE_MAX: usize = 1024;

/// Messages of one node that wait to be read.
const FROM_NODE_MAX: usize = 256;

/// Messages of all nodes that wait for the control loop.
const ARRIVALS_MAX: usize = 1024;

/// A node says who it is as soon as it is there.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// A node's end of a link. Either side ends it by dropping its end.
#[derive(Debug)]
pub struct NodeLink {
    pub to_control: mpsc::Sender<FromNode>,
    /// Ends when the control plane has dropped the link: the node should connect again.
    pub from_control: mpsc::Receiver<ToNode>,
}

/// Tells links apart; none is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct LinkId(u64);

/// Something that the control loop must know of.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) link: LinkId,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Opened(Opened),
    Said(Box<FromNode>),
    Closed,
}

/// The control loop's end of a new link: dropping it ends the link.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) to_node: mpsc::Sender<ToNode>,
    pub(crate) reader: DropGuard,
    /// Which machine it is by its certificate; nothing where the link is in this process.
    pub(crate) certified: Option<Uid>,
}

/// Makes links. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    arrivals: mpsc::Sender<Arrival>,
    logs: LogRouter,
    tunnels: Tunnels,
    next: Arc<AtomicU64>,
}

impl Hub {
    pub(crate) fn new(logs: LogRouter, tunnels: Tunnels) -> (Self, mpsc::Receiver<Arrival>) {
        let (arrivals, inbox) = mpsc::channel(ARRIVALS_MAX);
        (Self { arrivals, logs, tunnels, next: Arc::new(AtomicU64::new(1)) }, inbox)
    }

    /// A new link within this process, on which the node speaks first. Must be called within a tokio runtime.
    pub fn connect(&self) -> NodeLink {
        self.open(None)
    }

    /// A new link for the machine that a certificate names: it speaks for no other. Must be called within a tokio runtime.
    pub fn connect_certified(&self, uid: Uid) -> NodeLink {
        self.open(Some(uid))
    }

    /// A second connection of that machine, for the lines of logs only: nothing is said on it to the node. Must be called
    /// within a tokio runtime.
    pub fn connect_bulk(&self, uid: Uid) -> NodeLink {
        let (to_control, mut from_node) = mpsc::channel(FROM_NODE_MAX);
        let (to_node, from_control) = mpsc::channel(1);
        let (logs, tunnels) = (self.logs.clone(), self.tunnels.clone());
        tokio::spawn(async move {
            let bulk = logs.open_bulk(uid);
            while let Some(message) = from_node.recv().await {
                match message {
                    FromNode::Logs { id, lines } => bulk.deliver(id, lines),
                    FromNode::LogsEnd { id, error } => bulk.end(id, error),
                    FromNode::NoTunnel { id, why } => tunnels.refused_by(bulk.uid(), id, why),
                    FromNode::Hello(_)
                    | FromNode::Observed(_)
                    | FromNode::Resync
                    | FromNode::Lease { .. }
                    | FromNode::Event(_) => {
                        tracing::warn!(uid = %bulk.uid(), "dropped a node's second connection: only logs belong there");
                        break;
                    }
                }
            }
            drop(to_node);
        });
        NodeLink { to_control, from_control }
    }

    fn open(&self, certified: Option<Uid>) -> NodeLink {
        let link = LinkId(self.next.fetch_add(1, Ordering::Relaxed));
        let (to_control, from_node) = mpsc::channel(FROM_NODE_MAX);
        let (to_node, from_control) = mpsc::channel(TO_NODE_MAX);
        let dropped = CancellationToken::new();
        let reader = dropped.clone().drop_guard();
        let opened = Opened { to_node, reader, certified };
        let (arrivals, ways) = (self.arrivals.clone(), (self.logs.clone(), self.tunnels.clone()));
        tokio::spawn(async move {
            let arrive = |what| arrivals.send(Arrival { link, what });
            if arrive(What::Opened(opened)).await.is_ok() {
                read(link, from_node, &dropped, &arrivals, &ways).await;
                // The loop may have ended; then nobody needs to know.
                let _ = arrive(What::Closed).await;
            }
        });
        NodeLink { to_control, from_control }
    }
}

/// Passes on what a node says until either side ends the link.
async fn read(
    link: LinkId,
    mut from_node: mpsc::Receiver<FromNode>,
    dropped: &CancellationToken,
    arrivals: &mpsc::Sender<Arrival>,
    (logs, tunnels): &(LogRouter, Tunnels),
) {
    let hello = dropped.run_until_cancelled(tokio::time::timeout(HELLO_WITHIN, from_node.recv()));
    let Some(Ok(mut next)) = hello.await else { return };
    while let Some(message) = next {
        match message {
            FromNode::Logs { id, lines } => logs.deliver(link, id, lines),
            FromNode::LogsEnd { id, error } => logs.end(link, id, error),
            FromNode::NoTunnel { id, why } => tunnels.refused_on(link, id, why),
            message => {
                let arrival = Arrival { link, what: What::Said(Box::new(message)) };
                let passed = dropped.run_until_cancelled(arrivals.send(arrival)).await;
                if !matches!(passed, Some(Ok(()))) {
                    return;
                }
            }
        }
        next = dropped.run_until_cancelled(from_node.recv()).await.flatten();
    }
}
