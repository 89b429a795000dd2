//! The embedded store and the loss of power at any moment: what was acknowledged is there, and nothing is there by half.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use skiff_disk::Site;
use skiff_disk::sim::SimDisk;
use skiff_scheduler::store::{Error, List, Op, RedbStore, Store, Txn, TxnOutcome};

use super::{Rng, open, rev};

/// What was asked of the store on one disk, over several boots.
struct Witness {
    rng: Rng,
    /// Every transaction that was ever sent; each writes its own number to `/id`.
    sent: Vec<Txn>,
    /// Which of them is known to be at each revision, from 1 on.
    known: Vec<usize>,
    oldest: u64,
}

type State = BTreeMap<String, String>;

impl Witness {
    fn draw(&mut self) -> (usize, Txn) {
        let id = self.sent.len();
        let mut txn = Txn::new().put("/id", id.to_string());
        for key in 0..6 {
            txn = match self.rng.below(4) {
                0 => txn.put(format!("/{key}"), format!("{id}").repeat(1 + self.rng.below(2000))),
                1 => txn.delete(format!("/{key}")),
                _ => txn,
            };
        }
        self.sent.push(txn.clone());
        (id, txn)
    }

    fn state(&self, revision: u64) -> State {
        let mut state = State::new();
        for id in &self.known[..usize::try_from(revision).unwrap()] {
            for op in self.sent[*id].ops() {
                match op {
                    Op::Put { key, value } => {
                        state.insert(key.to_string(), String::from_utf8(value.to_vec()).unwrap());
                    }
                    Op::Delete { key } => drop(state.remove(&**key)),
                }
            }
        }
        state
    }

    /// Groups of commits, until there are enough or the power goes. Says what is wrong, if anything.
    async fn work(&mut self, store: &RedbStore) -> Result<(), String> {
        for _ in 0..8 {
            let drawn: Vec<_> = (0..=self.rng.below(4)).map(|_| self.draw()).collect();
            let done = join_all(drawn.into_iter().map(async |(id, txn)| (id, store.commit(txn).await))).await;
            let mut acknowledged = Vec::new();
            let mut failed = false;
            for (id, outcome) in done {
                match outcome {
                    Ok(TxnOutcome::Committed(revision)) => acknowledged.push((revision.get(), id)),
                    Ok(refused @ TxnOutcome::Refused { .. }) => return Err(format!("{refused:?}")),
                    Err(_) => failed = true,
                }
            }
            acknowledged.sort_unstable();
            for (revision, id) in acknowledged {
                if revision != self.known.len() as u64 + 1 {
                    return Err(format!("revision {revision} follows {}", self.known.len()));
                }
                self.known.push(id);
            }
            if failed {
                return Ok(());
            }
            if self.rng.below(6) == 0 && !self.known.is_empty() {
                let before = self.rng.next() % (self.known.len() as u64 + 1);
                if store.compact(rev(before)).await.is_ok() {
                    self.oldest = self.oldest.max(before);
                } else {
                    // It may be found done after all.
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Compares all that can be read with what was acknowledged.
    async fn check(&mut self, store: &RedbStore) -> Result<(), String> {
        let text = |e: Error| format!("{e}: {e:?}");
        let revision = store.revision().await.map_err(text)?;
        if revision.get() < self.known.len() as u64 {
            return Err(format!("at {revision}, though {} was acknowledged", self.known.len()));
        }
        let oldest = match store.list(List::prefix("/").at(rev(0))).await {
            Ok(_) => 0,
            Err(Error::Compacted { oldest, .. }) => oldest.get(),
            Err(e) => return Err(text(e)),
        };
        if oldest < self.oldest {
            return Err(format!("history begins at {oldest}, though {} was forgotten", self.oldest));
        }
        self.oldest = oldest;
        let mut watch = store.watch("/", rev(oldest));
        for revision in oldest + 1..=revision.get() {
            let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
            let batch = next.map_err(|_| "no next batch".to_owned())?.map_err(text)?;
            if batch.revision.get() != revision {
                return Err(format!("{} where {revision} is due", batch.revision));
            }
            let id = batch.changes.iter().find(|c| &*c.key == "/id").and_then(|c| c.after.as_ref());
            let id = id.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse::<usize>().ok());
            let id = id.filter(|id| *id < self.sent.len()).ok_or("a transaction that nobody sent")?;
            let place = usize::try_from(revision).unwrap() - 1;
            match self.known.get(place) {
                Some(known) if *known != id => return Err(format!("{id} where {known} was acknowledged")),
                Some(_) => {}
                None if self.known.contains(&id) => return Err(format!("{id} is there twice")),
                None => self.known.push(id),
            }
        }
        for at in [oldest, revision.get()] {
            let listing = store.list(List::prefix("/").at(rev(at))).await.map_err(text)?;
            let found: State = (listing.entries.iter())
                .map(|e| (e.key.to_string(), String::from_utf8_lossy(&e.value).into_owned()))
                .collect();
            if found != self.state(at) {
                return Err(format!("at {at} is {found:?} instead of {:?}", self.state(at)));
            }
        }
        Ok(())
    }
}

/// Several boots of one machine, each ended by a power cut, some in the middle of an operation, some while the store is
/// being opened. Says what was lost, if anything.
async fn run(seed: u64, skip: Option<Site>) -> Result<SimDisk, String> {
    let mut sim = SimDisk::new(seed);
    skip.into_iter().for_each(|site| sim.skip_site(site));
    let mut witness = Witness { rng: Rng(seed), sent: Vec::new(), known: Vec::new(), oldest: 0 };
    for _ in 0..4 {
        if witness.rng.below(4) > 0 {
            let most = [6, 40, 120][witness.rng.below(3)];
            sim.cut_after(witness.rng.next() % most);
        }
        let opened = RedbStore::open(sim.disk(), "/store");
        if let Ok(store) = &opened {
            witness.work(store).await?;
        }
        // Only the power may stop it: a machine that still has it opened the store.
        if let (Err(e), true) = (&opened, sim.disk().stat("/").is_ok()) {
            return Err(format!("{e}: {e:?}"));
        }
        sim = sim.power_cut();
        drop(opened);
        let store = RedbStore::open(sim.disk(), "/store").map_err(|e| format!("{e}: {e:?}"))?;
        witness.check(&store).await?;
        if witness.rng.below(2) == 0 {
            sim = sim.power_cut();
        }
    }
    Ok(sim)
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    for seed in 0..100 {
        run(seed, None).await.unwrap_or_else(|lost| panic!("seed {seed}: {lost}"));
    }
}

#[tokio::test]
async fn every_sync_is_needed() {
    let sites = run(1, None).await.unwrap().sites();
    assert_eq!(sites.len(), 2, "{sites:?}");
    for site in sites {
        let mut seeds = 0..100;
        while run(seeds.next().unwrap_or_else(|| panic!("{site} could be left out")), Some(site)).await.is_ok() {}
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_recovers() {
    for seed in 0..20 {
        let sim = SimDisk::new(seed);
        let store = open(&sim);
        let mut witness = Witness { rng: Rng(seed), sent: Vec::new(), known: Vec::new(), oldest: 0 };
        witness.work(&store).await.unwrap();
        let first = store.revision().await.unwrap();
        let mut watch = store.watch("/", first);
        let room = witness.rng.next() % 200_000;
        sim.fail_with_full_after(room);
        let mut refused = 0;
        for n in 0..300 {
            match store.commit(Txn::new().put(format!("/fill/{n}"), vec![n as u8; 9000])).await {
                Ok(_) => {}
                Err(Error::Write { source } | Error::Open { source, .. }) => {
                    let error = source.downcast_ref::<io::Error>().map(io::Error::kind);
                    assert_eq!(error, Some(io::ErrorKind::StorageFull), "seed {seed}: {source:?}");
                    refused += 1;
                }
                Err(e) => panic!("{e:?}"),
            }
        }
        assert!(refused > 0, "seed {seed}: the disk never filled");
        // What is there can still be read.
        let filled = store.list(List::prefix("/fill/")).await.unwrap();
        assert_eq!(filled.entries.len(), 300 - refused, "seed {seed}");
        sim.make_room();
        let last = super::commit(&store, Txn::new().put("/after", "1")).await;
        assert_eq!(last, filled.revision.max(store.revision().await.unwrap()));
        for revision in first.get() + 1..=last.get() {
            assert_eq!(watch.next().await.unwrap().revision, rev(revision), "seed {seed}");
        }
        let sim = sim.power_cut();
        drop(store);
        let store = open(&sim);
        assert_eq!(store.list(List::prefix("/fill/")).await.unwrap().entries, filled.entries, "seed {seed}");
        assert!(store.get("/after").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_promised() {
    let sim = SimDisk::new(1);
    let store = open(&sim);
    super::commit(&store, Txn::new().put("/a", "1")).await;
    let mut watch = store.watch("/", rev(1));
    let told = store.sync_failed();
    assert!(store.sync_failed().now_or_never().is_none());
    sim.fail_next_sync();
    assert!(matches!(store.commit(Txn::new().put("/a", "2")).await, Err(Error::Sync { .. })));
    assert!(matches!(told.await, Error::Sync { .. }));
    assert!(matches!(store.commit(Txn::new().put("/a", "3")).await, Err(Error::Sync { .. })));
    assert!(matches!(store.get("/a").await, Err(Error::Sync { .. })));
    assert!(
        tokio::time::timeout(Duration::from_millis(10), watch.next()).await.is_err(),
        "an undurable change was seen"
    );
    let sim = sim.power_cut();
    drop(store);
    assert_eq!(&*open(&sim).get("/a").await.unwrap().unwrap().value, b"1");
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changed() {
    let sim = SimDisk::new(1);
    let store = open(&sim);
    super::commit(&store, Txn::new().put("/a", "1")).await;
    let before = sim.operations();
    assert!(store.commit(Txn::new().require_absent("/a").put("/b", "1")).await.unwrap().committed().is_none());
    super::commit(&store, Txn::new().delete("/missing")).await;
    super::commit(&store, Txn::new()).await;
    store.compact(rev(0)).await.unwrap();
    store.list(List::prefix("/")).await.unwrap();
    store.watch("/", rev(0)).next().await.unwrap();
    assert_eq!(sim.operations(), before);
}

#[tokio::test]
async fn events_are_saved_with_the_next_transaction_or_soon() {
    let sim = SimDisk::new(1);
    let store = open(&sim);
    store.events().append("/a", "one");
    super::commit(&store, Txn::new().put("/a", "1")).await;
    let sim = sim.power_cut();
    drop(store);
    let store = open(&sim);
    assert_eq!(store.events().list().len(), 1);
    let before = sim.operations();
    for n in 0..3000 {
        store.events().append("/b", n.to_string());
    }
    let saved = async {
        while sim.operations() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), saved).await.expect("nothing was saved");
    store.events().append("/c", "last");
    drop(store);
    let store = open(&sim.power_cut());
    let events = store.events().list();
    assert_eq!((events.len(), &*events[0].value, &*events[1999].value), (2000, &b"1001"[..], &b"last"[..]));
    assert_eq!(events[1999].sequence, 3002);
}
