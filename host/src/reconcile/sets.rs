//! What the control plane sends, taken in and made durable.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use skiff_api::id::{ReplicaKey, ServiceKey, Uid};
use skiff_api::wire::{Assignment, Base, Desired, Fence, Routes, ServiceRoutes};
use tokio::task::{JoinError, spawn_blocking};

use super::actor::Reconciler;
use super::operation::chain;
use crate::state::{Appended, Change, Kept, Set, StateError, Verdict};

/// How the sets in memory are ahead of those on disk.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    desired: Ahead<ReplicaKey, Assignment>,
    routes: Ahead<ServiceKey, ServiceRoutes>,
    /// Nodes that were removed from the cluster, if that changed.
    removed: Option<Vec<Uid>>,
}

impl Unsaved {
    pub(super) fn any(&self) -> bool {
        !self.desired.is_nothing() || !self.routes.is_nothing() || self.removed.is_some()
    }
}

/// How one set is ahead.
#[derive(Debug)]
enum Ahead<K, V> {
    By(Vec<Change<K, V>>),
    /// By more than changes, or by what was not written when it should have been.
    Whole,
}

impl<K, V> Default for Ahead<K, V> {
    fn default() -> Self {
        Self::By(Vec::new())
    }
}

impl<K, V> Ahead<K, V> {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::By(changes) if changes.is_empty())
    }

    fn push(&mut self, fence: Fence, base: Base, upsert: Vec<V>, remove: Vec<K>) {
        match (base, &mut *self) {
            (Base::Whole, ahead) => *ahead = Self::Whole,
            (Base::After(after), Self::By(changes)) => changes.push(Change { fence, after, upsert, remove }),
            (Base::After(_), Self::Whole) => {}
        }
    }
}

/// Makes durable by how much a set is ahead. What is then still to be done is returned.
async fn saved<K, V>(kept: &Kept<K, V>, set: &Set<K, V>, ahead: Ahead<K, V>) -> Ahead<K, V>
where
    K: Ord + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: PartialEq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    if let Ahead::By(changes) = ahead {
        let kept = kept.clone();
        let appended = spawn_blocking(move || kept.append(&changes)).await;
        match written(appended) {
            Some(Appended::Durable) => return Ahead::default(),
            Some(Appended::WholeWanted) => {}
            None => return Ahead::Whole,
        }
    }
    let (kept, set) = (kept.clone(), set.clone());
    let whole = spawn_blocking(move || kept.write(&set)).await;
    written(whole).map_or(Ahead::Whole, |()| Ahead::default())
}

impl Reconciler {
    pub(super) fn desire(&mut self, message: Desired) {
        let newest = self.newest_fence();
        let Desired { fence, base, upsert, remove, volumes } = message;
        let is_restored = fence.epoch > self.desired.fence.epoch;
        let before = self.named_by(base, &upsert, &remove);
        let items = upsert.iter().map(|assignment| (assignment.replica.clone(), assignment.clone()));
        match self.desired.apply(newest, (fence, base), items, &remove) {
            Verdict::Accepted => {
                self.lease_learns(matches!(base, Base::Whole));
                self.keep_volumes(fence, &before, volumes);
                self.differ(before, matches!(base, Base::Whole));
                for replica in remove.iter().filter(|key| !self.observed.running.contains_key(key)) {
                    self.outbox.gone(replica.clone());
                }
                self.unsaved.desired.push(fence, base, upsert, remove);
                self.outbox.fence_changed();
                if is_restored {
                    self.outbox.repeat();
                }
            }
            Verdict::Unchanged => {
                self.lease_learns(true);
                self.keep_volumes(fence, &before, volumes);
            }
            Verdict::Refused => refused("desired set", fence, self.desired.fence),
            Verdict::Gap => self.outbox.resync(),
        }
    }

    /// Whose volumes stay, where that may have changed.
    fn keep_volumes(&self, fence: Fence, before: &BTreeMap<ReplicaKey, Option<Assignment>>, volumes: Option<Vec<Uid>>) {
        let has_some = |assignment: Option<&Assignment>| assignment.is_some_and(|one| one.owner.is_some());
        let is_about = |(replica, before): (&ReplicaKey, &Option<Assignment>)| {
            has_some(before.as_ref()) || has_some(self.desired.items.get(replica))
        };
        if volumes.is_none() && !before.iter().any(is_about) {
            return;
        }
        self.tools.keep(|keep| {
            keep.told(fence.epoch, volumes.map(|volumes| volumes.into_iter().collect()));
            keep.wanted = self.desired.items.values().filter_map(|assignment| assignment.owner.clone()).collect();
        });
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
        let (mut recheck, mut rechecked) = (Vec::new(), BTreeSet::new());
        for (replica, before) in before {
            let after = self.desired.items.get(&replica);
            if before.as_ref() == after {
                continue;
            }
            self.tools.told().tell(&replica, after.and_then(|after| after.settings.as_ref()));
            let trust_before = before.as_ref().and_then(|before| before.trust.clone());
            if let Some(unnamed) = before.and_then(|before| self.users.remove(&replica, &before)) {
                if let Some(code) = self.observed.code.get_mut(&unnamed) {
                    code.failure = None;
                }
                self.unnamed = true;
            }
            if let Some(after) = after {
                self.users.add(&replica, after);
                // The replicas of a revision have the same image and the same policies.
                let is_running = self.observed.running.contains_key(&replica);
                if is_running
                    && after.trust != trust_before
                    && rechecked.insert((after.service_key(), after.revision.clone()))
                {
                    recheck.push(after.clone());
                }
            }
            // What failed for another assignment says nothing about this one.
            self.observed.failed.remove(&replica);
            // One of the same name is another task.
            let ended = self.observed.ended.get(&replica);
            if ended.is_some_and(|end| after.is_none_or(|after| after.uid != end.uid)) {
                self.observed.ended.remove(&replica);
            }
            match after.is_some_and(Assignment::needs_lease) && !self.observed.ended.contains_key(&replica) {
                true => _ = self.holders.replicas.insert(replica.clone()),
                false => _ = self.holders.replicas.remove(&replica),
            }
            self.dirty.replica(replica);
        }
        for assignment in recheck.into_iter().filter(|assignment| assignment.trust.is_some()) {
            self.recheck(assignment);
        }
        if is_whole {
            self.dirty.all();
        }
    }

    pub(super) fn learn_routes(&mut self, message: Routes) {
        let newest = self.newest_fence();
        let Routes { fence, base, upsert, remove, removed_nodes } = message;
        let items = upsert.iter().map(|routes| (routes.service.clone(), routes.clone()));
        match self.routes.apply(newest, (fence, base), items, &remove) {
            Verdict::Accepted => {
                self.routing.changed();
                self.unsaved.routes.push(fence, base, upsert, remove);
                self.shut_out(removed_nodes);
            }
            Verdict::Unchanged => self.shut_out(removed_nodes),
            Verdict::Refused => refused("routes", fence, self.routes.fence),
            Verdict::Gap => self.outbox.resync(),
        }
    }

    /// Nodes that were removed come in no more.
    fn shut_out(&mut self, removed: Option<Vec<Uid>>) {
        let (Some(peers), Some(removed)) = (&self.gateway.peers, removed) else { return };
        if peers.shut_out(&removed) {
            self.unsaved.removed = Some(removed);
        }
    }

    /// Makes what was accepted durable before it is acted on. A disk that fails stops nothing: the node goes on with what
    /// it has in memory, and tries again.
    pub(super) async fn save(&mut self) {
        let Unsaved { desired, routes, removed } = std::mem::take(&mut self.unsaved);
        if let Some(removed) = removed {
            let (files, list) = (self.files.clone(), removed.clone());
            let saved = written(spawn_blocking(move || files.write_removed(&list)).await);
            self.unsaved.removed = saved.is_none().then_some(removed);
        }
        if !desired.is_nothing() {
            self.unsaved.desired = saved(&self.files.desired, &self.desired, desired).await;
        }
        if !routes.is_nothing() {
            self.unsaved.routes = saved(&self.files.routes, &self.routes, routes).await;
        }
    }

    pub(super) fn newest_fence(&self) -> Fence {
        self.desired.fence.max(self.routes.fence)
    }
}

fn refused(what: &str, fence: Fence, newest: Fence) {
    tracing::warn!(?fence, ?newest, "refused a {what} that is older than what this node knows");
}

fn written<T>(written: Result<Result<T, StateError>, JoinError>) -> Option<T> {
    match written {
        Ok(Ok(done)) => Some(done),
        Ok(Err(error)) => {
            let error = chain(&error);
            tracing::error!(error, "what the control plane wants would be lost by a crash now; trying again");
            None
        }
        Err(_) => None,
    }
}
