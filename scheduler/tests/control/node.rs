//! A node without a sandbox: it keeps to the protocol, notes what it was told, and says of each replica what the test
//! wants it to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::{EngineReport, Phase, ReplicaStatus, Resources};
use skiff_api::wire::{
    Assignment, Base, Desired, Fence, FromNode, Hello, Observed, PROTOCOL, Routes, ServiceRoutes, ToNode,
};
use skiff_api::{NodeName, ReplicaKey, ServiceKey, Uid};
use skiff_scheduler::link::NodeLink;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cluster::PATIENCE;

/// What a node says of a replica.
pub(crate) type Says = Arc<dyn Fn(&Assignment) -> ReplicaStatus + Send + Sync>;

/// What a node was told, and how often it started or stopped something for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) assigned: BTreeMap<ReplicaKey, Assignment>,
    pub(crate) routes: BTreeMap<ServiceKey, ServiceRoutes>,
    pub(crate) desired: Fence,
    pub(crate) routed: Fence,
    pub(crate) started: usize,
    pub(crate) stopped: usize,
    pub(crate) wholes: usize,
    /// `routes` or `desired`, in the order of the messages that removed something.
    pub(crate) removals: Vec<&'static str>,
    /// Every change of a service's routes, in order.
    pub(crate) heard: Vec<ServiceRoutes>,
}

pub(crate) struct FakeNode {
    pub(crate) view: watch::Receiver<View>,
    task: JoinHandle<()>,
}

pub(crate) fn hello(name: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: NodeName::new(name),
        uid: Uid::new(format!("uid of {name}")),
        incarnation: Uid::new("1"),
        version: "0.1.0".to_owned(),
        platform: "linux/x86_64".to_owned(),
        gateway: "127.0.0.1:8080".to_owned(),
        peer: None,
        site: String::new(),
        labels: BTreeMap::new(),
        capacity: Resources { memory: Bytes::mebi(64 << 10), cpu: MilliCpu(1_000_000) },
        engine: EngineReport::default(),
        docker: String::new(),
        fence: Fence::default(),
    }
}

/// Everything becomes ready at once.
pub(crate) fn ready() -> Says {
    Arc::new(|_| status(Phase::Ready, "", ""))
}

pub(crate) fn status(phase: Phase, reason: &str, message: &str) -> ReplicaStatus {
    ReplicaStatus { phase, reason: reason.to_owned(), message: message.to_owned(), ..ReplicaStatus::default() }
}

impl FakeNode {
    /// Connects with what it had before, as a node does that comes back.
    pub(crate) async fn connect(link: NodeLink, hello: Hello, had: View, says: Says) -> Self {
        let whole = |view: &View| {
            let replicas = view.assigned.values().map(|assignment| (assignment.replica.clone(), says(assignment)));
            Observed { whole: true, fence: view.desired, replicas: replicas.collect(), gone: Vec::new() }
        };
        link.to_control.send(FromNode::Hello(hello)).await.unwrap();
        link.to_control.send(FromNode::Observed(whole(&had))).await.unwrap();
        let (sender, view) = watch::channel(View { started: 0, stopped: 0, wholes: 0, removals: Vec::new(), ..had });
        let task = tokio::spawn(run(link, sender, says));
        Self { view, task }
    }

    pub(crate) async fn wait(&mut self, what: &str, is: impl FnMut(&View) -> bool) -> View {
        let waited = tokio::time::timeout(PATIENCE, self.view.wait_for(is)).await;
        match waited.map(|view| view.unwrap().clone()) {
            Ok(view) => view,
            Err(_) => panic!("waited in vain for {what}; the node has {:#?}", self.view.borrow()),
        }
    }

    /// Ends its link, as a node does that is switched off, and answers what it had.
    pub(crate) async fn stop(self) -> View {
        self.task.abort();
        // Cancelled, as it should be.
        let _ = self.task.await;
        self.view.borrow().clone()
    }
}

async fn run(mut link: NodeLink, view: watch::Sender<View>, says: Says) {
    while let Some(message) = link.from_control.recv().await {
        let mut answer = None;
        view.send_modify(|view| match message {
            ToNode::Desired(desired) => answer = Some(take_desired(view, desired, &says)),
            ToNode::Routes(routes) => take_routes(view, routes),
            ToNode::Logs { .. }
            | ToNode::CancelLogs { .. }
            | ToNode::Tunnel { .. }
            | ToNode::Lease { .. }
            | ToNode::Refused { .. } => {}
        });
        if let Some(answer) = answer {
            // The test may have ended the control plane.
            let _ = link.to_control.send(FromNode::Observed(answer)).await;
        }
    }
}

fn take_desired(view: &mut View, desired: Desired, says: &Says) -> Observed {
    assert!(desired.fence > view.desired, "{:?} comes after {:?}", desired.fence, view.desired);
    let mut gone: Vec<ReplicaKey> = desired.remove.clone();
    match desired.base {
        Base::Whole => {
            view.wholes += 1;
            let named = |key: &ReplicaKey| desired.upsert.iter().any(|assignment| assignment.replica == *key);
            gone.extend(view.assigned.keys().filter(|key| !named(key)).cloned());
        }
        Base::After(base) => assert_eq!(base, view.desired),
    }
    view.desired = desired.fence;
    if !gone.is_empty() {
        view.removals.push("desired");
    }
    for key in &gone {
        view.stopped += usize::from(view.assigned.remove(key).is_some());
    }
    let mut replicas = Vec::new();
    for assignment in desired.upsert {
        let is_new = view.assigned.get(&assignment.replica).is_none_or(|before| before.uid != assignment.uid);
        view.started += usize::from(is_new);
        replicas.push((assignment.replica.clone(), says(&assignment)));
        view.assigned.insert(assignment.replica.clone(), assignment);
    }
    Observed { whole: false, fence: view.desired, replicas, gone }
}

fn take_routes(view: &mut View, routes: Routes) {
    assert!(routes.fence > view.routed);
    match routes.base {
        Base::Whole => view.routes.clear(),
        Base::After(base) => assert_eq!(base, view.routed),
    }
    view.routed = routes.fence;
    if !routes.remove.is_empty() {
        view.removals.push("routes");
    }
    routes.remove.iter().for_each(|key| _ = view.routes.remove(key));
    view.heard.extend(routes.upsert.iter().cloned());
    view.routes.extend(routes.upsert.into_iter().map(|routes| (routes.service.clone(), routes)));
}
