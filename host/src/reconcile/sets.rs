//! What the control plane sends, taken in and made durable.

use std::collections::BTreeMap;

use skiff_api::id::ReplicaKey;
use skiff_api::wire::{Assignment, Base, Desired, Fence, Routes};
use tokio::task::{JoinError, spawn_blocking};

use super::actor::Reconciler;
use super::operation::chain;
use crate::state::{StateError, Verdict};

/// Which sets are newer in memory than on disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unsaved {
    pub(super) desired: bool,
    pub(super) routes: bool,
}

impl Reconciler {
    pub(super) fn desire(&mut self, message: Desired) {
        let newest = self.newest_fence();
        let Desired { fence, base, upsert, remove } = message;
        let before = self.named_by(base, &upsert, &remove);
        let upsert = upsert.into_iter().map(|assignment| (assignment.replica.clone(), assignment));
        match self.desired.apply(newest, (fence, base), upsert, &remove) {
            Verdict::Accepted => {
                self.differ(before, matches!(base, Base::Whole));
                for replica in remove.into_iter().filter(|key| !self.observed.running.contains_key(key)) {
                    self.outbox.gone(replica);
                }
                self.unsaved.desired = true;
                self.outbox.fence_changed();
            }
            Verdict::Unchanged => {}
            Verdict::Refused => refused("desired set", fence, self.desired.fence),
            Verdict::Gap => self.outbox.resync(),
        }
    }

    /// What is desired now of all that a message speaks of.
    fn named_by(
        &self,
        base: Base,
        upsert: &[Assignment],
        remove: &[ReplicaKey],
    ) -> BTreeMap<ReplicaKey, Option<Assignment>> {
        let now = |key: &ReplicaKey| (key.clone(), self.desired.items.get(key).cloned());
        let named = upsert.iter().map(|assignment| &assignment.replica).chain(remove);
        match base {
            Base::Whole => self.desired.items.keys().chain(named).map(now).collect(),
            Base::After(_) => named.map(now).collect(),
        }
    }

    /// Notes how what is desired differs from what it was.
    fn differ(&mut self, before: BTreeMap<ReplicaKey, Option<Assignment>>, is_whole: bool) {
        for (replica, before) in before {
            let after = self.desired.items.get(&replica);
            if before.as_ref() == after {
                continue;
            }
            if let Some(unnamed) = before.and_then(|before| self.users.remove(&replica, &before)) {
                if let Some(code) = self.observed.code.get_mut(&unnamed) {
                    code.failure = None;
                }
                self.unnamed = true;
            }
            if let Some(after) = after {
                self.users.add(&replica, after);
            }
            // What failed for another assignment says nothing about this one.
            self.observed.failed.remove(&replica);
            self.dirty.replica(replica);
        }
        if is_whole {
            self.dirty.all();
        }
    }

    pub(super) fn learn_routes(&mut self, message: Routes) {
        let newest = self.newest_fence();
        let Routes { fence, base, upsert, remove } = message;
        let upsert = upsert.into_iter().map(|routes| (routes.service.clone(), routes));
        match self.routes.apply(newest, (fence, base), upsert, &remove) {
            Verdict::Accepted => {
                self.routing.changed();
                self.unsaved.routes = true;
            }
            Verdict::Unchanged => {}
            Verdict::Refused => refused("routes", fence, self.routes.fence),
            Verdict::Gap => self.outbox.resync(),
        }
    }

    /// Makes what was accepted durable before it is acted on. A disk that fails stops nothing: the node goes on with what
    /// it has in memory, and tries again.
    pub(super) async fn save(&mut self) {
        let unsaved = std::mem::take(&mut self.unsaved);
        if unsaved.desired {
            let (files, set) = (self.files.clone(), self.desired.clone());
            let written = spawn_blocking(move || files.write_desired(&set)).await;
            self.unsaved.desired = !is_written(written);
        }
        if unsaved.routes {
            let (files, set) = (self.files.clone(), self.routes.clone());
            let written = spawn_blocking(move || files.write_routes(&set)).await;
            self.unsaved.routes = !is_written(written);
        }
    }

    pub(super) fn newest_fence(&self) -> Fence {
        self.desired.fence.max(self.routes.fence)
    }
}

fn refused(what: &str, fence: Fence, newest: Fence) {
    tracing::warn!(?fence, ?newest, "refused a {what} that is older than what this node knows");
}

fn is_written(written: Result<Result<(), StateError>, JoinError>) -> bool {
    match written {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            let error = chain(&error);
            tracing::error!(error, "what the control plane wants would be lost by a crash now; trying again");
            false
        }
        Err(_) => false,
    }
}
