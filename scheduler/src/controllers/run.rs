//! The loop itself: what wakes it, and what it does then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use skiff_api::resource::{EventType, Kind, ObjectRef};
use skiff_api::wire::{FromNode, NodeEvent};
use skiff_api::{NodeName, ServiceKey};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::balance::{self, Balance};
use super::counters::{Counters, add};
use super::events::Recorder;
use super::execute;
use super::links::{Links, News};
use super::mirror::{self, Touched};
use super::queries::{Effect, Query};
use super::reports::{NodeReport, Reports, Written, placed_on};
use super::retry::Retry;
use super::term::Term;
use super::wakes::Wakes;
use crate::link::{Arrival, LogRouter};
use crate::objects::{Change, Error, Objects};
use crate::plan::lint::Lint;
use crate::plan::liveness::{LivenessOptions, Vigil};
use crate::plan::rebalance::{self, Options};
use crate::plan::{Board, Names, Plan, State, service, why};
use crate::store::{self, Revision, Watch};
use crate::vault::Vault;

/// Services planned at once: enough to share the store's commits, few enough that what comes meanwhile is seen soon.
const PLANS_MAX: usize = 256;

/// Transactions under way at once; the store makes them durable in groups.
const COMMITS_MAX: usize = 128;

/// Transactions taken in before nodes are told, so that a burst becomes one message.
const BATCHES_MAX: usize = 256;

/// The longest sleep: a wall clock that jumps is noticed by then.
const WAKE_MAX_MS: u64 = 3_600_000;

/// What the loop works with.
pub(crate) struct Parts {
    pub(crate) objects: Objects,
    pub(crate) recorder: Recorder,
    pub(crate) term: Term,
    pub(crate) names: Names,
    pub(crate) logs: LogRouter,
    pub(crate) inbox: mpsc::Receiver<Arrival>,
    pub(crate) queries: mpsc::Receiver<Query>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) liveness: LivenessOptions,
    pub(crate) vault: Vault,
}

/// The control loop.
pub(crate) struct Control {
    objects: Objects,
    recorder: Recorder,
    names: Names,
    inbox: mpsc::Receiver<Arrival>,
    queries: mpsc::Receiver<Query>,
    counters: Arc<Counters>,
    links: Links,
    state: State,
    /// The state's nodes in the order in which they fill up.
    board: Board,
    started: Instant,
    vigil: Vigil,
    /// Nodes whose lease has lapsed.
    lapsed: BTreeSet<NodeName>,
    wakes: Wakes,
    balance: Balance,
    watch: Watch,
    /// The state is as of this revision.
    seen: Revision,
    /// What the last rounds wrote; nothing is planned before the state has it.
    wrote: Revision,
    dirty: BTreeSet<ServiceKey>,
    reports: Reports,
    retry: Retry,
    vault: Vault,
}

/// Something that a round writes.
enum Write {
    Plan(Plan),
    Report(Written),
}

type Outcome = Vec<(Write, Result<Revision, Error>)>;

impl Control {
    /// Reads the whole state. Every service will be planned, and every node is suspect until it says hello.
    pub(crate) async fn load(parts: Parts) -> Result<Self, store::Error> {
        let Parts { objects, recorder, term, names, logs, inbox, queries, counters, liveness, vault } = parts;
        let (mut state, seen) = mirror::load(&**objects.store(), &vault).await?;
        let watch = objects.watch(seen);
        let links = Links::new(term, logs, Arc::clone(&counters));
        let mut reports = Reports::default();
        let (started, mut vigil) = (Instant::now(), Vigil::new(liveness, 0));
        for name in state.nodes().keys() {
            reports.node(name.clone(), NodeReport::Lost);
            vigil.lost(name.clone(), 0);
        }
        let mut board = Board::default();
        board.sync(&mut state);
        let dirty = state.workloads().keys().cloned().collect();
        let (wrote, retry) = (Revision::ZERO, Retry::default());
        let (wakes, balance) = (Wakes::default(), Balance::default());
        Ok(Self {
            objects,
            recorder,
            names,
            inbox,
            queries,
            counters,
            links,
            state,
            board,
            started,
            vigil,
            lapsed: BTreeSet::new(),
            wakes,
            balance,
            watch,
            seen,
            wrote,
            dirty,
            reports,
            retry,
            vault,
        })
    }

    /// Runs until the token is cancelled or the store is closed.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut round: Option<BoxFuture<'static, Outcome>> = None;
        loop {
            if round.is_none() {
                round = self.begin().await;
            }
            // While a round is under way, only what ends it can make the next one begin.
            let idle_until = if round.is_none() { self.next_wake() } else { None };
            let at = self.retry.at();
            tokio::select! {
                () = shutdown.cancelled() => break,
                batch = self.watch.next() => match batch {
                    Ok(batch) => self.follow(batch),
                    Err(store::Error::Closed) => break,
                    Err(error) => if !self.reload(error, &shutdown).await { break },
                },
                Some(arrival) = self.inbox.recv() => {
                    let news = self.links.arrived(arrival, &self.state);
                    self.take_in(news);
                }
                outcome = async { match &mut round { Some(round) => round.await, None => std::future::pending().await } } => {
                    round = None;
                    self.settle(outcome);
                }
                () = async { match at { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {
                    self.dirty.extend(self.retry.take());
                }
                Some(query) = self.queries.recv() => self.answer(query),
                // The next round looks at what is due.
                () = async { match idle_until { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => {}
            }
        }
        // What is being written is written, and its events with it.
        if let Some(round) = round {
            let outcome = round.await;
            self.settle(outcome);
        }
    }

    /// When something is to be looked at although nothing happens.
    fn next_wake(&mut self) -> Option<Instant> {
        // What waits for the last round's writes to be seen is looked at then.
        if self.seen < self.wrote {
            return None;
        }
        let verdict = self.vigil.verdict(&self.state, self.elapsed_ms());
        let wakes_ms = verdict.wake_ms.into_iter().chain(self.vigil.lapses_ms()).min();
        let dies = wakes_ms.map(|ms| self.started + Duration::from_millis(ms));
        let due = self.wakes.first().map(|at| {
            let ms = at.duration_since(Timestamp::now()).as_millis().clamp(1, i128::from(WAKE_MAX_MS));
            Instant::now() + Duration::from_millis(u64::try_from(ms).unwrap_or(WAKE_MAX_MS))
        });
        [dies, due, self.balance.due()].into_iter().flatten().min()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn answer(&mut self, query: Query) {
        self.board.sync(&mut self.state);
        // Whoever asked may have gone.
        match query {
            Query::Why(key, answer) => {
                let _ = answer.send(why::explain(&self.state, &self.board, &key, Timestamp::now()));
            }
            Query::MayUse((uid, namespace, bucket), answer) => {
                let _ = answer.send(self.state.names_bucket(&uid, &namespace, &bucket));
            }
            Query::Rebalance(effect, answer) => {
                let set = rebalance::plan(&self.state, &self.board, Options::ASKED);
                if effect == Effect::Real && !set.moves.is_empty() {
                    self.balance.ask(Instant::now());
                }
                let _ = answer.send(balance::told(&set));
            }
        }
    }

    /// Gives up nodes that could not be heard for too long, unless they are too many.
    fn judge(&mut self) {
        let verdict = self.vigil.verdict(&self.state, self.elapsed_ms());
        let braked = verdict.brake.map_or(0, |brake| brake.lost as u64);
        if self.counters.brake.swap(braked, Ordering::Relaxed) == 0
            && let Some(brake) = verdict.brake
        {
            tracing::warn!(
                lost = brake.lost,
                nodes = brake.nodes,
                "too many nodes were lost at once: none is given up"
            );
        }
        for node in self.vigil.lapsed(self.elapsed_ms()) {
            self.dirty.extend(self.state.set_lapsed(&node, true));
            self.lapsed.insert(node);
        }
        for node in verdict.dead {
            self.reports.node(node, NodeReport::Dead);
        }
    }

    /// Takes in a transaction, and those that are there already.
    fn follow(&mut self, first: store::Batch) {
        let mut touched = Touched::default();
        let mut next = Some(first);
        for _ in 0..BATCHES_MAX {
            let Some(batch) = next else { break };
            mirror::apply(&mut self.state, &self.vault, &batch, &mut touched);
            self.seen = batch.revision;
            // An error comes again with the next call.
            next = self.watch.next().now_or_never().and_then(Result::ok);
        }
        if let Some(batch) = next {
            mirror::apply(&mut self.state, &self.vault, &batch, &mut touched);
            self.seen = batch.revision;
        }
        let news = self.links.publish(&self.state, &touched);
        self.dirty.extend(touched.services);
        self.balance.state_changed(&self.state, Instant::now());
        if touched.nodes {
            self.balance.nodes_changed(Instant::now());
        }
        if touched.room {
            self.dirty.extend(self.state.unplaced().iter().cloned());
        }
        self.take_in(news);
    }

    /// Starts over when the watch cannot go on. Answers whether there is anything to go on with.
    async fn reload(&mut self, mut error: store::Error, shutdown: &CancellationToken) -> bool {
        let mut retry = Retry::default();
        loop {
            tracing::warn!(%error, "reading all objects again");
            match mirror::load(&**self.objects.store(), &self.vault).await {
                Ok((state, seen)) => {
                    (self.state, self.seen) = (state, seen);
                    self.lapsed.iter().for_each(|node| drop(self.state.set_lapsed(node, true)));
                    self.board = Board::new(&self.state);
                    self.state.take_changed();
                    self.watch = self.objects.watch(seen);
                    self.dirty = self.state.workloads().keys().cloned().collect();
                    let news = self.links.publish_whole(&self.state);
                    self.take_in(news);
                    return true;
                }
                Err(store::Error::Closed) => return false,
                Err(again) => error = again,
            }
            retry.settle(true, Instant::now());
            let pause = tokio::time::sleep_until(retry.at().unwrap_or_else(Instant::now));
            if shutdown.run_until_cancelled(pause).await.is_none() {
                return false;
            }
        }
    }

    fn take_in(&mut self, news: Vec<News>) {
        for news in news {
            match news {
                News::Lost(node) => {
                    tracing::info!(%node, "lost a node's link");
                    self.vigil.lost(node.clone(), self.elapsed_ms());
                    self.reports.node(node, NodeReport::Lost);
                }
                News::Said(node, message) => self.hear(node, *message),
            }
        }
    }

    fn hear(&mut self, node: NodeName, message: FromNode) {
        let bad = match message {
            FromNode::Hello(hello) => {
                tracing::info!(%node, version = %hello.version, gateway = %hello.gateway, "a node said hello");
                self.vigil.heard(&node);
                self.lapsed.remove(&node);
                self.state.set_lapsed(&node, false);
                self.reports.node(node.clone(), NodeReport::Hello(Box::new(hello)));
                0
            }
            FromNode::Observed(observed) => self.reports.observed(&self.state, &node, observed, self.links.epoch()),
            FromNode::Event(event) => usize::from(!self.note(&node, &event)),
            // The links answer these themselves.
            FromNode::Resync
            | FromNode::Lease { .. }
            | FromNode::Logs { .. }
            | FromNode::LogsEnd { .. }
            | FromNode::NoTunnel { .. } => 0,
        };
        if bad > 0 {
            tracing::warn!(%node, bad, "a node spoke of replicas that are not its own");
            add(&self.counters.words_refused, bad);
        }
    }

    /// Whether the event was the node's to tell. One of a replica that was just removed is nobody's.
    fn note(&self, node: &NodeName, event: &NodeEvent) -> bool {
        let placed = placed_on(&self.state, node, &event.replica);
        if placed == Some(true) {
            let regarding = ObjectRef { kind: Kind::Replica, name: event.replica.name.to_string() };
            let words = (event.event_type, event.reason.as_str(), event.message.as_str());
            self.recorder.note(&event.replica.namespace, &regarding, words, Timestamp::now());
        }
        placed != Some(false)
    }

    /// The next round, if there is anything to write and the state has what was written before.
    async fn begin(&mut self) -> Option<BoxFuture<'static, Outcome>> {
        if self.seen < self.wrote {
            return None;
        }
        let now = Timestamp::now();
        self.judge();
        self.dirty.extend(self.wakes.take_due(now));
        self.board.sync(&mut self.state);
        let mut writes = Vec::new();
        // After a failure, what nodes said waits as long as the plans that failed.
        if self.retry.at().is_none() {
            let reports = self.reports.changes(&self.state, now).into_iter();
            writes.extend(reports.map(|(written, change)| (Write::Report(written), change)));
        }
        loop {
            self.plan(now, &mut writes);
            if !writes.is_empty() || self.dirty.is_empty() {
                break;
            }
            // Ten thousand services that need nothing must not keep others from running.
            tokio::task::yield_now().await;
        }
        if writes.is_empty() {
            for plan in self.balance.next(&self.state, &self.board, Instant::now()) {
                add(&self.counters.moves, 1);
                writes.extend(execute::change(&self.state, &plan, now).map(|change| (Write::Plan(plan), change)));
            }
        }
        if writes.is_empty() {
            return None;
        }
        let objects = self.objects.clone();
        let commit = move |(write, change): (Write, Change)| {
            let objects = objects.clone();
            async move { (write, objects.commit(change).await) }
        };
        Some(stream::iter(writes).map(commit).buffer_unordered(COMMITS_MAX).collect().boxed())
    }

    fn plan(&mut self, now: Timestamp, writes: &mut Vec<(Write, Change)>) {
        let mut lint = Lint::new(&self.state);
        for _ in 0..PLANS_MAX {
            let Some(key) = self.dirty.pop_first() else { break };
            let plan = service::plan(&self.state, &key, &mut self.board, &mut self.names, now);
            self.wakes.set(&key, plan.wake);
            if plan.is_empty() {
                continue;
            }
            let faults = lint.check(&plan);
            if !faults.is_empty() {
                self.refuse(&plan, &faults, now);
                continue;
            }
            match execute::change(&self.state, &plan, now) {
                Some(change) => writes.push((Write::Plan(plan), change)),
                None => tracing::error!(service = %key, ?plan, "a plan speaks of what is not there"),
            }
        }
    }

    /// A plan that breaks an invariant is a bug: nothing is done, and it is said where people look.
    fn refuse(&self, plan: &Plan, faults: &[crate::plan::lint::Fault], now: Timestamp) {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let message = format!("a plan was not carried out: {} (hint: this is a bug of Skiff)", faults.join("; "));
        tracing::error!(service = %plan.service, ?plan, %message, "lint");
        add(&self.counters.lint_refusals, 1);
        let metadata = self.state.workload(&plan.service).and_then(crate::plan::Workload::metadata);
        let kind = metadata.map_or(Kind::Service, |(kind, _)| kind);
        let regarding = ObjectRef { kind, name: plan.service.name.to_string() };
        self.recorder.note(&plan.service.namespace, &regarding, (EventType::Warning, "PlanRefused", &message), now);
    }

    /// Notes what a round has written, and what has to be tried again.
    fn settle(&mut self, outcome: Outcome) {
        let now = Timestamp::now();
        let mut failed = false;
        for (write, result) in outcome {
            match result {
                Ok(revision) => {
                    self.wrote = self.wrote.max(revision);
                    self.done(write, now);
                }
                Err(error) => {
                    failed = true;
                    let counter = if error.is_conflict() { &self.counters.conflicts } else { &self.counters.failures };
                    add(counter, 1);
                    if !error.is_conflict() {
                        tracing::warn!(%error, "failed to write what was planned; trying again");
                    }
                    // What a node said is kept until it is written.
                    if let Write::Plan(plan) = write {
                        self.retry.add(plan.service);
                    }
                }
            }
        }
        self.retry.settle(failed, Instant::now());
    }

    fn done(&mut self, write: Write, now: Timestamp) {
        match write {
            Write::Report(written) => self.reports.written(&written),
            Write::Plan(plan) => {
                add(&self.counters.plans, 1);
                for event in plan.events {
                    tracing::debug!(service = %plan.service, reason = event.reason, "{}", event.message);
                    self.recorder.planned(&plan.service.namespace, event, now);
                }
            }
        }
    }
}
