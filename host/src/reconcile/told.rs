//! What replicas are told by their Configs and Secrets: newest first, whether they run or have yet to start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use skiff_api::id::ReplicaKey;
use skiff_api::settings::Settings;

/// What one replica is told. Its guests read it at any time.
pub(crate) type Live = Arc<ArcSwap<Settings>>;

/// What each replica that is desired is told. One that is told nothing has no place here.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<BTreeMap<ReplicaKey, Live>>);

impl Told {
    /// A replica is told this from now on. One that runs keeps what it knows where the new cannot be read.
    pub(super) fn tell(&self, replica: &ReplicaKey, settings: Option<&Arc<Settings>>) {
        let mut all = self.all();
        let Some(settings) = settings else {
            all.remove(replica);
            return;
        };
        match all.get(replica) {
            Some(live) if settings.missing.is_empty() => live.store(settings.clone()),
            Some(_) => {}
            None => drop(all.insert(replica.clone(), Arc::new(ArcSwap::new(settings.clone())))),
        }
    }

    /// What a replica is told now and later.
    pub(super) fn live(&self, replica: &ReplicaKey) -> Live {
        self.all().get(replica).cloned().unwrap_or_default()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ReplicaKey, Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_keeps_what_it_knows_until_there_is_better() {
        let replica =
            ReplicaKey { namespace: "shop".parse().unwrap(), name: skiff_api::ReplicaName::new("cart-1-aaaaa") };
        let settings = |value: &str, missing: &[&str]| {
            let config = BTreeMap::from([("REGION".to_owned(), value.to_owned())]);
            let missing = missing.iter().map(|name| (*name).to_owned()).collect();
            Arc::new(Settings { config, missing, ..Settings::default() })
        };
        let told = Told::default();
        told.tell(&replica, Some(&settings("eu", &[])));
        let live = told.live(&replica);
        let region = || live.load().get("REGION").map(str::to_owned);
        told.tell(&replica, Some(&settings("us", &[])));
        assert_eq!(region().as_deref(), Some("us"));
        told.tell(&replica, Some(&settings("", &["secret/stripe"])));
        assert_eq!(region().as_deref(), Some("us"));
        told.tell(&replica, None);
        assert_eq!(told.live(&replica).load().get("REGION"), None);
    }
}
