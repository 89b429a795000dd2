//! The node's one decision-making task: it owns all state, and waits for nothing but its inputs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_api::Digest;
use skiff_api::id::{ReplicaKey, ServiceKey};
use skiff_api::resource::ReplicaStatus;
use skiff_api::wire::{Assignment, Desired, Fence, FromNode, Hello, Routes, ServiceRoutes, ToNode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet, spawn_blocking};

use super::operation::{Outcome, Tools};
use super::outbox::Outbox;
use super::queries::Queries;
use crate::gateway::{Backend, Shared, Table, Target};
use crate::link::Link;
use crate::plan::{self, Action, CodeStage, Observed, Running, RunningStage, Standing};
use crate::state::{Set, StateFiles, Verdict};

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
    /// What the node says of itself; the fence is filled in.
    pub(crate) hello: Hello,
}

pub(crate) struct Reconciler {
    pub(super) tools: Arc<Tools>,
    gateway: Arc<Shared>,
    files: StateFiles,
    hello: Hello,
    pub(super) desired: Set<ReplicaKey, Assignment>,
    routes: Set<ServiceKey, ServiceRoutes>,
    pub(super) observed: Observed,
    pub(super) targets: BTreeMap<ReplicaKey, (ServiceKey, Arc<Target>)>,
    pub(super) outbox: Outbox,
    operations: JoinSet<Outcome>,
    begun: HashMap<Id, Action>,
    pub(super) rerouted: bool,
    unsaved: Unsaved,
    unnamed: bool,
    /// Told once no replica that can start at once is still starting.
    settled: Option<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Unsaved {
    desired: bool,
    routes: bool,
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
    /// There is room for a message, or the link is gone.
    Sendable(bool),
    Due,
}

impl Reconciler {
    /// `settled` is told once every replica whose code is compiled has been tried.
    pub(crate) fn new(parts: Parts, settled: oneshot::Sender<()>) -> Self {
        let code = |stage| plan::Code { stage, failure: None };
        let code = parts.found.into_iter().map(|(digest, stage)| (digest, code(stage))).collect();
        Self {
            tools: Arc::new(parts.tools),
            gateway: parts.gateway,
            files: parts.files,
            hello: parts.hello,
            desired: parts.desired,
            routes: parts.routes,
            observed: Observed { code, ..Observed::default() },
            targets: BTreeMap::new(),
            outbox: Outbox::default(),
            operations: JoinSet::new(),
            begun: HashMap::new(),
            rerouted: true,
            unsaved: Unsaved::default(),
            unnamed: true,
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
                Input::Command(None | Some(Command::Stop)) => return,
                Input::Command(Some(Command::Link(Link { inbox, outbox }))) => {
                    self.outbox.greet(Hello { fence: self.newest_fence(), ..self.hello.clone() });
                    link = Some(Linked { inbox, queries: Queries::new(outbox.clone()), outbox });
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
                Input::Sendable(true) => self.send(link.as_ref()),
                Input::Sendable(false) => link = None,
                Input::Due => self.save().await,
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
        let has_news = !self.outbox.is_empty();
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
        tokio::select! {
            command = commands.recv() => Input::Command(command),
            Some(ended) = self.operations.join_next_with_id() => Input::Ended(ended),
            batch = messages => Input::Messages(batch),
            room = sendable => Input::Sendable(room),
            () = due => Input::Due,
        }
    }

    /// Plans, begins what is planned, and notes what changed. Returns when to come back if nothing happens.
    fn step(&mut self) -> Option<Timestamp> {
        let now = Timestamp::now();
        let plan = plan::plan(&self.desired.items, &self.observed, now);
        for action in plan.actions {
            self.begin(action);
        }
        self.note(plan.report, now);
        if std::mem::take(&mut self.rerouted) {
            self.reroute();
        }
        if std::mem::take(&mut self.unnamed) {
            self.collect();
        }
        let starts = self.observed.running.values().any(|running| running.stage == RunningStage::Starting);
        if !starts && let Some(settled) = self.settled.take() {
            // Whoever waited for it has stopped waiting.
            let _ = settled.send(());
        }
        let save_at = (self.unsaved.desired || self.unsaved.routes).then(|| now.saturating_add(SAVE_AGAIN).ok());
        plan.wake.into_iter().chain(save_at.flatten()).min()
    }

    fn begin(&mut self, action: Action) {
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
                self.spawn(action, tools.start(assignment, digest));
            }
            Action::Stop(replica) => {
                if let Some(running) = self.observed.running.get_mut(replica) {
                    running.stage = RunningStage::Stopping;
                }
                // The table changes before the target closes: who comes too late looks again and finds another.
                let target = self.targets.remove(replica).map(|(_, target)| target);
                self.reroute();
                let replica = replica.clone();
                self.spawn(action, tools.stop(replica, target));
            }
        }
    }

    fn spawn(&mut self, action: Action, operation: impl Future<Output = Outcome> + Send + 'static) {
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
                if let Some(action) = action {
                    self.broken(action);
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
            ToNode::CancelLogs { id } => {
                if let Some(queries) = queries {
                    queries.cancel(id);
                }
            }
        }
    }

    fn desire(&mut self, message: Desired) {
        let newest = self.newest_fence();
        let Desired { fence, base, upsert, remove } = message;
        let upsert = upsert.into_iter().map(|assignment| (assignment.replica.clone(), assignment));
        let before = self.desired.items.clone();
        match self.desired.apply(newest, (fence, base), upsert, &remove) {
            Verdict::Accepted => {
                let changed = |key: &ReplicaKey| before.get(key) != self.desired.items.get(key);
                // What failed for another assignment says nothing about this one.
                self.observed.failed.retain(|key, _| !changed(key));
                for replica in remove.into_iter().filter(|key| !self.observed.running.contains_key(key)) {
                    self.outbox.gone(replica);
                }
                let named = self.named();
                for (_, code) in self.observed.code.iter_mut().filter(|(digest, _)| !named.contains(*digest)) {
                    code.failure = None;
                }
                self.unnamed = true;
                self.unsaved.desired = true;
                self.outbox.fence_changed();
            }
            Verdict::Unchanged => {}
            Verdict::Refused => refused("desired set", fence, self.desired.fence),
            Verdict::Gap => self.outbox.resync(),
        }
    }

    fn learn_routes(&mut self, message: Routes) {
        let newest = self.newest_fence();
        let Routes { fence, base, upsert, remove } = message;
        let upsert = upsert.into_iter().map(|routes| (routes.service.clone(), routes));
        match self.routes.apply(newest, (fence, base), upsert, &remove) {
            Verdict::Accepted => {
                self.rerouted = true;
                self.unsaved.routes = true;
            }
            Verdict::Unchanged => {}
            Verdict::Refused => refused("routes", fence, self.routes.fence),
            Verdict::Gap => self.outbox.resync(),
        }
    }

    /// Makes what was accepted durable before it is acted on. A disk that fails stops nothing: the node goes on with what
    /// it has in memory, and tries again.
    async fn save(&mut self) {
        let unsaved = std::mem::take(&mut self.unsaved);
        if unsaved.desired {
            let (files, set) = (self.files.clone(), self.desired.clone());
            let written = spawn_blocking(move || files.write_desired(&set)).await;
            self.unsaved.desired = !is_written(written);
        }
        if unsaved.routes {
            let (files, set) = (self.files.clone(), self.routes.clone());
            let written = spawn_blocking(move || files.write_routes(&set)).await;
            self.unsaved.routes = !is_written(written);
        }
    }

    fn send(&mut self, link: Option<&Linked>) {
        let Some(link) = link else { return };
        while let Ok(permit) = link.outbox.try_reserve() {
            let Some(message) = self.outbox.take(self.desired.fence) else { return };
            permit.send(message);
        }
    }

    /// Turns a plan's report into statuses, and keeps what changed for the control plane.
    fn note(&mut self, report: BTreeMap<ReplicaKey, Standing>, now: Timestamp) {
        let gone: Vec<_> = self.outbox.statuses.keys().filter(|key| !report.contains_key(key)).cloned().collect();
        for replica in gone {
            self.outbox.gone(replica.clone());
            // One that never started has no operation that ends its log.
            let logs = self.tools.logs().clone();
            drop(spawn_blocking(move || logs.stop(&replica)));
        }
        for (replica, standing) in report {
            let old = self.outbox.statuses.get(&replica);
            let since = old.filter(|old| old.phase == standing.phase).map_or(now, |old| old.since);
            let Standing { phase, reason, message, retries } = standing;
            let status = ReplicaStatus { phase, reason: reason.to_owned(), message, since, retries };
            if old != Some(&status) {
                self.outbox.set(replica, status);
            }
        }
    }

    /// Every service that has routes is in the table: one without replicas here is told apart from one that nobody knows.
    fn reroute(&mut self) {
        let mut ready: BTreeMap<&ServiceKey, Vec<Arc<Target>>> = BTreeMap::new();
        for (service, target) in self.targets.values() {
            ready.entry(service).or_default().push(target.clone());
        }
        let mut table = Table::default();
        for (service, routes) in &self.routes.items {
            let targets = ready.remove(service).unwrap_or_default();
            let backend = Arc::new(Backend::new(service.clone(), targets));
            for route in &routes.routes {
                table.insert(route, backend.clone());
            }
        }
        self.gateway.route(table);
    }

    fn collect(&mut self) {
        let mut named = self.named();
        let busy = self
            .observed
            .code
            .iter()
            .filter(|(_, code)| matches!(code.stage, CodeStage::Pulling | CodeStage::Compiling));
        named.extend(busy.map(|(digest, _)| digest.clone()));
        self.operations.spawn(self.tools.clone().collect(named));
    }

    pub(super) fn named(&self) -> BTreeSet<Digest> {
        self.desired.items.values().filter_map(|assignment| assignment.template.image.digest().cloned()).collect()
    }

    pub(super) fn code(&mut self, digest: &Digest) -> &mut plan::Code {
        self.observed.code.entry(digest.clone()).or_default()
    }

    fn newest_fence(&self) -> Fence {
        self.desired.fence.max(self.routes.fence)
    }
}

fn refused(what: &str, fence: Fence, newest: Fence) {
    tracing::warn!(?fence, ?newest, "refused a {what} that is older than what this node knows");
}

fn is_written(written: Result<Result<(), crate::state::StateError>, JoinError>) -> bool {
    match written {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            let error = super::operation::chain(&error);
            tracing::error!(error, "what the control plane wants would be lost by a crash now; trying again");
            false
        }
        Err(_) => false,
    }
}

fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}
