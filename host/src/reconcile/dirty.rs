//! Which replicas have to be planned again.
//!
//! A change names what it has to do with, and only that is looked at: among ten thousand replicas, one that starts costs
//! what it costs among ten.

use std::collections::{BTreeMap, BTreeSet};

use skiff_api::Digest;
use skiff_api::id::ReplicaKey;
use skiff_api::wire::Assignment;

use crate::plan::{CodeStage, Observed};

/// What changed since the last plan.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    all: bool,
    replicas: BTreeSet<ReplicaKey>,
}

impl Dirty {
    pub(super) fn all(&mut self) {
        self.all = true;
    }

    pub(super) fn replica(&mut self, replica: ReplicaKey) {
        self.replicas.insert(replica);
    }

    pub(super) fn replicas(&mut self, replicas: impl IntoIterator<Item = ReplicaKey>) {
        self.replicas.extend(replicas);
    }

    /// What to plan now, if anything: all that is desired or exists, or some of it. Who waits for the same code is planned
    /// together.
    pub(super) fn take(
        &mut self,
        desired: &BTreeMap<ReplicaKey, Assignment>,
        observed: &Observed,
        users: &Users,
        told: impl Iterator<Item = ReplicaKey>,
    ) -> Option<Scope> {
        let mut replicas = std::mem::take(&mut self.replicas);
        if std::mem::take(&mut self.all) {
            replicas.extend(desired.keys().chain(observed.running.keys()).cloned());
            replicas.extend(told);
            return Some(Scope { replicas, is_whole: true });
        }
        let waits = |key: &&ReplicaKey| !observed.running.contains_key(*key);
        let digests = replicas.iter().filter(waits).filter_map(|key| desired.get(key)?.template.image.digest());
        let is_compiled =
            |digest: &Digest| observed.code.get(digest).is_some_and(|code| code.stage == CodeStage::Compiled);
        let digests: BTreeSet<&Digest> = digests.filter(|digest| !is_compiled(digest)).collect();
        let together: Vec<ReplicaKey> = digests.into_iter().flat_map(|digest| users.of(digest)).cloned().collect();
        replicas.extend(together);
        (!replicas.is_empty()).then_some(Scope { replicas, is_whole: false })
    }
}

/// What a plan is made for.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) replicas: BTreeSet<ReplicaKey>,
    pub(super) is_whole: bool,
}

/// Which desired replicas run which code.
#[derive(Debug, Default)]
pub(super) struct Users(BTreeMap<Digest, BTreeSet<ReplicaKey>>);

impl Users {
    pub(super) fn new(desired: &BTreeMap<ReplicaKey, Assignment>) -> Self {
        let mut users = Self::default();
        for (replica, assignment) in desired {
            users.add(replica, assignment);
        }
        users
    }

    pub(super) fn of(&self, digest: &Digest) -> impl Iterator<Item = &ReplicaKey> {
        self.0.get(digest).into_iter().flatten()
    }

    /// What is named by any.
    pub(super) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.0.keys()
    }

    pub(super) fn add(&mut self, replica: &ReplicaKey, assignment: &Assignment) {
        if let Some(digest) = assignment.template.image.digest() {
            self.0.entry(digest.clone()).or_default().insert(replica.clone());
        }
    }

    /// Answers with the digest if nobody names it any more.
    pub(super) fn remove(&mut self, replica: &ReplicaKey, assignment: &Assignment) -> Option<Digest> {
        let digest = assignment.template.image.digest()?;
        let users = self.0.get_mut(digest)?;
        users.remove(replica);
        if !users.is_empty() {
            return None;
        }
        self.0.remove_entry(digest).map(|(digest, _)| digest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skiff_api::id::{ReplicaName, RevisionName, Uid};
    use skiff_api::resource::ServiceSpec;

    use super::*;
    use crate::plan::{Code, Running, RunningStage};

    fn key(name: &str) -> ReplicaKey {
        ReplicaKey { namespace: "default".parse().unwrap(), name: ReplicaName::new(name) }
    }

    fn assignment(name: &str, number: u8) -> Assignment {
        let image = format!("cart@sha256:{}", format!("{number:02x}").repeat(32));
        let template = Arc::new(ServiceSpec::new(image.parse().unwrap()).template());
        let (service, revision) = ("cart".parse().unwrap(), RevisionName::new("cart-1"));
        Assignment {
            replica: key(name),
            uid: Uid::new("1"),
            service,
            revision,
            template,
            trust: None,
            settings: None,
            task: None,
            stop: false,
            owner: None,
        }
    }

    #[test]
    fn who_waits_for_the_same_code_is_planned_together_and_nobody_else() {
        let desired: BTreeMap<_, _> =
            [("a", 1), ("b", 1), ("c", 2)].map(|(name, number)| (key(name), assignment(name, number))).into();
        let users = Users::new(&desired);
        let mut observed = Observed::default();
        let mut dirty = Dirty::default();
        let mut take = |observed: &Observed, marked: &[&str]| {
            dirty.replicas(marked.iter().map(|name| key(name)));
            let scope = dirty.take(&desired, observed, &users, std::iter::empty());
            scope.map(|scope| scope.replicas.into_iter().map(|key| key.name.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(take(&observed, &[]), None);
        assert_eq!(take(&observed, &["a"]).unwrap(), ["a", "b"]);
        let digest = desired[&key("a")].template.image.digest().unwrap().clone();
        observed.code.insert(digest.clone(), Code { stage: CodeStage::Compiled, failure: None });
        assert_eq!(take(&observed, &["a", "gone"]).unwrap(), ["a", "gone"]);
        observed.code.clear();
        observed.running.insert(key("a"), Running { uid: Uid::new("1"), stage: RunningStage::Ready });
        assert_eq!(take(&observed, &["a"]).unwrap(), ["a"]);
    }

    #[test]
    fn the_last_user_is_noticed() {
        let desired: BTreeMap<_, _> = [("a", 1), ("b", 1)].map(|(n, d)| (key(n), assignment(n, d))).into();
        let mut users = Users::new(&desired);
        assert_eq!(users.remove(&key("a"), &desired[&key("a")]), None);
        assert_eq!(users.remove(&key("b"), &desired[&key("b")]).as_ref(), desired[&key("b")].template.image.digest());
        assert_eq!(users.digests().count(), 0);
    }
}
