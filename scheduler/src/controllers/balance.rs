//! When a rebalancing is due, and how much of it is carried out at once.
//!
//! ```text
//! Idle ── nodes changed ──> Due (in a while) ── plan ──> moves ── all done ──> Due ── nothing left ──> Idle
//! ```
//! A set is planned anew after each part of it: by then, some of it may be wrong.

use std::time::Duration;

use skiff_api::ServiceKey;
use skiff_api::why::{Rebalance, RebalanceMove};
use tokio::time::Instant;

use crate::plan::rebalance::{self, Move, MoveSet, Options};
use crate::plan::{Action, Board, Plan, State};

/// A node that joins is rarely alone, and one that restarts is back by then.
const SETTLE: Duration = Duration::from_secs(10);

/// Between two parts of a set: what moved has reported by then.
const PAUSE: Duration = Duration::from_millis(200);

/// Replicas that move at once, in the whole cluster: each is there twice while it does.
const MOVES_MAX: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Balance {
    due: Option<Instant>,
    asked: bool,
    /// The rest waits until what was told to move has moved.
    waits: bool,
}

impl Balance {
    /// Nodes came, went or changed.
    pub(super) fn nodes_changed(&mut self, now: Instant) {
        self.due = Some(now + SETTLE);
    }

    /// Somebody asked for it.
    pub(super) fn ask(&mut self, now: Instant) {
        self.asked = true;
        self.due = Some(now);
    }

    /// Something was written: perhaps the last of what was under way.
    pub(super) fn state_changed(&mut self, state: &State, now: Instant) {
        if self.waits && state.moving().is_empty() {
            self.waits = false;
            self.due = Some(now + PAUSE);
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    fn options(&self) -> Options {
        if self.asked { Options::ASKED } else { Options::BY_ITSELF }
    }

    /// The next part, if it is time for it. What is under way comes first.
    pub(super) fn next(&mut self, state: &State, board: &Board, now: Instant) -> Vec<Plan> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        if !state.moving().is_empty() {
            (self.due, self.waits) = (None, true);
            return Vec::new();
        }
        // Whoever waits for room is placed first, and takes it; a node that makes room makes this due again.
        if !state.unplaced().is_empty() {
            self.due = None;
            return Vec::new();
        }
        let set = rebalance::plan(state, board, self.options());
        if set.moves.is_empty() {
            *self = Self::default();
            return Vec::new();
        }
        (self.due, self.waits) = (None, true);
        set.moves.iter().take(MOVES_MAX).map(plan_of).collect()
    }
}

fn plan_of(step: &Move) -> Plan {
    let service: ServiceKey = step.service.clone();
    let mut plan = Plan::nothing(service);
    plan.actions.push(Action::Move { name: step.replica.name.clone(), to: Some(step.to.clone()) });
    plan.events.push(crate::plan::PlannedEvent {
        regarding: skiff_api::resource::ObjectRef {
            kind: skiff_api::Kind::Replica,
            name: step.replica.name.to_string(),
        },
        event_type: skiff_api::resource::EventType::Normal,
        reason: "Moves",
        message: format!("moves from {} to {}: nodes are unevenly full", step.from, step.to),
    });
    plan
}

/// A set as it is told to people.
pub(super) fn told(set: &MoveSet) -> Rebalance {
    let moves = set.moves.iter().map(|step| RebalanceMove {
        replica: step.replica.to_string(),
        from: step.from.clone(),
        to: step.to.clone(),
    });
    let thousandths = |(low, high): (u64, u64)| [low / 1000, high / 1000];
    Rebalance { moves: moves.collect(), before: thousandths(set.before), after: thousandths(set.after) }
}
