//! When the gateway's table is made anew.
//!
//! A table is made whole, which takes some milliseconds with ten thousand services. So a burst of changes must not make it
//! once for each: after one was made, the next waits for a multiple of the time that it took. That is nothing on a small
//! node, and on a large one bounds what routing takes to a share of one core. What stops waits with it, because it may
//! close only when nobody is sent there any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skiff_api::id::{ReplicaKey, ServiceKey};
use tokio::time::Instant;

use super::actor::Reconciler;
use crate::gateway::{Backend, Callee, LINGER, Services, Table, Target};
use crate::plan::Action;

/// Of one core's time, making tables may take one part in this many.
const SHARE: u32 = 5;

/// And none waits for longer, even where a busy machine made one slow.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// What the table has yet to be told.
#[derive(Debug)]
pub(super) struct Routing {
    is_stale: bool,
    not_before: Instant,
    /// Replicas that stop, once no request is sent there.
    closing: Vec<(ReplicaKey, Option<Arc<Target>>)>,
}

impl Routing {
    /// The first table is due at once.
    pub(super) fn new() -> Self {
        Self { is_stale: true, not_before: Instant::now(), closing: Vec::new() }
    }

    pub(super) fn changed(&mut self) {
        self.is_stale = true;
    }

    pub(super) fn close(&mut self, replica: ReplicaKey, target: Option<Arc<Target>>) {
        self.is_stale = true;
        self.closing.push((replica, target));
    }

    /// When the next table is due, if one is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.is_stale.then_some(self.not_before)
    }
}

impl Reconciler {
    /// Makes a new table if it is time for one, and begins to stop what is not in it any more.
    pub(super) fn route(&mut self) {
        let started = Instant::now();
        if self.routing.due().is_none_or(|due| due > started) {
            return;
        }
        let (table, services) = self.tables();
        self.gateway.route(table, services);
        let took = started.elapsed();
        self.routing.is_stale = false;
        self.routing.not_before = Instant::now() + took.saturating_mul(SHARE - 1).min(WAIT_MAX);
        for (replica, target) in std::mem::take(&mut self.routing.closing) {
            let action = Action::Stop(replica.clone());
            let linger = if self.leaving.contains_key(&replica) { LINGER } else { Duration::ZERO };
            let uid = self.observed.running.get(&replica).map(|running| running.uid.clone());
            let brake = self.holders.brake_of(&replica);
            self.spawn(action, self.tools.clone().stop((replica, uid), target, (linger, brake)));
        }
    }

    /// Every service that has routes is in the table: one without replicas here is told apart from one that nobody knows.
    fn tables(&self) -> (Table<Arc<Backend>>, Services) {
        let mut ready: BTreeMap<&ServiceKey, Vec<Arc<Target>>> = BTreeMap::new();
        for (service, target) in self.targets.values() {
            ready.entry(service).or_default().push(target.clone());
        }
        let mut leaving: BTreeMap<&ServiceKey, Vec<Arc<Target>>> = BTreeMap::new();
        for (service, target) in self.leaving.values() {
            leaving.entry(service).or_default().push(target.clone());
        }
        let (peers, known) = (self.gateway.peers.as_ref(), self.gateway.services());
        let mut table = Table::default();
        let mut services = Services::with_capacity(self.routes.items.len());
        for (service, routes) in &self.routes.items {
            let targets = ready.remove(service).unwrap_or_default();
            let mut backend = Backend::new(service.clone(), targets);
            if let Some(peers) = peers {
                let before = known.get(service).map(|callee| callee.backend.remotes()).unwrap_or_default();
                let remotes = peers.remotes(service, &routes.endpoints, before);
                backend = backend.among_others(leaving.remove(service).unwrap_or_default(), remotes);
            }
            let backend = Arc::new(backend);
            for route in &routes.routes {
                table.insert(route, backend.clone());
            }
            services.insert(service.clone(), Callee { backend, callers: routes.callers.clone() });
        }
        (table, services)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_table_is_due_when_something_changed_and_at_a_moment_that_stands_still() {
        let mut routing = Routing::new();
        let first = routing.due().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(routing.due(), Some(first), "it would never be reached");
        routing.is_stale = false;
        assert_eq!(routing.due(), None);
        routing.changed();
        assert!(routing.due().unwrap() <= Instant::now());
    }
}
