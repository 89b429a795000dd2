//! One step from what is towards what should be.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use skiff_api::Digest;
use skiff_api::id::ReplicaKey;
use skiff_api::resource::Phase;
use skiff_api::wire::Assignment;

use super::backoff::{CRASH_LOOP, Failure};
use super::observed::{Code, CodeStage, Ended, Observed, RunningStage};

/// What is to be begun. None of it waits for another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Requests to it end, then it is gone.
    Stop(ReplicaKey),
    Pull {
        digest: Digest,
        repository: String,
    },
    Compile(Digest),
    Start(ReplicaKey),
}

/// What to do now, and how each replica stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// One for each replica that is desired or still exists.
    pub report: BTreeMap<ReplicaKey, Standing>,
    /// When to plan again although nothing happened: something that failed is due then.
    pub wake: Option<Timestamp>,
}

/// How a replica stands, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub phase: Phase,
    pub reason: &'static str,
    pub message: String,
    pub retries: u32,
    /// Of a task: it will not run again. Of another one: it was told to stop, and has.
    pub ended: bool,
    pub exit_code: Option<i32>,
}

impl Standing {
    fn new(phase: Phase, retries: u32) -> Self {
        Self { phase, reason: "", message: String::new(), retries, ended: false, exit_code: None }
    }

    fn ended(end: &Ended) -> Self {
        let phase = if end.reason.is_empty() { Phase::Succeeded } else { Phase::Failed };
        let (reason, message) = (end.reason, end.message.clone());
        Self { reason, message, ended: true, exit_code: end.exit_code, ..Self::new(phase, 0) }
    }

    /// It was told to stop, and does not run any more.
    fn stopped() -> Self {
        Self { ended: true, ..Self::new(Phase::Succeeded, 0) }
    }

    /// Nothing is wrong with it: it needs leave.
    fn unleased() -> Self {
        let message = "waits for its node to hear from the control plane: it may run in one place only".to_owned();
        Self { reason: "NoLease", message, ..Self::new(Phase::Pending, 0) }
    }

    /// What ended and was begun again is told so until it has run for long.
    fn ready(before: Option<&Failure>) -> Self {
        let Some(failure) = before else { return Self::new(Phase::Ready, 0) };
        let message = format!("runs again; before that: {}", failure.message);
        Self { reason: "Restarted", message, ..Self::new(Phase::Ready, failure.times) }
    }

    fn failed(failure: &Failure) -> Self {
        Self {
            reason: failure.reason,
            message: if failure.reason == CRASH_LOOP { failure.with_wait() } else { failure.message.clone() },
            ..Self::new(Phase::Failed, failure.times.saturating_sub(1))
        }
    }

    fn refused(message: String) -> Self {
        Self { reason: "InvalidAssignment", message, ..Self::new(Phase::Failed, 0) }
    }
}

/// Compares what is desired with what is.
pub fn plan(desired: &BTreeMap<ReplicaKey, Assignment>, observed: &Observed, now: Timestamp) -> Plan {
    let gone = observed.running.keys().filter(|key| !desired.contains_key(*key));
    plan_for(desired, observed, desired.keys().chain(gone), now)
}

/// The same for some replicas, of which each is named once: what a change has to do with them costs the same among ten
/// thousand. Where code is not compiled yet, all of its users belong together.
pub fn plan_for<'a>(
    desired: &'a BTreeMap<ReplicaKey, Assignment>,
    observed: &'a Observed,
    replicas: impl IntoIterator<Item = &'a ReplicaKey>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut users: BTreeMap<&Digest, Users<'_>> = BTreeMap::new();
    for key in replicas {
        let assignment = desired.get(key);
        if let Some(running) = observed.running.get(key) {
            let wanted =
                assignment.is_some_and(|assignment| assignment.uid == running.uid && may_run(assignment, observed));
            let standing = match running.stage {
                RunningStage::Ready if !wanted => {
                    plan.actions.push(Action::Stop(key.clone()));
                    Standing::new(Phase::Stopping, 0)
                }
                RunningStage::Stopping => Standing::new(Phase::Stopping, 0),
                RunningStage::Ready => Standing::ready(observed.failed.get(key)),
                RunningStage::Starting => {
                    let retries = observed.failed.get(key).map_or(0, |failure| failure.times);
                    let is_container = assignment.is_some_and(|assignment| assignment.template.is_container());
                    Standing::new(if is_container { Phase::Pulling } else { Phase::Compiling }, retries)
                }
            };
            plan.report.insert(key.clone(), standing);
        } else if let Some(assignment) = assignment {
            if let Some(standing) = held_back(key, assignment, observed) {
                plan.report.insert(key.clone(), standing);
                continue;
            }
            match check(assignment) {
                // Its image is the engine's affair, and a start brings it there.
                Ok(_) if assignment.template.is_container() => {
                    let standing = plan.start(key, observed.failed.get(key), Phase::Pulling, now);
                    plan.report.insert(key.clone(), standing);
                }
                Ok(digest) => {
                    let users = users.entry(digest).or_default();
                    let image = &assignment.template.image;
                    users.repositories.insert(image.repository_in(key.namespace.as_str()));
                    users.replicas.push(key);
                }
                Err(why) => {
                    plan.report.insert(key.clone(), Standing::refused(why));
                }
            }
        }
    }
    for (digest, users) in users {
        plan.advance(digest, &users, observed, now);
    }
    plan.actions.sort();
    plan
}

/// Who waits for one image's code.
#[derive(Default)]
struct Users<'a> {
    replicas: Vec<&'a ReplicaKey>,
    /// Where the image may be pulled: the same digest may be pushed to several.
    repositories: BTreeSet<String>,
}

impl Users<'_> {
    /// Another repository at each retry, in case the image was deleted from one of them.
    fn repository(&self, tries: u32) -> String {
        let at = tries as usize % self.repositories.len().max(1);
        self.repositories.iter().nth(at).cloned().unwrap_or_default()
    }
}

impl Plan {
    fn advance(&mut self, digest: &Digest, users: &Users<'_>, observed: &Observed, now: Timestamp) {
        let missing = Code::default();
        let code = observed.code.get(digest).unwrap_or(&missing);
        let tries = code.failure.as_ref().map_or(0, |failure| failure.times);
        let waits = code.failure.as_ref().filter(|failure| !failure.is_due(now));
        let standing = match (code.stage, waits) {
            (CodeStage::Missing | CodeStage::Pulled, Some(failure)) => {
                self.wake_at(failure.retry_at());
                Standing::failed(failure)
            }
            (CodeStage::Missing, None) => {
                self.actions.push(Action::Pull { digest: digest.clone(), repository: users.repository(tries) });
                Standing::new(Phase::Pulling, tries)
            }
            (CodeStage::Pulling, _) => Standing::new(Phase::Pulling, tries),
            (CodeStage::Pulled, None) => {
                self.actions.push(Action::Compile(digest.clone()));
                Standing::new(Phase::Compiling, tries)
            }
            (CodeStage::Compiling, _) => Standing::new(Phase::Compiling, tries),
            (CodeStage::Compiled, _) => {
                for key in &users.replicas {
                    let standing = self.start(key, observed.failed.get(*key), Phase::Compiling, now);
                    self.report.insert((*key).clone(), standing);
                }
                return;
            }
        };
        self.report.extend(users.replicas.iter().map(|key| ((*key).clone(), standing.clone())));
    }

    fn start(&mut self, key: &ReplicaKey, failure: Option<&Failure>, phase: Phase, now: Timestamp) -> Standing {
        match failure {
            Some(failure) if !failure.is_due(now) => {
                self.wake_at(failure.retry_at());
                Standing::failed(failure)
            }
            _ => {
                self.actions.push(Action::Start(key.clone()));
                Standing::new(phase, failure.map_or(0, |failure| failure.times))
            }
        }
    }

    fn wake_at(&mut self, at: Option<Timestamp>) {
        self.wake = self.wake.into_iter().chain(at).min();
    }
}

/// Whether it may go on where it runs.
fn may_run(assignment: &Assignment, observed: &Observed) -> bool {
    !assignment.is_to_stop() && (observed.is_leased || !assignment.needs_lease())
}

/// How one stands that is not to be begun, or not now.
fn held_back(key: &ReplicaKey, assignment: &Assignment, observed: &Observed) -> Option<Standing> {
    if assignment.task.is_some() {
        if let Some(end) = observed.ended.get(key).filter(|end| end.uid == assignment.uid) {
            return Some(Standing::ended(end));
        }
        if assignment.is_to_stop() {
            return Some(Standing::ended(&Ended::interrupted(&assignment.uid, "was stopped before it began")));
        }
    }
    if assignment.is_to_stop() {
        return Some(Standing::stopped());
    }
    (assignment.needs_lease() && !observed.is_leased).then(Standing::unleased)
}

/// A control plane of another version, or a broken one, may send what this node cannot run; it is told so.
fn check(assignment: &Assignment) -> Result<&Digest, String> {
    let name = assignment.replica.name.as_str();
    let safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    // The name is the name of a folder.
    if name.is_empty() || name.len() > 200 || !name.bytes().all(safe) {
        return Err(format!("{name:?} is not the name of a replica"));
    }
    let image = &assignment.template.image;
    image.digest().ok_or_else(|| format!("image {image} has no digest"))
}

#[cfg(test)]
mod tests;
