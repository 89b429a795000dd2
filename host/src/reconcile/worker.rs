//! Workers: replicas that run on their own, from one end of theirs to the next beginning.
//!
//! ```text
//! Ready: it runs ── it ends by itself ──> Failed: waits 1, 2, 4 … 60 s ──> Ready
//!        '── it is to stop ──> Stopping ──> gone
//! ```
//! A worker should run for ever, so each end is one that it should not have come to, whatever its status. One that had run
//! for long begins again after the shortest wait.

use std::time::Duration;

use jiff::Timestamp;
use skiff_api::id::{ReplicaKey, Uid};
use skiff_api::resource::{EventType, INTERRUPTED};
use skiff_api::wire::Assignment;
use tokio_util::sync::CancellationToken;

use super::actor::Reconciler;
use crate::plan::{Action, CRASH_LOOP, Ended, Failure, RunningStage};
use crate::sandbox::{Console, Exit, Report, Worker};

/// A run this long was none of those that fail again and again: well above the longest wait between two of them.
const RAN_LONG: Duration = Duration::from_secs(300);

impl Reconciler {
    /// Which task a replica is, if it is one that is wanted.
    pub(super) fn task(&self, replica: &ReplicaKey) -> Option<Uid> {
        self.desired.items.get(replica).filter(|assignment| assignment.task.is_some()).map(|task| task.uid.clone())
    }

    /// A task has come to its end by itself: it is not begun again.
    fn task_ended(&mut self, replica: ReplicaKey, uid: Uid, report: &Report) {
        let (reason, message) = ending(report);
        let (exit_code, reason) = match report.exit {
            Exit::Status(0) => (Some(0), ""),
            Exit::Status(status) => (Some(status), reason),
            // Its node stops: whoever hears of it does not hold that against it.
            Exit::Stopped => (None, INTERRUPTED),
            Exit::Failed(_) => (None, reason),
        };
        let (event_type, word) = match exit_code {
            Some(0) => (EventType::Normal, "Succeeded"),
            _ => (EventType::Warning, reason),
        };
        self.outbox.event(replica.clone(), event_type, word, message.clone());
        self.end_task(&replica, Ended { uid, exit_code, reason, message });
        // Its log ends, and stays.
        let logs = self.tools.logs().clone();
        drop(tokio::task::spawn_blocking(move || logs.stop(&replica)));
    }

    pub(super) fn begin_run(&mut self, replica: ReplicaKey, worker: Worker) {
        self.dirty.replica(replica.clone());
        let Some(running) = self.observed.running.get_mut(&replica) else { return };
        running.stage = RunningStage::Ready;
        // No longer desired: the plan stops it before it has run.
        let is_held =
            |assignment: &Assignment| assignment.is_to_stop() || assignment.needs_lease() && !self.observed.is_leased;
        if self.desired.items.get(&replica).is_none_or(is_held) {
            return;
        }
        let task = self.desired.items.get(&replica).and_then(|assignment| assignment.task);
        let console = task.filter(|task| task.attach).map(|task| Console::new(task.tty));
        let stop = Halt { console, ..Halt::default() };
        self.workers.insert(replica.clone(), stop.clone());
        self.outbox.event(replica.clone(), EventType::Normal, "Started", "runs".to_owned());
        self.spawn(Action::Start(replica.clone()), self.tools.clone().run(replica, worker, stop));
    }

    pub(super) fn run_ended(&mut self, replica: ReplicaKey, report: &Report) {
        self.workers.remove(&replica);
        let Some(running) = self.observed.running.get(&replica) else { return };
        if running.stage == RunningStage::Stopping {
            let at_once = (Duration::ZERO, CancellationToken::new());
            let tidy = self.tools.clone().stop((replica.clone(), None), None, at_once);
            self.spawn(Action::Stop(replica), tidy);
            return;
        }
        self.observed.running.remove(&replica);
        self.dirty.replica(replica.clone());
        if let Some(uid) = self.task(&replica) {
            return self.task_ended(replica, uid, report);
        }
        let before = self.observed.failed.get(&replica).filter(|_| report.ran < RAN_LONG);
        let (reason, text) = ending(report);
        let failure = Failure::after(before, CRASH_LOOP, text, Timestamp::now());
        self.outbox.event(replica.clone(), EventType::Warning, reason, failure.with_wait());
        self.observed.failed.insert(replica, failure);
    }
}

/// How a worker that runs is told to stop, and talked to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Halt {
    pub(super) soon: CancellationToken,
    pub(super) now: CancellationToken,
    /// Where a client may attach to it.
    pub(super) console: Option<Console>,
}

impl Halt {
    pub(super) fn stop(&self, at_once: bool) {
        self.soon.cancel();
        if at_once {
            self.now.cancel();
        }
    }
}

/// An event's reason, and the rest of a sentence that begins with the worker.
fn ending(report: &Report) -> (&'static str, String) {
    let (reason, mut text) = match &report.exit {
        Exit::Status(status) => ("Exited", format!("exited with status {status}")),
        Exit::Failed(failure) => (failure.trouble().unwrap_or("WorkerFailed"), format!("failed: {failure}")),
        Exit::Stopped => ("Exited", "was stopped".to_owned()),
    };
    text = format!("{text} after {:.1} s", report.ran.as_secs_f32());
    if !report.tail.is_empty() {
        text = format!("{text}; its last lines: {}", report.tail.join(" | "));
    }
    (reason, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_what_came_before_it() {
        let ran = Duration::from_millis(120);
        let report = |exit, tail: &[&str]| Report { exit, ran, tail: tail.iter().map(|&t| t.to_owned()).collect() };
        assert_eq!(
            ending(&report(Exit::Status(3), &["one", "two"])),
            ("Exited", "exited with status 3 after 0.1 s; its last lines: one | two".to_owned())
        );
        let limit = crate::sandbox::Failure::MemoryLimit {
            max: skiff_api::quantity::Bytes::mebi(64),
            field: "instance.memory",
        };
        let (reason, text) = ending(&report(Exit::Failed(limit), &[]));
        assert_eq!(reason, "MemoryLimit");
        assert!(text.contains("64Mi") && text.ends_with("after 0.1 s"), "{text}");
    }
}
