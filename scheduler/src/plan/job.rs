//! One step for one job: tasks until enough have succeeded, or too many have failed.
//!
//! A task is a replica that runs once. Its end is stored with it and counts for good, so whatever becomes of its node or of
//! this control plane, no task is counted twice. What ended without being at fault (its node was lost, drained or
//! restarted) is not counted at all: another task does its work. Nothing takes the place of a task before it is known to
//! have ended: its node says so, or its lease has lapsed.
//!
//! What a task does may happen twice, as everywhere: a node may be lost after the work was done and before it was told.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use skiff_api::quantity::Timeout;
use skiff_api::resource::{
    Condition, EventType, Forgotten, Job, JobStatus, Kind, ObjectRef, Phase, Replica, ReplicaStatus, Service,
};
use skiff_api::{ReplicaName, ServiceKey};

use super::rollout::STEP_MAX;
use super::service::Builder;
use super::{Action, Board, Names, Plan, PlannedEvent, State, Workload, schedule};

/// The conditions' names.
pub const COMPLETE: &str = "Complete";
pub const FAILED: &str = "Failed";

/// Tasks that have ended and stay for their logs.
const ENDED_KEPT: usize = 10;

/// Tasks that one step sorts out, and those that it forgets: all of a step goes into one transaction.
const SORTED_OUT_MAX: usize = 20;

/// The longest wait before another task follows one that has failed.
const BACKOFF_MAX_S: i64 = 60;

pub(super) fn plan(
    (state, key, workload): (&State, &ServiceKey, &Workload),
    job: &Job,
    (board, names): (&mut Board, &mut Names),
    now: Timestamp,
) -> Plan {
    if is_orphan(state, key, job) {
        let mut plan = Plan::nothing(key.clone());
        plan.actions.push(Action::DeleteJob { name: key.name.clone() });
        return plan;
    }
    if job.spec.schedule.is_some() {
        return schedule::plan(state, key, job, now);
    }
    let service = Service::new(job.metadata.clone(), job.spec.as_service());
    let builder = Builder::new(state, key, workload, (Kind::Job, &service), now);
    Planner::new(builder, job).plan(board, names)
}

/// Whether the schedule that made it is gone.
fn is_orphan(state: &State, key: &ServiceKey, job: &Job) -> bool {
    let mut owners = job.metadata.owners.iter().filter(|owner| owner.kind == Kind::Job);
    owners.any(|owner| {
        let Ok(name) = owner.name.parse() else { return true };
        let schedule = state.workload(&ServiceKey { namespace: key.namespace.clone(), name });
        schedule.and_then(|schedule| schedule.job.as_ref()).is_none_or(|job| job.metadata.uid != owner.uid)
    })
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It runs, is about to, or may still run.
    Active,
    Succeeded,
    Failed,
    /// It has ended and was not at fault.
    Interrupted,
}

struct Planner<'a> {
    build: Builder<'a>,
    job: &'a Job,
    status: JobStatus,
    /// Of the newest revision, but for those that are to stop.
    active: Vec<(&'a ReplicaName, &'a Replica)>,
    /// Whatever may still run, of any revision.
    busy: usize,
    /// Ended, of the newest revision, the oldest first.
    ended: Vec<(&'a ReplicaName, &'a Replica, Standing)>,
    removed: BTreeSet<ReplicaName>,
}

impl<'a> Planner<'a> {
    fn new(build: Builder<'a>, job: &'a Job) -> Self {
        let revision = build.target.name().clone();
        let status = match job.status.revision.as_ref() == Some(&revision) {
            true => job.status.clone(),
            // Something else is to be run: it begins anew.
            false => JobStatus { revision: Some(revision), ..JobStatus::default() },
        };
        let status = JobStatus { observed_generation: job.metadata.generation, ..status };
        Self { build, job, status, active: Vec::new(), busy: 0, ended: Vec::new(), removed: BTreeSet::new() }
    }

    fn plan(mut self, board: &mut Board, names: &mut Names) -> Plan {
        self.build.make_revision();
        self.sort_out();
        self.count();
        let (succeeded, failed) = (self.status.succeeded, self.status.failed);
        if self.status.finished.is_none() {
            self.finish(succeeded, failed);
        }
        let mut created = 0;
        if self.status.finished.is_some() {
            self.stop(self.active.len());
            if self.expire() {
                return self.build.plan;
            }
        } else if self.job.spec.suspend {
            self.stop(self.active.len());
            // A deadline is about the time in which it may run.
            self.status.started = None;
        } else {
            created = self.go_on(succeeded, board, names);
        }
        self.forget();
        self.build.drop_revisions();
        self.set_status(created);
        self.build.plan
    }

    /// Looks at each task, and removes or stops what has no place any more.
    fn sort_out(&mut self) {
        let workload = self.build.workload;
        for (name, replica) in &workload.replicas {
            let is_full = self.build.plan.actions.len() >= SORTED_OUT_MAX;
            let is_current = replica.spec.revision == *self.build.target.name();
            match self.standing(replica) {
                Standing::Active => {
                    self.busy += 1;
                    let stays = is_current && self.build.stays(replica);
                    if replica.spec.stop {
                        continue;
                    } else if stays {
                        self.active.push((name, replica));
                    } else if !is_full {
                        self.end(name, replica);
                    }
                }
                Standing::Interrupted if is_full => self.build.wake_at(self.build.now),
                Standing::Interrupted => {
                    let why = match replica.status.is_interrupted() {
                        true => replica.status.message.clone(),
                        false => "its node is lost".to_owned(),
                    };
                    self.remove(name);
                    self.about(EventType::Normal, "TaskInterrupted", format!("{name} was interrupted: {why}"));
                }
                Standing::Succeeded | Standing::Failed if !is_current && is_full => self.build.wake_at(self.build.now),
                Standing::Succeeded | Standing::Failed if !is_current => self.remove(name),
                standing => self.ended.push((name, replica, standing)),
            }
        }
        self.ended.sort_unstable_by_key(|(name, replica, _)| (replica.status.since, *name));
    }

    fn standing(&self, replica: &Replica) -> Standing {
        let status = &replica.status;
        if status.ended {
            return match status.phase {
                _ if status.is_interrupted() => Standing::Interrupted,
                Phase::Succeeded => Standing::Succeeded,
                _ => Standing::Failed,
            };
        }
        let Some(name) = &replica.spec.node else { return Standing::Active };
        match self.build.state.node(name).is_some_and(|node| node.is_lapsed) {
            true => Standing::Interrupted,
            false => Standing::Active,
        }
    }

    fn count(&mut self) {
        let Forgotten { succeeded, failed } = self.status.forgotten;
        let of = |wanted: Standing| {
            let count = self.ended.iter().filter(|(_, _, standing)| *standing == wanted).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        (self.status.succeeded, self.status.failed) =
            (succeeded + of(Standing::Succeeded), failed + of(Standing::Failed));
    }

    /// Says that it has ended, if it has.
    fn finish(&mut self, succeeded: u32, failed: u32) {
        let (spec, now) = (&self.job.spec, self.build.now);
        let wanted = spec.completions;
        if succeeded >= wanted {
            return self.finished(true, "Completed", format!("{succeeded} of {wanted} tasks have succeeded"));
        }
        if failed > spec.retries {
            let last = self.ended.iter().rfind(|(_, _, standing)| *standing == Standing::Failed);
            let last = last.map(|(name, replica, _)| format!("; the last, {name}: {}", replica.status.message));
            let more = last.unwrap_or_default();
            let message = format!("{failed} tasks have failed, and retries is {}{more}", spec.retries);
            return self.finished(false, "TooManyFailures", message);
        }
        let (Timeout::After(deadline), Some(started)) = (spec.deadline, self.status.started) else { return };
        let at = after(started, i64::try_from(deadline.as_ms()).unwrap_or(i64::MAX));
        match at <= now {
            true => self.finished(
                false,
                "DeadlineExceeded",
                format!("{succeeded} of {wanted} tasks had succeeded after {deadline}"),
            ),
            false => self.build.wake_at(at),
        }
    }

    fn finished(&mut self, is_complete: bool, reason: &str, message: String) {
        self.status.finished = Some(self.build.now);
        let (name, event_type) = if is_complete { (COMPLETE, EventType::Normal) } else { (FAILED, EventType::Warning) };
        self.about(event_type, name, message.clone());
        let (reason, since) = (reason.to_owned(), self.build.now);
        let condition = Condition { name: name.to_owned(), status: true, reason, message, since };
        self.status.conditions = vec![condition];
    }

    /// Deletes it when its time after the end is over. Answers whether it did.
    fn expire(&mut self) -> bool {
        let (Timeout::After(expire), Some(finished)) = (self.job.spec.expire, self.status.finished) else {
            return false;
        };
        let at = after(finished, i64::try_from(expire.as_ms()).unwrap_or(i64::MAX));
        // What made it counts it first; and its end is stored before it goes, so that whoever waits sees it.
        if self.job.status.finished.is_none() || at > self.build.now {
            self.build.wake_at(at.max(self.build.now));
            return false;
        }
        self.build.plan.actions = vec![Action::DeleteJob { name: self.build.key.name.clone() }];
        true
    }

    /// Has as many tasks as there should be. Answers how many it made.
    fn go_on(&mut self, succeeded: u32, board: &mut Board, names: &mut Names) -> usize {
        let spec = &self.job.spec;
        let wanted = spec.parallelism.min(spec.completions.saturating_sub(succeeded));
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        self.stop(self.active.len().saturating_sub(wanted));
        let mut peers = self.build.peers(board);
        self.build.place_waiting(board, &mut peers, &self.removed);
        let missing = wanted.saturating_sub(self.busy).min(STEP_MAX);
        if missing == 0 {
            return 0;
        }
        if let Some(at) = self.backs_off_until().filter(|at| *at > self.build.now) {
            self.build.wake_at(at);
            return 0;
        }
        self.status.started.get_or_insert(self.build.now);
        self.build.create(missing, board, &mut peers, names);
        if missing == STEP_MAX {
            self.build.wake_at(self.build.now);
        }
        if let (Timeout::After(deadline), Some(started)) = (spec.deadline, self.status.started) {
            self.build.wake_at(after(started, i64::try_from(deadline.as_ms()).unwrap_or(i64::MAX)));
        }
        missing
    }

    /// When another task may follow those that have failed since one succeeded: 1, 2, 4, … 60 seconds after the last.
    fn backs_off_until(&self) -> Option<Timestamp> {
        let failed: Vec<&Replica> = self
            .ended
            .iter()
            .rev()
            .take_while(|(_, _, standing)| *standing == Standing::Failed)
            .map(|(_, replica, _)| *replica)
            .collect();
        let last = failed.first()?;
        let doublings = u32::try_from(failed.len() - 1).unwrap_or(u32::MAX).min(6);
        Some(after(last.status.since, (1_i64 << doublings).min(BACKOFF_MAX_S) * 1000))
    }

    /// Stops so many of the active ones, those that were made last first.
    fn stop(&mut self, count: usize) {
        self.active.sort_unstable_by_key(|(name, replica)| (replica.metadata.created, *name));
        for _ in 0..count.min(STEP_MAX) {
            let Some((name, replica)) = self.active.pop() else { return };
            self.end(name, replica);
        }
        if count > STEP_MAX {
            self.build.wake_at(self.build.now);
        }
    }

    fn end(&mut self, name: &ReplicaName, replica: &Replica) {
        if replica.spec.node.is_some() {
            self.build.plan.actions.push(Action::StopReplica { name: name.clone() });
        } else {
            self.busy -= 1;
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &ReplicaName) {
        self.removed.insert(name.clone());
        self.build.plan.actions.push(Action::DeleteReplica { name: name.clone() });
    }

    /// What has ended stays for a while, and counts for ever.
    fn forget(&mut self) {
        let surplus = self.ended.len().saturating_sub(ENDED_KEPT).min(SORTED_OUT_MAX);
        let forgotten: Vec<_> = self.ended.drain(..surplus).collect();
        for (name, _, standing) in forgotten {
            match standing {
                Standing::Succeeded => self.status.forgotten.succeeded += 1,
                _ => self.status.forgotten.failed += 1,
            }
            self.remove(name);
        }
    }

    fn set_status(&mut self, created: usize) {
        self.status.active = u32::try_from(self.busy + created).unwrap_or(u32::MAX);
        if self.status.finished.is_none() {
            let (reason, message) = self.progress();
            let before = self.job.status.condition(COMPLETE).filter(|condition| condition.reason == reason);
            let since = before.map_or(self.build.now, |condition| condition.since);
            self.status.conditions =
                vec![Condition { name: COMPLETE.to_owned(), status: false, reason, message, since }];
        }
        if self.status != self.job.status {
            self.build.plan.actions.push(Action::SetJobStatus(self.status.clone()));
        }
    }

    /// Why it has not ended: what keeps a task from running, if something does.
    fn progress(&self) -> (String, String) {
        let (spec, status) = (&self.job.spec, &self.status);
        let done = format!("{} of {} tasks have succeeded", status.succeeded, spec.completions);
        let done = match status.failed {
            0 => done,
            failed => format!("{done}, {failed} failed"),
        };
        if spec.suspend {
            return ("Suspended".to_owned(), format!("{done}; suspend is set"));
        }
        let troubled = |status: &ReplicaStatus| !status.message.is_empty() && status.phase != Phase::Ready;
        let waits = self.active.iter().map(|(name, replica)| (*name, &replica.status));
        let made = self.build.made.iter().map(|(name, _, status)| (name, status));
        if let Some((name, status)) = waits.chain(made).find(|(_, status)| troubled(status)) {
            let reason = if status.reason.is_empty() { "Waiting" } else { status.reason.as_str() };
            return (reason.to_owned(), format!("{done}; {name}: {}", status.message));
        }
        let last = self.ended.last().filter(|(_, _, standing)| *standing == Standing::Failed);
        match last.filter(|_| status.active == 0) {
            Some((name, replica, _)) => ("BackOff".to_owned(), format!("{done}; {name}: {}", replica.status.message)),
            None => ("Running".to_owned(), done),
        }
    }

    fn about(&mut self, event_type: EventType, reason: &'static str, message: String) {
        let regarding = ObjectRef { kind: Kind::Job, name: self.build.key.name.to_string() };
        self.build.plan.events.push(PlannedEvent { regarding, event_type, reason, message });
    }
}

fn after(at: Timestamp, ms: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_millis(ms)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
pub(super) mod tests;
