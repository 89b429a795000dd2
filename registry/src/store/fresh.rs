//! What was pushed, found or named lately, and so may be about to be relied on.
//!
//! A client pushes blobs first and then the manifest that names them; it asks whether a blob is there and then does not
//! push it; it pushes a manifest by its digest and names it later. In between nothing refers to what it relies on. So all
//! that is touched stays for a while whatever refers to it. Clocks of small machines are wrong, and files' times with them,
//! so this is kept in memory: after a start everything counts as touched just then.
//!
//! Keys are hashes, in two sets that take turns: eight bytes for what was touched in the last period or the one before.
//! Two things of one hash keep each other, which does no harm.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skiff_api::Digest;

/// A thing that can be touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(u64);

#[derive(Debug)]
pub(super) struct Fresh {
    period: Duration,
    turns: Mutex<Turns>,
}

#[derive(Debug)]
struct Turns {
    all_until: Instant,
    since: Instant,
    young: HashSet<Key>,
    old: HashSet<Key>,
}

/// Makes keys; those of one process cannot be foreseen.
#[derive(Debug, Default)]
pub(super) struct Keys(RandomState);

impl Keys {
    /// What a repository has.
    pub(super) fn linked(&self, repository: &str, digest: &Digest) -> Key {
        Key(self.0.hash_one((repository, digest)))
    }

    /// Content, whoever has it.
    pub(super) fn content(&self, digest: &Digest) -> Key {
        Key(self.0.hash_one(digest))
    }
}

impl Fresh {
    /// Things stay fresh for `period`, or up to twice that.
    pub(super) fn new(period: Duration) -> Self {
        let now = Instant::now();
        let turns = Turns { all_until: now + period, since: now, young: HashSet::new(), old: HashSet::new() };
        Self { period, turns: Mutex::new(turns) }
    }

    pub(super) fn touch(&self, key: Key) {
        self.lock().young.insert(key);
    }

    pub(super) fn is_fresh(&self, key: Key) -> bool {
        let turns = self.lock();
        turns.all_until > Instant::now() || turns.young.contains(&key) || turns.old.contains(&key)
    }

    /// Forgets what was not touched for a period. What is touched from now on stays fresh until the turn after the next,
    /// however short the period is.
    pub(super) fn turn(&self) {
        let mut turns = self.lock();
        if turns.since.elapsed() >= self.period {
            turns.old = std::mem::take(&mut turns.young);
            turns.since = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_outlives_one_turn() {
        let (keys, fresh) = (Keys::default(), Fresh::new(Duration::ZERO));
        let digest = crate::hash::sha256(b"x");
        let key = keys.linked("a", &digest);
        assert!(!fresh.is_fresh(key));
        fresh.touch(key);
        fresh.turn();
        assert!(fresh.is_fresh(key) && !fresh.is_fresh(keys.linked("b", &digest)));
        assert!(!fresh.is_fresh(keys.content(&digest)));
        fresh.turn();
        assert!(!fresh.is_fresh(key));
    }

    #[test]
    fn all_is_fresh_after_a_start_and_for_its_period() {
        let (keys, fresh) = (Keys::default(), Fresh::new(Duration::from_secs(3600)));
        let key = keys.content(&crate::hash::sha256(b"x"));
        assert!(fresh.is_fresh(key));
        fresh.lock().all_until = Instant::now();
        assert!(!fresh.is_fresh(key));
        fresh.touch(key);
        fresh.turn();
        fresh.turn();
        assert!(fresh.is_fresh(key), "a turn before its time forgets nothing");
    }
}
