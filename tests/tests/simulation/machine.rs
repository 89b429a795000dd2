//! A node: a disk that survives crashes, and what runs on it, planned by the host's own code.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use skiff_api::resource::{EngineReport, ReplicaStatus, Resources};
use skiff_api::wire::{Assignment, Base, Desired, Fence, FromNode, Hello, Observed as Said, PROTOCOL, ToNode};
use skiff_api::{Digest, NodeName, ReplicaKey, Uid};
use skiff_host::plan::{self, Action, Code, CodeStage, Failure, Observed, Running, RunningStage};
use skiff_host::state::{Set, Verdict};

use crate::mutant::Mutant;
use crate::rng::Rng;

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
    pub(crate) fn receive(&mut self, message: ToNode) -> Option<FromNode> {
        let ToNode::Desired(Desired { fence, base, upsert, remove }) = message else { return None };
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
        let verdict = self.desired.apply(newest, (fence, base), items, &remove);
        if verdict == Verdict::Accepted {
            let named: BTreeSet<&ReplicaKey> = self.desired.items.keys().collect();
            self.observed.failed.retain(|key, _| named.contains(key));
        }
        (verdict == Verdict::Gap).then_some(FromNode::Resync)
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
                (Work::Start(key), 500)
            }
            Action::Stop(key) => {
                if let Some(running) = self.observed.running.get_mut(&key) {
                    running.stage = RunningStage::Stopping;
                }
                (Work::Stop(key), 1500)
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
                let reason = standing.reason.to_owned();
                (key, ReplicaStatus { phase, reason, message, retries, ..ReplicaStatus::default() })
            })
            .collect();
        let gone: Vec<_> = self.told.keys().filter(|key| !statuses.contains_key(*key)).cloned().collect();
        let news = statuses.iter().filter(|(key, status)| whole || self.told.get(*key) != Some(status));
        let replicas: Vec<_> = news.map(|(key, status)| (key.clone(), status.clone())).collect();
        self.told = statuses;
        let is_news = whole || !replicas.is_empty() || !gone.is_empty();
        is_news.then_some(FromNode::Observed(Said { whole, fence: self.desired.fence, replicas, gone }))
    }

    /// Replicas that answer requests here.
    pub(crate) fn ready(&self) -> BTreeSet<&ReplicaKey> {
        let ready = self.observed.running.iter().filter(|(_, running)| running.stage == RunningStage::Ready);
        ready.map(|(key, _)| key).collect()
    }
}
