//! One step for a job that recurs: which jobs it makes now, and which of those that it made go.
//!
//! The last time that was dealt with is stored, in the same transaction as the job that was made for it, so none is made
//! twice and none is forgotten: a control plane that was away begins the last one that it missed, unless that is too late.
//! A change of the job begins anew from when it is seen: nothing that would have been due before is made up for.

use jiff::{SignedDuration, Timestamp};
use skiff_api::quantity::Timeout;
use skiff_api::resource::{Concurrency, EventType, Job, JobStatus, Kind, ObjectRef};
use skiff_api::{Name, ServiceKey};

use super::job::COMPLETE;
use super::rollout::STEP_MAX;
use super::{Action, Plan, PlannedEvent, State};

pub(super) fn plan(state: &State, key: &ServiceKey, job: &Job, now: Timestamp) -> Plan {
    let Some(schedule) = &job.spec.schedule else { return Plan::nothing(key.clone()) };
    let made: Vec<_> = state.made_by(key, &job.metadata.uid).collect();
    let zone = job.spec.time_zone.as_deref();
    let mut step = Step { key, job, now, plan: Plan::nothing(key.clone()), status: job.status.clone() };
    step.status.observed_generation = job.metadata.generation;
    let running: Vec<&Name> =
        made.iter().filter(|(_, job)| job.status.finished.is_none()).map(|(key, _)| &key.name).collect();
    let mut active = running.len();
    if job.status.observed_generation != job.metadata.generation {
        step.status.counted_from = Some(now);
    }
    let since = step.status.counted_from.max(step.status.last_scheduled).unwrap_or(now);
    if job.spec.suspend {
        step.status.next_scheduled = None;
    } else {
        if let Some(due) = schedule.last(zone, since, now) {
            step.status.last_scheduled = Some(due);
            active = step.begin(state, due, &running);
        }
        step.status.next_scheduled = schedule.next(zone, now);
        step.plan.wake = step.status.next_scheduled;
    }
    step.clear(&made);
    step.status.active = u32::try_from(active).unwrap_or(u32::MAX);
    if step.status != job.status {
        step.plan.actions.push(Action::SetJobStatus(step.status));
    }
    step.plan
}

struct Step<'a> {
    key: &'a ServiceKey,
    job: &'a Job,
    now: Timestamp,
    plan: Plan,
    status: JobStatus,
}

impl Step<'_> {
    /// Makes the job that is due, if it may be made. Answers how many then run.
    fn begin(&mut self, state: &State, due: Timestamp, running: &[&Name]) -> usize {
        let spec = &self.job.spec;
        let late = self.now.duration_since(due);
        if let Timeout::After(deadline) = spec.starting_deadline
            && late > SignedDuration::from_millis(i64::try_from(deadline.as_ms()).unwrap_or(i64::MAX))
        {
            let message = format!("what was due at {due} was left out: it is {} s late", late.as_secs());
            self.event(EventType::Warning, "Missed", message);
            return running.len();
        }
        if spec.concurrency == Concurrency::Forbid
            && let Some(first) = running.first()
        {
            let message = format!("what was due at {due} was left out: {first} has not ended");
            self.event(EventType::Normal, "StillRunning", message);
            return running.len();
        }
        let Ok(name) = format!("{}-{}", self.key.name, due.as_second() / 60).parse::<Name>() else {
            return running.len();
        };
        let made = ServiceKey { namespace: self.key.namespace.clone(), name: name.clone() };
        if state.workload(&made).is_some() {
            let message = format!("what was due at {due} was left out: {name} is there already");
            self.event(EventType::Warning, "NameTaken", message);
            return running.len();
        }
        let mut left = running.len();
        if spec.concurrency == Concurrency::Replace {
            for name in running.iter().take(STEP_MAX) {
                self.event(EventType::Normal, "Replaced", format!("deleted {name}: the next is due"));
                self.plan.actions.push(Action::DeleteJob { name: (*name).clone() });
                left -= 1;
            }
        }
        self.event(EventType::Normal, "Created", format!("created {name}, due at {due}"));
        self.plan.actions.push(Action::CreateJob { name, spec: Box::new(spec.once()) });
        left + 1
    }

    /// Deletes what has ended, but for the last ones.
    fn clear(&mut self, made: &[(&ServiceKey, &std::sync::Arc<Job>)]) {
        let is_complete = |job: &Job| job.status.condition(COMPLETE).is_some_and(|condition| condition.status);
        for (wanted, kept) in [(true, self.job.spec.history.succeeded), (false, self.job.spec.history.failed)] {
            let mut ended: Vec<(Timestamp, &Name)> = made
                .iter()
                .filter(|(_, job)| is_complete(job) == wanted)
                .filter_map(|(key, job)| Some((job.status.finished?, &key.name)))
                .collect();
            ended.sort_unstable();
            let surplus = ended.len().saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX));
            let delete = |(_, name): (Timestamp, &Name)| Action::DeleteJob { name: name.clone() };
            self.plan.actions.extend(ended.into_iter().take(surplus.min(STEP_MAX)).map(delete));
        }
    }

    fn event(&mut self, event_type: EventType, reason: &'static str, message: String) {
        let regarding = ObjectRef { kind: Kind::Job, name: self.key.name.to_string() };
        self.plan.events.push(PlannedEvent { regarding, event_type, reason, message });
    }
}

#[cfg(test)]
mod tests;
