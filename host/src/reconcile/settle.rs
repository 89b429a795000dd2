//! What an operation's outcome changes, and what people are told of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use skiff_api::Digest;
use skiff_api::id::{ReplicaKey, Uid};
use skiff_api::resource::EventType;
use skiff_api::wire::Assignment;

use super::actor::Reconciler;
use super::operation::{Begun, Outcome, Repaired, StartError, chain};
use crate::docker::Exit;
use crate::plan::{Action, CodeStage, Ended, Failure, Retry, Running, RunningStage};

/// A container that ran for so long has recovered from what ended it before.
const STEADY: Duration = Duration::from_secs(60);

impl Reconciler {
    pub(super) fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Pulled(digest, Ok(pulled)) => {
                self.reached(&digest, CodeStage::Pulled);
                let message =
                    format!("pulled {} ({} bytes) in {} ms", name(&digest), pulled.bytes, pulled.took.as_millis());
                self.tell(&digest, EventType::Normal, "Pulled", &message);
            }
            Outcome::Pulled(digest, Err(error)) => {
                self.code_failed(&digest, CodeStage::Missing, "PullFailed", chain(&error), Retry::Later);
            }
            Outcome::Compiled(digest, Ok(took)) => {
                self.reached(&digest, CodeStage::Compiled);
                let message = format!("compiled {} in {} ms", name(&digest), took.as_millis());
                self.tell(&digest, EventType::Normal, "Compiled", &message);
            }
            Outcome::Compiled(digest, Err(error)) => {
                let retry = match (error.is_final(), error.is_costly()) {
                    (true, _) => Retry::Never,
                    (false, true) => Retry::Rarely,
                    (false, false) => Retry::Later,
                };
                self.code_failed(&digest, CodeStage::Pulled, "CompileFailed", chain(&error), retry);
            }
            Outcome::Damaged(digest) => {
                self.reached(&digest, CodeStage::Missing);
                let message = format!("{} was damaged on disk; it is pulled again", name(&digest));
                self.tell(&digest, EventType::Warning, "ArtifactDamaged", &message);
            }
            Outcome::Verified(repaired) => repaired.into_iter().for_each(|repaired| self.repaired(repaired)),
            Outcome::Started(replica, Ok(Begun::Worker(worker))) => self.begin_run(replica, worker),
            Outcome::Ended(replica, report) => self.run_ended(replica, &report),
            Outcome::Started(replica, Ok(Begun::Target(target))) => {
                self.dirty.replica(replica.clone());
                let Some(running) = self.observed.running.get_mut(&replica) else { return };
                running.stage = RunningStage::Ready;
                let uid = running.uid.clone();
                if target.is_container() {
                    // It has yet to show that it stays.
                    self.watch(replica.clone(), uid);
                } else {
                    let is_checked = |assignment: &Assignment| assignment.template.health.is_some();
                    // One that is checked has yet to show that it stays well.
                    if !self.desired.items.get(&replica).is_some_and(is_checked) {
                        self.observed.failed.remove(&replica);
                    }
                    self.look_after(target.clone(), uid);
                }
                // No longer desired: the plan stops it, and its log is all that is left to close.
                if let Some(assignment) = self.desired.items.get(&replica) {
                    self.targets.insert(replica.clone(), (assignment.service_key(), target));
                    self.routing.changed();
                    self.outbox.event(replica, EventType::Normal, "Started", "answers requests".to_owned());
                }
            }
            Outcome::Started(replica, Err(error)) => self.start_failed(replica, &error),
            Outcome::Stopped(replica) => self.stopped(replica),
            Outcome::Exited(replica, uid, exit) => self.exited(replica, &uid, exit),
            Outcome::Ailing(replica, uid, exit) => self.ailing(replica, uid, exit),
            Outcome::Rechecked(_, Ok(())) => {}
            Outcome::Rechecked(replica, Err(error)) => {
                let message = format!("runs on, but would not start again: {}", chain(&error));
                self.outbox.event(replica, EventType::Warning, error.reason(), message);
            }
            Outcome::Discarded(digest, stage) => {
                self.code(&digest).stage = stage;
                // They are started again, which is soon done: what a request has begun goes on in the old ones.
                let users: Vec<ReplicaKey> = self.users.of(&digest).cloned().collect();
                for replica in users {
                    // A worker has its code, and goes on.
                    let goes_on = self.workers.contains_key(&replica);
                    let is_ready = |running: &Running| running.stage == RunningStage::Ready;
                    if !goes_on && self.observed.running.get(&replica).is_some_and(is_ready) {
                        self.observed.running.remove(&replica);
                        self.targets.remove(&replica);
                        self.routing.changed();
                    }
                    self.dirty.replica(replica);
                }
            }
            Outcome::Collected(gone) => {
                self.collecting = false;
                for digest in gone {
                    self.observed.code.remove(&digest);
                    self.dirty.replicas(self.users.of(&digest).cloned());
                }
            }
        }
    }

    /// Running replicas go on with their compiled code; a person is told why there is traffic, or what is missing.
    fn repaired(&mut self, Repaired { digest, pulled }: Repaired) {
        let (event_type, message) = match pulled {
            // It goes with its code, or is pulled when somebody needs it.
            None => return,
            Some(Ok(_)) => (EventType::Normal, format!("{} was damaged on disk and was pulled again", name(&digest))),
            Some(Err(error)) => {
                (EventType::Warning, format!("{} was damaged on disk: {}", name(&digest), chain(&error)))
            }
        };
        let users: Vec<ReplicaKey> = self.users.of(&digest).cloned().collect();
        if let Some(replica) = users.into_iter().next() {
            self.outbox.event(replica, event_type, "ArtifactDamaged", message);
        }
    }

    /// A request needed compiled code that could not be loaded.
    pub(super) fn lose(&mut self, path: &Path) {
        let Some(digest) = self.tools.digest_of_code(path) else { return };
        let users: Vec<ReplicaKey> = self.users.of(&digest).cloned().collect();
        for replica in users {
            let message = format!("the compiled code of {} could not be loaded; it is made again", name(&digest));
            self.outbox.event(replica, EventType::Warning, "CodeLost", message);
        }
        let action = Action::Compile(digest.clone());
        self.spawn(action, self.tools.clone().discard(digest));
    }

    /// An operation that never told its outcome.
    pub(super) fn broken(&mut self, action: Action) {
        let message = "failed unexpectedly (hint: this is a bug in Skiff, please report it)".to_owned();
        match action {
            Action::Pull { digest, .. } => {
                self.code_failed(&digest, CodeStage::Missing, "PullFailed", message, Retry::Later);
            }
            Action::Compile(digest) => {
                self.code_failed(&digest, CodeStage::Pulled, "CompileFailed", message, Retry::Later);
            }
            Action::Start(replica) => {
                self.observed.running.remove(&replica);
                self.workers.remove(&replica);
                self.replica_failed(replica, "StartFailed", message, Retry::Later);
            }
            Action::Stop(replica) => self.stopped(replica),
        }
    }

    fn stopped(&mut self, replica: ReplicaKey) {
        let running = self.observed.running.remove(&replica);
        // A task that was stopped, and is wanted all the same, has lost its lease or was told to stop.
        if let Some(uid) = self.task(&replica).filter(|uid| running.is_some_and(|running| running.uid == *uid)) {
            let why = match self.observed.is_leased {
                true => "was stopped",
                false => "was stopped: its node had not heard from the control plane for too long",
            };
            self.end_task(&replica, Ended::interrupted(&uid, why));
        }
        if self.leaving.remove(&replica).is_some() {
            self.routing.changed();
        }
        self.dirty.replica(replica);
    }

    /// A container ended although it was wanted: it is started again, later each time that it does not stay.
    /// Nothing is sent any more to a replica that is not well, which is then replaced.
    fn ailing(&mut self, replica: ReplicaKey, uid: Uid, exit: Exit) {
        let is_it = |running: &Running| running.uid == uid && running.stage == RunningStage::Ready;
        if self.observed.running.get(&replica).is_some_and(is_it) {
            let target = self.targets.remove(&replica).map(|(_, target)| target);
            self.routing.changed();
            self.give_up((replica, uid), target, exit);
        }
    }

    fn exited(&mut self, replica: ReplicaKey, uid: &Uid, exit: Exit) {
        let is_it = |running: &Running| running.uid == *uid && running.stage == RunningStage::Ready;
        if !self.observed.running.get(&replica).is_some_and(is_it) {
            return;
        }
        self.observed.running.remove(&replica);
        self.targets.remove(&replica);
        self.routing.changed();
        if exit.ran >= STEADY {
            self.observed.failed.remove(&replica);
        }
        self.replica_failed(replica, exit.reason, exit.message, Retry::Later);
    }

    fn reached(&mut self, digest: &Digest, stage: CodeStage) {
        let code = self.code(digest);
        code.stage = stage;
        code.failure = None;
        self.dirty.replicas(self.users.of(digest).cloned());
    }

    fn code_failed(&mut self, digest: &Digest, stage: CodeStage, reason: &'static str, message: String, retry: Retry) {
        self.tell(digest, EventType::Warning, reason, &message);
        let code = self.code(digest);
        code.stage = stage;
        let failure = Failure::after(code.failure.as_ref(), reason, message, Timestamp::now());
        code.failure = Some(failure.retried(retry));
        self.dirty.replicas(self.users.of(digest).cloned());
    }

    fn start_failed(&mut self, replica: ReplicaKey, error: &StartError) {
        self.observed.running.remove(&replica);
        if matches!(error, StartError::Lapsed) {
            return self.dirty.replica(replica);
        }
        let digest =
            self.desired.items.get(&replica).and_then(|assignment| assignment.template.image.digest()).cloned();
        let stage = match error {
            StartError::Load(stage, _) => Some(*stage),
            StartError::Tampered(_) => Some(CodeStage::Missing),
            _ => None,
        };
        if let (Some(stage), Some(digest)) = (stage, digest) {
            self.code(&digest).stage = stage;
            self.dirty.replicas(self.users.of(&digest).cloned());
        }
        self.replica_failed(replica, error.reason(), chain(error), error.retry());
    }

    fn replica_failed(&mut self, replica: ReplicaKey, reason: &'static str, message: String, retry: Retry) {
        self.outbox.event(replica.clone(), EventType::Warning, reason, message.clone());
        self.dirty.replica(replica.clone());
        let failure = Failure::after(self.observed.failed.get(&replica), reason, message, Timestamp::now());
        self.observed.failed.insert(replica, failure.retried(retry));
    }

    /// One event for each service that waits for the code: its replicas share the news.
    fn tell(&mut self, digest: &Digest, event_type: EventType, reason: &str, message: &str) {
        let mut told = BTreeSet::new();
        for replica in self.users.of(digest).filter(|key| !self.observed.running.contains_key(key)) {
            let Some(assignment) = self.desired.items.get(replica) else { continue };
            if told.insert(assignment.service_key()) {
                self.outbox.event(replica.clone(), event_type, reason, message.to_owned());
            }
        }
    }
}

fn name(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm().name(), digest.short())
}
