//! Random commits, compactions, restarts and watchers, against a model that keeps a whole copy of every state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skiff_disk::sim::SimDisk;
use skiff_scheduler::store::{Batch, Entry, Error, List, Store, Txn, TxnOutcome, Watch};

use super::{Rng, memory, open, rev};

type State = BTreeMap<String, Entry>;

/// A key, what it was before, and after.
type Changed = (String, Option<Entry>, Option<Entry>);

/// Every state there was, by revision.
struct Model {
    states: Vec<State>,
    oldest: u64,
}

impl Model {
    fn revision(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn state(&self, revision: u64) -> &State {
        &self.states[usize::try_from(revision).unwrap()]
    }

    fn now(&self) -> &State {
        self.state(self.revision())
    }

    /// What a watcher of a prefix is to see next: key, before, after.
    fn next(&self, prefix: &str, after: u64) -> Option<(u64, Vec<Changed>)> {
        (after + 1..=self.revision()).find_map(|revision| {
            let (old, new) = (self.state(revision - 1), self.state(revision));
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).filter(|key| key.starts_with(prefix)).collect();
            keys.sort();
            keys.dedup();
            let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
            let changes: Vec<_> =
                changed.map(|key| (key.clone(), old.get(key).cloned(), new.get(key).cloned())).collect();
            (!changes.is_empty()).then_some((revision, changes))
        })
    }
}

struct Watcher {
    prefix: &'static str,
    watch: Watch,
    seen: u64,
}

#[derive(Default)]
struct Seen {
    batches: u32,
    compacted: u32,
    refused: u32,
}

const PREFIXES: [&str; 4] = ["", "/a", "/a/1", "/b/"];

fn key(rng: &mut Rng) -> String {
    format!("/{}/{}", ["a", "b"][rng.below(2)], rng.below(6))
}

/// A transaction whose compares mostly hold, and whether they do.
fn draw(rng: &mut Rng, model: &Model) -> (Txn, bool) {
    let (mut txn, mut holds) = (Txn::new(), true);
    for _ in 0..rng.below(3) {
        let key = key(rng);
        let entry = model.now().get(&key);
        if rng.below(8) == 0 {
            let wrong = rev(model.revision() + 7);
            txn = txn.require_revision(key, wrong);
            holds = false;
        } else if let Some(entry) = entry {
            txn = txn.require_revision(key.clone(), entry.modified).require_created(key, entry.created);
        } else {
            txn = txn.require_absent(key);
        }
    }
    let mut keys: Vec<String> = (0..=rng.below(4)).map(|_| key(rng)).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        txn = if rng.below(3) == 0 { txn.delete(key) } else { txn.put(key, (rng.next() % 100).to_string()) };
    }
    (txn, holds)
}

fn apply(model: &mut Model, txn: &Txn) {
    let mut state = model.now().clone();
    let revision = rev(model.revision() + 1);
    for op in txn.ops() {
        match op {
            skiff_scheduler::store::Op::Put { key, value } => {
                let created = state.get(&**key).map_or(revision, |entry| entry.created);
                let entry = Entry { key: key.clone(), value: value.clone(), created, modified: revision };
                state.insert(key.to_string(), entry);
            }
            skiff_scheduler::store::Op::Delete { key } => drop(state.remove(&**key)),
        }
    }
    if state != *model.now() {
        model.states.push(state);
    }
}

/// Takes the next batch, which is known to be there.
async fn advance(store: &dyn Store, model: &Model, watcher: &mut Watcher, seen: &mut Seen) {
    let Some((revision, changes)) = model.next(watcher.prefix, watcher.seen) else { return };
    let next = tokio::time::timeout(Duration::from_secs(20), watcher.watch.next()).await.expect("nothing came");
    match next {
        Ok(Batch { revision: found, changes: mut batch }) => {
            batch.sort_by(|a, b| a.key.cmp(&b.key));
            let batch: Vec<_> = batch.into_iter().map(|c| (c.key.to_string(), c.before, c.after)).collect();
            assert_eq!((found.get(), batch), (revision, changes));
            watcher.seen = revision;
            seen.batches += 1;
        }
        Err(Error::Compacted { oldest, .. }) => {
            assert!(watcher.seen < model.oldest, "compacted at {} though {oldest} is kept", watcher.seen);
            assert_eq!(oldest, rev(model.oldest));
            let listing = store.list(List::prefix(watcher.prefix)).await.unwrap();
            watcher.seen = listing.revision.get();
            watcher.watch = store.watch(watcher.prefix, listing.revision);
            seen.compacted += 1;
        }
        Err(e) => panic!("{e}"),
    }
}

async fn check_list(store: &dyn Store, model: &Model, rng: &mut Rng) {
    let at = rng.next() % (model.revision() + 1);
    let (prefix, limit) = (PREFIXES[rng.below(PREFIXES.len())], 1 + rng.below(8));
    match store.list(List::prefix(prefix).at(rev(at)).limit(limit)).await {
        Ok(listing) => {
            let all: Vec<Entry> =
                model.state(at).iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, e)| e.clone()).collect();
            assert_eq!(listing.entries, all[..all.len().min(limit)], "at {at}");
            assert_eq!(listing.more, all.len() > limit);
            assert!(at >= model.oldest);
        }
        Err(Error::Compacted { .. }) => assert!(at < model.oldest, "{at} is kept"),
        Err(e) => panic!("{e}"),
    }
}

async fn run(seed: u64, sim: Option<&SimDisk>) -> Seen {
    let opened = || -> Arc<dyn Store> { sim.map_or_else(memory, |sim| Arc::new(open(sim))) };
    let mut rng = Rng(seed);
    let mut store = opened();
    let mut model = Model { states: vec![State::new()], oldest: 0 };
    let mut seen = Seen::default();
    let mut watchers: Vec<Watcher> =
        PREFIXES.iter().map(|prefix| Watcher { prefix, watch: store.watch(prefix, rev(0)), seen: 0 }).collect();
    for _ in 0..400 {
        match rng.below(20) {
            0..8 => {
                let (txn, holds) = draw(&mut rng, &model);
                match store.commit(txn.clone()).await.unwrap() {
                    TxnOutcome::Committed(revision) => {
                        assert!(holds, "committed: {txn:?}");
                        apply(&mut model, &txn);
                        assert_eq!(revision.get(), model.revision());
                    }
                    TxnOutcome::Refused { .. } => {
                        assert!(!holds, "refused: {txn:?}");
                        seen.refused += 1;
                    }
                }
            }
            8..14 => {
                let one = rng.below(watchers.len());
                advance(&*store, &model, &mut watchers[one], &mut seen).await;
            }
            14..16 => {
                // Away, and back with the last revision that it saw.
                let one = rng.below(watchers.len());
                watchers[one].watch = store.watch(watchers[one].prefix, rev(watchers[one].seen));
            }
            16..18 => check_list(&*store, &model, &mut rng).await,
            18 if rng.below(3) == 0 => {
                let before = rng.next() % (model.revision() + 1);
                store.compact(rev(before)).await.unwrap();
                model.oldest = model.oldest.max(before);
            }
            19 if sim.is_some() && rng.below(2) == 0 => {
                drop(store);
                store = opened();
                for watcher in &mut watchers {
                    watcher.watch = store.watch(watcher.prefix, rev(watcher.seen));
                }
            }
            _ => {}
        }
    }
    // All see everything, and nothing more before a last change.
    let last = Txn::new().put("/a/1", "last").put("/b/1", "last");
    assert!(store.commit(last.clone()).await.unwrap().committed().is_some());
    apply(&mut model, &last);
    for watcher in &mut watchers {
        while watcher.seen < model.revision() {
            advance(&*store, &model, watcher, &mut seen).await;
        }
    }
    seen
}

async fn run_all(seeds: u64, backend: impl Fn(u64) -> Option<SimDisk>) {
    let mut total = Seen::default();
    for seed in 0..seeds {
        eprintln!("seed {seed}");
        let seen = run(seed, backend(seed).as_ref()).await;
        total.batches += seen.batches;
        total.compacted += seen.compacted;
        total.refused += seen.refused;
    }
    assert!(total.batches > 1000 && total.refused > 20, "too little happened");
    assert!(total.compacted > 0 || backend(0).is_none(), "no watcher was ever too late");
}

#[tokio::test]
async fn memory_agrees_with_the_model() {
    run_all(50, |_| None).await;
}

#[tokio::test]
async fn redb_agrees_with_the_model() {
    run_all(50, |seed| Some(SimDisk::new(seed))).await;
}
