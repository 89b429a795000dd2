//! The node's one decision-making task: it owns all state, and waits for nothing but its inputs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_api::Digest;
use skiff_api::id::{ReplicaKey, ServiceKey, Uid};
use skiff_api::resource::ReplicaStatus;
use skiff_api::wire::{Assignment, FromNode, Hello, NodeEvent, ServiceRoutes, ToNode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet, spawn_blocking};

use super::dirty::{Dirty, Scope, Users};
use super::lease::{self, Holders};
use super::operation::{Begun, Outcome, Tools};
use super::outbox::Outbox;
use super::queries::Queries;
use super::routing::Routing;
use super::sets::Unsaved;
use super::tunnels::Room;
use super::worker::Halt;
use crate::docker::Exit;
use crate::gateway::{Shared, Target};
use crate::link::Link;
use crate::plan::{self, Action, CodeStage, Observed, Running, RunningStage, Standing};
use crate::state::{Set, StateFiles};

/// Messages that are taken in one go, so that a burst of them is one write to the state file.
const MESSAGES_AT_ONCE: usize = 64;
/// When a set could not be written, it is tried again so often; the node serves meanwhile.
const SAVE_AGAIN: Duration = Duration::from_secs(10);

/// What the node's handle asks for.
pub(crate) enum Command {
    Link(Link),
    Stop,
}

/// What a reconciler starts from.
pub(crate) struct Parts {
    pub(crate) tools: Tools,
    pub(crate) gateway: Arc<Shared>,
    pub(crate) files: StateFiles,
    pub(crate) desired: Set<ReplicaKey, Assignment>,
    pub(crate) routes: Set<ServiceKey, ServiceRoutes>,
    pub(crate) found: BTreeMap<Digest, CodeStage>,
    /// What guests were refused.
    pub(crate) refusals: mpsc::Receiver<NodeEvent>,
    /// What the node says of itself; the fence is filled in.
    pub(crate) hello: Hello,
}

pub(crate) struct Reconciler {
    pub(super) tools: Arc<Tools>,
    pub(super) gateway: Arc<Shared>,
    pub(super) files: StateFiles,
    hello: Hello,
    pub(super) desired: Set<ReplicaKey, Assignment>,
    pub(super) routes: Set<ServiceKey, ServiceRoutes>,
    pub(super) observed: Observed,
    pub(super) targets: BTreeMap<ReplicaKey, (ServiceKey, Arc<Target>)>,
    /// Those that stop, and are still served to other nodes.
    pub(super) leaving: BTreeMap<ReplicaKey, (ServiceKey, Arc<Target>)>,
    /// Those that run, and how each is told to stop.
    pub(super) workers: BTreeMap<ReplicaKey, Halt>,
    pub(super) holders: Holders,
    pub(super) room: Room,
    pub(super) outbox: Outbox,
    operations: JoinSet<Outcome>,
    /// What nobody waits for. It ends with the node.
    _helpers: JoinSet<()>,
    begun: HashMap<Id, Action>,
    refusals: mpsc::Receiver<NodeEvent>,
    pub(super) dirty: Dirty,
    pub(super) users: Users,
    /// When something that failed is due.
    wake: Option<Timestamp>,
    pub(super) routing: Routing,
    pub(super) unsaved: Unsaved,
    /// Code that requests could not load.
    lost: mpsc::UnboundedReceiver<PathBuf>,
    /// There may be code that nobody uses.
    pub(super) unnamed: bool,
    pub(super) collecting: bool,
    /// Told once no replica that can start at once is still starting.
    settled: Option<oneshot::Sender<()>>,
}

struct Linked {
    inbox: mpsc::Receiver<ToNode>,
    outbox: mpsc::Sender<FromNode>,
    queries: Queries,
}

enum Input {
    Command(Option<Command>),
    Messages(Vec<ToNode>),
    Ended(Result<(Id, Outcome), JoinError>),
    Refused(NodeEvent),
    /// There is room for a message, or the link is gone.
    Sendable(bool),
    Due,
    /// The table is to be made anew.
    Reroute,
    /// The lease is to be asked for, or to be given up.
    LeaseDue,
    /// A request needed this file.
    Lost(PathBuf),
}

impl Reconciler {
    /// `settled` is told once every replica whose code is compiled has been tried.
    pub(crate) fn new(parts: Parts, settled: oneshot::Sender<()>) -> Self {
        let code = |stage| plan::Code { stage, failure: None };
        let code = parts.found.into_iter().map(|(digest, stage)| (digest, code(stage))).collect();
        let (mut dirty, routing) = (Dirty::default(), Routing::new());
        dirty.all();
        let ended = lease::begun_before(&parts.desired.items);
        let holders = Holders::of(&parts.desired.items);
        let (lost, users) = (parts.tools.lost(), Users::new(&parts.desired.items));
        for (replica, assignment) in &parts.desired.items {
            parts.tools.told().tell(replica, assignment.settings.as_ref());
        }
        // What needs a lease may have run without one while there was no process to hold it.
        let may_go_on = parts.desired.items.values().filter(|assignment| !assignment.needs_lease());
        let wanted = may_go_on.map(|assignment| assignment.uid.clone()).collect();
        let mut helpers = JoinSet::new();
        helpers.spawn(parts.tools.sweep(wanted));
        parts.tools.keep(|keep| keep.told(parts.desired.fence.epoch, None));
        helpers.spawn(parts.tools.sweep_volumes());
        Self {
            tools: Arc::new(parts.tools),
            gateway: parts.gateway,
            files: parts.files,
            hello: parts.hello,
            desired: parts.desired,
            routes: parts.routes,
            observed: Observed { code, ended, ..Observed::default() },
            targets: BTreeMap::new(),
            leaving: BTreeMap::new(),
            workers: BTreeMap::new(),
            holders,
            outbox: Outbox::default(),
            room: Room::default(),
            operations: JoinSet::new(),
            _helpers: helpers,
            begun: HashMap::new(),
            refusals: parts.refusals,
            dirty,
            users,
            wake: None,
            routing,
            unsaved: Unsaved::default(),
            lost,
            unnamed: true,
            collecting: false,
            settled: Some(settled),
        }
    }

    /// Runs until it is stopped. Replicas end with it.
    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut link: Option<Linked> = None;
        loop {
            let wake = self.step();
            let input = self.next_input(&mut commands, link.as_mut(), wake).await;
            match input {
                Input::Command(None | Some(Command::Stop)) => return self.end_containers().await,
                Input::Command(Some(Command::Link(new))) => {
                    let gateway = new.reachable(&self.hello.gateway);
                    let peer = self.hello.peer.as_ref().map(|peer| new.reachable(peer));
                    self.outbox.greet(Hello { fence: self.newest_fence(), gateway, peer, ..self.hello.clone() });
                    let Link { inbox, outbox, bulk, .. } = new;
                    self.holders.lease.new_link();
                    link = Some(Linked { inbox, outbox, queries: Queries::new(bulk) });
                }
                Input::Messages(messages) if messages.is_empty() => link = None,
                Input::Messages(messages) => {
                    for message in messages {
                        self.receive(message, link.as_mut().map(|link| &mut link.queries));
                    }
                    self.save().await;
                }
                Input::Ended(ended) => {
                    self.ended(ended);
                    while let Some(ended) = self.operations.try_join_next_with_id() {
                        self.ended(ended);
                    }
                }
                Input::Refused(event) => self.outbox.pass_on(event),
                Input::Sendable(true) => self.send(link.as_ref()),
                Input::Sendable(false) => link = None,
                Input::LeaseDue => self.tend_lease(),
                Input::Due => {
                    self.dirty.all();
                    self.save().await;
                }
                Input::Lost(path) => self.lose(&path),
                Input::Reroute => {}
            }
        }
    }

    async fn next_input(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        link: Option<&mut Linked>,
        wake: Option<Timestamp>,
    ) -> Input {
        let due = async {
            match wake {
                Some(wake) => tokio::time::sleep(until(wake)).await,
                None => std::future::pending().await,
            }
        };
        // Nobody is told that a replica is ready before the gateway knows it.
        let has_news = !self.outbox.is_empty() && self.routing.due().is_none();
        let (messages, sendable) = match link {
            Some(Linked { inbox, outbox, .. }) => (Some(inbox), has_news.then_some(outbox)),
            None => (None, None),
        };
        let messages = async {
            let mut batch = Vec::new();
            match messages {
                Some(inbox) => drop(inbox.recv_many(&mut batch, MESSAGES_AT_ONCE).await),
                None => std::future::pending().await,
            }
            batch
        };
        let sendable = async {
            match sendable {
                Some(outbox) => outbox.reserve().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let reroute = async {
            match self.routing.due() {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let lease_due = self.lease_due();
        let lease_due = async {
            match lease_due {
                Some(due) => tokio::time::sleep(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = commands.recv() => Input::Command(command),
            Some(ended) = self.operations.join_next_with_id() => Input::Ended(ended),
            Some(event) = self.refusals.recv() => Input::Refused(event),
            batch = messages => Input::Messages(batch),
            room = sendable => Input::Sendable(room),
            () = due => Input::Due,
            () = reroute => Input::Reroute,
            () = lease_due => Input::LeaseDue,
            Some(path) = self.lost.recv() => Input::Lost(path),
        }
    }

    /// Plans, begins what is planned, and notes what changed. Returns when to come back if nothing happens.
    fn step(&mut self) -> Option<Timestamp> {
        let now = Timestamp::now();
        let mut report = BTreeMap::new();
        // What is begun may be done at once, and then is planned again before anybody is told.
        while let Some(scope) = self.scope() {
            let plan = plan::plan_for(&self.desired.items, &self.observed, &scope.replicas, now);
            let earlier = self.wake.filter(|_| !scope.is_whole);
            self.wake = plan.wake.into_iter().chain(earlier).min();
            for action in plan.actions {
                self.begin(action);
            }
            report.extend(scope.replicas.into_iter().map(|replica| (replica, None)));
            report.extend(plan.report.into_iter().map(|(replica, standing)| (replica, Some(standing))));
        }
        self.note(report, now);
        self.route();
        self.collect();
        if self.settled.is_some() && self.routing.due().is_none() {
            let starts = self.observed.running.values().any(|running| running.stage == RunningStage::Starting);
            if !starts && let Some(settled) = self.settled.take() {
                // Whoever waited for it has stopped waiting.
                let _ = settled.send(());
                self.verify();
            }
        }
        let save_at = self.unsaved.any().then(|| now.saturating_add(SAVE_AGAIN).ok());
        self.wake.into_iter().chain(save_at.flatten()).min()
    }

    fn scope(&mut self) -> Option<Scope> {
        let told = self.outbox.statuses.keys().cloned();
        self.dirty.take(&self.desired.items, &self.observed, &self.users, told)
    }

    pub(super) fn begin(&mut self, action: Action) {
        let tools = self.tools.clone();
        match &action {
            Action::Pull { digest, repository } => {
                self.code(digest).stage = CodeStage::Pulling;
                let (repository, digest) = (repository.clone(), digest.clone());
                self.spawn(action, tools.pull(repository, digest));
            }
            Action::Compile(digest) => {
                self.code(digest).stage = CodeStage::Compiling;
                let digest = digest.clone();
                self.spawn(action, tools.compile(digest));
            }
            Action::Start(replica) => {
                let Some(assignment) = self.desired.items.get(replica).cloned() else { return };
                let Some(digest) = assignment.template.image.digest().cloned() else { return };
                let running = Running { uid: assignment.uid.clone(), stage: RunningStage::Starting };
                self.observed.running.insert(replica.clone(), running);
                let brake = self.holders.brake(&assignment);
                // Whose image must be signed is looked at before all else, which takes reading it.
                if assignment.trust.is_none()
                    && let Some(target) = tools.start_proven(&assignment, &digest)
                {
                    self.settle(Outcome::Started(replica.clone(), Ok(Begun::Target(target))));
                    return;
                }
                self.spawn(action, tools.start(assignment, digest, brake));
            }
            Action::Stop(replica) => {
                if let Some(running) = self.observed.running.get_mut(replica) {
                    running.stage = RunningStage::Stopping;
                }
                if let Some(worker) = self.workers.get(replica) {
                    // Its run ends, and is followed by what there is to tidy up. Without a lease it has no time to do so.
                    worker.stop(self.holders.brake_of(replica).is_cancelled());
                    return;
                }
                // The table changes before the target closes: who comes too late looks again and finds another.
                let stopping = self.targets.remove(replica);
                let is_braked = self.holders.brake_of(replica).is_cancelled();
                if let Some((_, target)) = stopping.as_ref().filter(|_| is_braked) {
                    target.cut_off();
                }
                let lingers = !is_braked && self.gateway.peers.is_some();
                if let Some(stopping) = stopping.clone().filter(|_| lingers) {
                    self.leaving.insert(replica.clone(), stopping);
                }
                self.routing.close(replica.clone(), stopping.map(|(_, target)| target));
            }
        }
    }

    pub(super) fn spawn(&mut self, action: Action, operation: impl Future<Output = Outcome> + Send + 'static) {
        let task = self.operations.spawn(operation);
        self.begun.insert(task.id(), action);
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        match ended {
            Ok((id, outcome)) => {
                self.begun.remove(&id);
                self.settle(outcome);
            }
            Err(error) => {
                // A bug of ours: it must cost one replica's try and not the node.
                let action = self.begun.remove(&error.id());
                tracing::error!(?action, %error, "an operation did not end as it should");
                match action {
                    Some(action) => self.broken(action),
                    // Collecting, verifying and watching are nobody's action.
                    None => self.collecting = false,
                }
            }
        }
    }

    fn receive(&mut self, message: ToNode, queries: Option<&mut Queries>) {
        match message {
            ToNode::Desired(desired) => self.desire(desired),
            ToNode::Routes(routes) => self.learn_routes(routes),
            ToNode::Logs { id, query } => {
                if let Some(queries) = queries {
                    queries.ask(id, query, self.tools.logs());
                }
            }
            ToNode::Tunnel { id, to } => {
                if let Some(queries) = queries {
                    self.take_up(id, to, queries.bulk());
                }
            }
            ToNode::Lease { asked_ms } => self.lease_granted(asked_ms),
            ToNode::Refused { why } => tracing::error!(why, "the control plane refuses this node"),
            ToNode::CancelLogs { id } => {
                if let Some(queries) = queries {
                    queries.cancel(id);
                }
            }
        }
    }

    fn send(&mut self, link: Option<&Linked>) {
        let Some(link) = link else { return };
        while let Ok(permit) = link.outbox.try_reserve() {
            let Some(message) = self.outbox.take(self.desired.fence) else { return };
            permit.send(message);
        }
    }

    /// Turns what plans reported into statuses, and keeps what changed for the control plane.
    fn note(&mut self, report: BTreeMap<ReplicaKey, Option<Standing>>, now: Timestamp) {
        for (replica, standing) in report {
            let old = self.outbox.statuses.get(&replica);
            let Some(Standing { phase, reason, message, retries, ended, exit_code }) = standing else {
                self.holders.forget(&replica);
                if old.is_some() {
                    self.outbox.gone(replica.clone());
                    // One that never started has no operation that ends its log.
                    let logs = self.tools.logs().clone();
                    drop(spawn_blocking(move || logs.stop(&replica)));
                }
                continue;
            };
            let since = old.filter(|old| old.phase == phase).map_or(now, |old| old.since);
            let reason = reason.to_owned();
            let status = ReplicaStatus { phase, reason, message, since, retries, ended, exit_code };
            if old != Some(&status) {
                self.outbox.set(replica, status);
            }
        }
    }

    /// One at a time: it reads whole folders.
    fn collect(&mut self) {
        if self.collecting || !std::mem::take(&mut self.unnamed) {
            return;
        }
        let mut named: BTreeSet<Digest> = self.users.digests().cloned().collect();
        let busy = self
            .observed
            .code
            .iter()
            .filter(|(_, code)| matches!(code.stage, CodeStage::Pulling | CodeStage::Compiling));
        named.extend(busy.map(|(digest, _)| digest.clone()));
        self.collecting = true;
        self.operations.spawn(self.tools.clone().collect(named));
    }

    /// Once after each start, when all is said and done.
    fn verify(&mut self) {
        let compiled = self.observed.code.iter().filter(|(_, code)| code.stage == CodeStage::Compiled);
        let repository = |digest: &Digest| {
            let replica = self.users.of(digest).next()?;
            let image = &self.desired.items.get(replica)?.template.image;
            Some(image.repository_in(replica.namespace.as_str()))
        };
        let compiled = compiled.map(|(digest, _)| (digest.clone(), repository(digest))).collect();
        self.operations.spawn(self.tools.clone().verify(compiled));
    }

    /// Other people must have signed what runs: whether it could start again is found out while there is an uplink.
    pub(super) fn recheck(&mut self, assignment: Assignment) {
        let Some(digest) = assignment.template.image.digest().cloned() else { return };
        self.operations.spawn(self.tools.clone().recheck(assignment, digest));
    }

    /// Containers outlive this process, but for those that need a lease, which nobody would hold for them.
    async fn end_containers(mut self) {
        let needs_lease = |replica: &ReplicaKey| {
            let assignment = self.desired.items.get(replica);
            assignment.is_some_and(|assignment| assignment.template.is_container() && assignment.needs_lease())
        };
        let running = self.observed.running.iter().filter(|(replica, _)| needs_lease(replica));
        let running: Vec<_> = running.map(|(replica, running)| (replica.clone(), running.clone())).collect();
        let mut ends = JoinSet::new();
        for (replica, Running { uid, stage }) in running {
            let brake = self.holders.brake_of(&replica);
            if stage == RunningStage::Starting {
                brake.cancel();
            }
            let target = self.targets.remove(&replica).map(|(_, target)| target);
            ends.spawn(self.tools.clone().stop((replica, Some(uid)), target, (Duration::ZERO, brake)));
        }
        ends.join_all().await;
    }

    pub(super) fn watch(&mut self, replica: ReplicaKey, uid: Uid) {
        let wanted = self.desired.items.get(&replica).filter(|assignment| assignment.uid == uid);
        // The plan stops one that nobody wants any more.
        let Some(template) = wanted.map(|assignment| assignment.template.clone()) else { return };
        self.operations.spawn(self.tools.clone().watch(replica, uid, template));
    }

    /// The same for a component, whose end is nobody's but ours.
    pub(super) fn look_after(&mut self, target: Arc<Target>, uid: Uid) {
        let wanted = self.desired.items.get(target.replica()).filter(|assignment| assignment.uid == uid);
        if let Some(health) = wanted.and_then(|assignment| assignment.template.health.clone()) {
            self.operations.spawn(self.tools.clone().look_after(target, uid, health));
        }
    }

    pub(super) fn give_up(&mut self, replica: (ReplicaKey, Uid), target: Option<Arc<Target>>, exit: Exit) {
        let brake = self.holders.brake_of(&replica.0);
        self.operations.spawn(self.tools.clone().give_up(replica, target, (exit, brake)));
    }

    pub(super) fn code(&mut self, digest: &Digest) -> &mut plan::Code {
        self.observed.code.entry(digest.clone()).or_default()
    }
}

fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}
