//! A node: a disk that survives crashes, and what runs on it, planned by the host's own code.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use skiff_api::resource::{EngineReport, ReplicaStatus, Resources};
use skiff_api::wire::{Assignment, Base, Desired, Fence, FromNode, Hello, Observed as Said, PROTOCOL, ToNode};
use skiff_api::{Digest, NodeName, ReplicaKey, ServiceKey, Uid};
use skiff_host::plan::{self, Action, Code, CodeStage, Failure, Lease, Observed, Running, RunningStage};
use skiff_host::state::{Set, Verdict};

use crate::mutant::Mutant;
use crate::rng::Rng;

/// How long a stop may take: of what runs in one place only, requests end by themselves, or are cut with the lease.
const STOP_MS: u64 = 1_500;
const SLOW_STOP_MS: u64 = 15_000;
const CUT_MS: u64 = 1_000;

/// What a machine is at.
#[derive(Debug, Clone)]
enum Work {
    Pull(Digest),
    Compile(Digest),
    Start(ReplicaKey),
    Stop(ReplicaKey),
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: NodeName,
    pub(crate) capacity: Resources,
    pub(crate) is_up: bool,
    incarnation: u64,
    /// On its disk.
    pub(crate) desired: Set<ReplicaKey, Assignment>,
    code: BTreeMap<Digest, CodeStage>,
    /// In its memory.
    pub(crate) observed: Observed,
    lease: Lease,
    /// What was begun that may run in one place only, and of which service it is.
    exclusive: BTreeMap<ReplicaKey, ServiceKey>,
    works: BTreeMap<(u64, u64), Work>,
    begun: u64,
    told: BTreeMap<ReplicaKey, ReplicaStatus>,
    /// Reports on this link begin with a whole one.
    greeted: bool,
    /// The newest fence that was accepted since it was installed, for the invariant.
    pub(crate) newest: Fence,
    mutant: Option<Mutant>,
}

impl Machine {
    pub(crate) fn new(name: NodeName, capacity: Resources, mutant: Option<Mutant>) -> Self {
        Self {
            name,
            capacity,
            is_up: true,
            incarnation: 1,
            desired: Set::default(),
            code: BTreeMap::new(),
            observed: Observed::default(),
            lease: Lease::default(),
            exclusive: BTreeMap::new(),
            works: BTreeMap::new(),
            begun: 0,
            told: BTreeMap::new(),
            greeted: false,
            newest: Fence::default(),
            mutant,
        }
    }

    /// The power is gone: what is on its disk stays.
    pub(crate) fn crash(&mut self) {
        self.is_up = false;
        self.observed = Observed::default();
        self.lease = Lease::default();
        self.exclusive.clear();
        self.works.clear();
        self.told.clear();
        self.greeted = false;
    }

    pub(crate) fn boot(&mut self) {
        self.is_up = true;
        self.incarnation += 1;
        let found = self.code.iter().map(|(digest, stage)| (digest.clone(), Code { stage: *stage, failure: None }));
        self.observed.code = found.collect();
    }

    /// A link was made: the first messages on it.
    pub(crate) fn greet(&mut self, now: Timestamp) -> Vec<FromNode> {
        self.told.clear();
        self.greeted = true;
        self.lease.new_link();
        let hello = Hello {
            protocol: PROTOCOL,
            node: self.name.clone(),
            uid: Uid::new(format!("uid of {}", self.name)),
            incarnation: Uid::new(self.incarnation.to_string()),
            version: "simulated".to_owned(),
            platform: "linux/x86_64".to_owned(),
            gateway: "127.0.0.1:8080".to_owned(),
            peer: None,
            site: String::new(),
            labels: BTreeMap::new(),
            capacity: self.capacity,
            engine: EngineReport::default(),
            docker: String::new(),
            fence: self.desired.fence,
        };
        let report = self.report(now, true);
        [FromNode::Hello(hello)].into_iter().chain(report).collect()
    }

    /// Takes a message; an answer may be due.
    pub(crate) fn receive(&mut self, message: ToNode, now_ms: u64) -> Option<FromNode> {
        if let ToNode::Lease { asked_ms } = message {
            self.lease.offered(asked_ms, now_ms);
        }
        let ToNode::Desired(Desired { fence, base, upsert, remove, .. }) = message else { return None };
        let items: Vec<_> = upsert.into_iter().map(|one| (one.replica.clone(), one)).collect();
        let mut newest = self.desired.fence;
        let base = match (self.mutant, base) {
            (Some(Mutant::GapIgnored), Base::After(_)) => Base::After(self.desired.fence),
            _ => base,
        };
        if self.mutant == Some(Mutant::OldFence) && fence < self.desired.fence {
            // It forgets what it has seen; a change would still be one of something else.
            self.desired.fence = match base {
                Base::Whole => Fence::default(),
                Base::After(before) => before,
            };
            newest = Fence::default();
        }
        let is_restored = fence.epoch > self.desired.fence.epoch;
        let verdict = self.desired.apply(newest, (fence, base), items, &remove);
        if verdict == Verdict::Accepted {
            if is_restored {
                self.told.clear();
            }
            let named: BTreeSet<&ReplicaKey> = self.desired.items.keys().collect();
            self.observed.failed.retain(|key, _| named.contains(key));
        }
        match verdict {
            Verdict::Accepted => self.lease.learns(matches!(base, Base::Whole), self.desired.fence.epoch),
            Verdict::Unchanged => self.lease.learns(true, self.desired.fence.epoch),
            Verdict::Refused | Verdict::Gap => {}
        }
        (verdict == Verdict::Gap).then_some(FromNode::Resync)
    }

    /// A question for the lease, where one is due.
    pub(crate) fn ask(&mut self, now_ms: u64) -> Option<FromNode> {
        let needs = self.desired.items.values().any(Assignment::needs_lease);
        (self.lease.asks(now_ms) && needs).then_some(FromNode::Lease { asked_ms: now_ms })
    }

    /// What needs the lease ends soon after that, whatever it was at.
    fn judge(&mut self, now_ms: u64, rng: &mut Rng) {
        let is_leased = self.lease.holds(now_ms) || self.mutant == Some(Mutant::LeaseIgnored);
        if std::mem::replace(&mut self.observed.is_leased, is_leased) && !is_leased {
            for key in self.exclusive.keys() {
                let Some(running) = self.observed.running.get_mut(key) else { continue };
                if running.stage == RunningStage::Starting {
                    continue;
                }
                running.stage = RunningStage::Stopping;
                self.works.retain(|_, work| !matches!(work, Work::Stop(of) if of == key));
                self.begun += 1;
                self.works.insert((now_ms + rng.between(1, CUT_MS), self.begun), Work::Stop(key.clone()));
            }
        }
    }

    /// Ends what is due, and begins what the plan says.
    pub(crate) fn step(&mut self, now_ms: u64, now: Timestamp, rng: &mut Rng, is_rough: bool) {
        while let Some((&(at, id), _)) = self.works.first_key_value() {
            if at > now_ms {
                break;
            }
            let work = self.works.remove(&(at, id)).expect("it was just seen");
            self.end(work, now, is_rough && rng.one_in(12));
        }
        self.judge(now_ms, rng);
        // What is begun changes what is to be begun.
        for _ in 0..20 {
            let plan = plan::plan(&self.desired.items, &self.observed, now);
            if plan.actions.is_empty() {
                break;
            }
            for action in plan.actions {
                self.begin(action, now_ms, rng);
            }
        }
    }

    fn begin(&mut self, action: Action, now_ms: u64, rng: &mut Rng) {
        let (work, at_most) = match action {
            Action::Pull { digest, .. } => {
                self.observed.code.entry(digest.clone()).or_default().stage = CodeStage::Pulling;
                (Work::Pull(digest), 2000)
            }
            Action::Compile(digest) => {
                self.observed.code.entry(digest.clone()).or_default().stage = CodeStage::Compiling;
                (Work::Compile(digest), 1000)
            }
            Action::Start(key) => {
                let Some(assignment) = self.desired.items.get(&key) else { return };
                let running = Running { uid: assignment.uid.clone(), stage: RunningStage::Starting };
                self.observed.running.insert(key.clone(), running);
                if assignment.needs_lease() {
                    self.exclusive.insert(key.clone(), assignment.service_key());
                }
                (Work::Start(key), 500)
            }
            Action::Stop(key) => {
                if let Some(running) = self.observed.running.get_mut(&key) {
                    running.stage = RunningStage::Stopping;
                }
                let at_most = match (self.exclusive.contains_key(&key), self.observed.is_leased) {
                    (false, _) => STOP_MS,
                    (true, true) => SLOW_STOP_MS,
                    (true, false) => CUT_MS,
                };
                (Work::Stop(key), at_most)
            }
        };
        self.begun += 1;
        self.works.insert((now_ms + rng.between(1, at_most), self.begun), work);
    }

    fn end(&mut self, work: Work, now: Timestamp, fails: bool) {
        match work {
            Work::Pull(digest) | Work::Compile(digest) if fails => {
                let code = self.observed.code.entry(digest.clone()).or_default();
                code.stage = if code.stage == CodeStage::Compiling { CodeStage::Pulled } else { CodeStage::Missing };
                code.failure = Some(Failure::after(code.failure.as_ref(), "Simulated", String::new(), now));
                self.code.insert(digest, code.stage);
            }
            Work::Pull(digest) => self.has(digest, CodeStage::Pulled),
            Work::Compile(digest) => self.has(digest, CodeStage::Compiled),
            Work::Start(key) if fails => {
                self.observed.running.remove(&key);
                let failure = Failure::after(self.observed.failed.get(&key), "Simulated", String::new(), now);
                self.observed.failed.insert(key, failure);
            }
            Work::Start(key) => {
                self.observed.failed.remove(&key);
                if let Some(running) = self.observed.running.get_mut(&key) {
                    running.stage = RunningStage::Ready;
                }
            }
            Work::Stop(key) => drop(self.observed.running.remove(&key)),
        }
    }

    fn has(&mut self, digest: Digest, stage: CodeStage) {
        self.observed.code.insert(digest.clone(), Code { stage, failure: None });
        self.code.insert(digest, stage);
    }

    /// What it has to tell, if anything.
    pub(crate) fn report(&mut self, now: Timestamp, whole: bool) -> Option<FromNode> {
        if !self.greeted {
            return None;
        }
        let standings = plan::plan(&self.desired.items, &self.observed, now).report;
        let statuses: BTreeMap<ReplicaKey, ReplicaStatus> = standings
            .into_iter()
            .map(|(key, standing)| {
                let (phase, message, retries) = (standing.phase, standing.message, standing.retries);
                let (reason, ended) = (standing.reason.to_owned(), standing.ended);
                (key, ReplicaStatus { phase, reason, message, retries, ended, ..ReplicaStatus::default() })
            })
            .collect();
        let gone: Vec<_> = self.told.keys().filter(|key| !statuses.contains_key(*key)).cloned().collect();
        let news = statuses.iter().filter(|(key, status)| whole || self.told.get(*key) != Some(status));
        let replicas: Vec<_> = news.map(|(key, status)| (key.clone(), status.clone())).collect();
        self.told = statuses;
        let is_news = whole || !replicas.is_empty() || !gone.is_empty();
        is_news.then_some(FromNode::Observed(Said { whole, fence: self.desired.fence, replicas, gone }))
    }

    /// The services of which something runs here that may run in one place only.
    pub(crate) fn holds(&self) -> impl Iterator<Item = (&ServiceKey, &ReplicaKey)> {
        let runs = self.exclusive.iter().filter(|(key, _)| self.observed.running.contains_key(*key));
        runs.map(|(key, service)| (service, key))
    }

    /// Replicas that answer requests here.
    pub(crate) fn ready(&self) -> BTreeSet<&ReplicaKey> {
        let ready = self.observed.running.iter().filter(|(_, running)| running.stage == RunningStage::Ready);
        ready.map(|(key, _)| key).collect()
    }
}
