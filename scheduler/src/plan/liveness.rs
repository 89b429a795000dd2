//! Whether a node is there, from what its link says.
//!
//! ```text
//! Suspect ── hello ──> Alive ── link lost ──> Suspect
//! ```
//! A suspect node gets no new replicas and keeps those it has: it may well go on serving them, and a single node has
//! nobody to hand them to. Every node that is stored as alive is suspect again when a control plane starts, until it has
//! said hello to this one.

use jiff::Timestamp;
use skiff_api::resource::{Liveness, NodeStatus};
use skiff_api::wire::Hello;

/// The status of a node that has introduced itself.
pub fn hello(before: &NodeStatus, hello: &Hello, now: Timestamp) -> NodeStatus {
    NodeStatus {
        incarnation: hello.incarnation.clone(),
        version: hello.version.clone(),
        platform: hello.platform.clone(),
        gateway: hello.gateway.clone(),
        capacity: hello.capacity,
        engine: hello.engine.clone(),
        ..moved(before, Liveness::Alive, now)
    }
}

/// The status of a node that cannot be heard.
pub fn lost(before: &NodeStatus, now: Timestamp) -> NodeStatus {
    moved(before, Liveness::Suspect, now)
}

fn moved(before: &NodeStatus, liveness: Liveness, now: Timestamp) -> NodeStatus {
    let since = if before.liveness == liveness && before.since != Timestamp::default() { before.since } else { now };
    NodeStatus { liveness, since, ..before.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{hello_from, memory};

    #[test]
    fn liveness_is_as_old_as_its_last_change() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let greeting = hello_from("n", memory(5));
        let alive = hello(&NodeStatus::default(), &greeting, at(1));
        assert_eq!((alive.liveness, alive.since, alive.capacity), (Liveness::Alive, at(1), memory(5)));
        assert_eq!(hello(&alive, &greeting, at(2)), alive);
        let suspect = lost(&alive, at(3));
        assert_eq!((suspect.liveness, suspect.since, suspect.capacity), (Liveness::Suspect, at(3), memory(5)));
        assert_eq!(lost(&suspect, at(4)), suspect);
        assert_eq!(hello(&suspect, &greeting, at(5)).since, at(5));
    }
}
