//! Files that are not what they should be: a clear error, or the truth, and never a panic.

use skiff_disk::sim::SimDisk;
use skiff_disk::{Disk, Mode};
use skiff_scheduler::store::{Error, List, RedbStore, Store, Txn};

use super::{Rng, commit, open};

/// A store with some history, closed or as a killed process leaves it.
async fn written(closed: bool) -> Vec<u8> {
    let sim = SimDisk::new(0);
    let store = open(&sim);
    for n in 0..60 {
        commit(&store, Txn::new().put(format!("/a/{}", n % 9), vec![n; 700]).put(format!("/b/{}", n % 7), "b")).await;
        commit(&store, Txn::new().delete(format!("/b/{}", n % 5))).await;
    }
    let _running = if closed {
        drop(store);
        None
    } else {
        Some(store)
    };
    sim.disk().read("/store", u64::MAX).unwrap()
}

fn disk(data: &[u8]) -> Disk {
    let disk = SimDisk::new(0).disk();
    disk.open("/store", Mode::Create).unwrap().write_at(data, 0).unwrap();
    disk
}

#[tokio::test]
async fn altered_files_are_refused_or_do_no_harm() {
    for closed in [true, false] {
        alter(written(closed).await).await;
    }
}

async fn alter(good: Vec<u8>) {
    let store = RedbStore::open(disk(&good), "/store").unwrap();
    let mut refused = 0;
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let mut data = good.clone();
        match rng.below(4) {
            0 => data.truncate(rng.below(good.len())),
            1 => {
                let at = rng.below(512);
                data[at] ^= 1 << rng.below(8);
            }
            2 => {
                let at = rng.below(good.len() / 4096) * 4096;
                data[at..at + 4096].fill(rng.next() as u8);
            }
            _ => {
                for _ in 0..20 {
                    let at = rng.below(good.len().min(200_000));
                    data[at] ^= 1 << rng.below(8);
                }
            }
        }
        match RedbStore::open(disk(&data), "/store") {
            Ok(altered) => {
                let found = altered.list(List::prefix("/")).await.unwrap();
                let truth = store.list(List::prefix("/").at(found.revision)).await.unwrap();
                assert_eq!(found, truth, "seed {seed}");
                // One bit of the header says which of two commits is the last; no checksum covers it.
                let last = store.revision().await.unwrap().get();
                assert!(found.revision.get() + 1 >= last, "seed {seed}");
            }
            Err(Error::Corrupt { .. } | Error::Open { .. }) => refused += 1,
            Err(e) => panic!("seed {seed}: {e}"),
        }
    }
    assert!(refused > 50, "{refused}");
}

#[tokio::test]
async fn foreign_files_are_refused_by_name() {
    for data in [&b"hello"[..], &[0; 100_000], &[0xff; 10], b""] {
        let e = RedbStore::open(disk(data), "/store").err().unwrap();
        assert!(matches!(e, Error::Corrupt { .. }), "{e:?}");
        assert!(e.to_string().contains("/store"), "{e}");
    }
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(RedbStore::open(Disk::real(), &path).unwrap());
    let db = redb::Database::open(&path).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 2).unwrap();
    write.commit().unwrap();
    drop(db);
    let e = RedbStore::open(Disk::real(), &path).err().unwrap();
    assert!(matches!(e, Error::NewerFormat { found: 2, known: 1, .. }), "{e:?}");
}

#[tokio::test]
async fn works_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = RedbStore::open(Disk::real(), &path).unwrap();
    commit(&store, Txn::new().put("/a", "1")).await;
    drop(store);
    let store = RedbStore::open(Disk::real(), &path).unwrap();
    assert_eq!(super::list(&store, List::prefix("/")).await, ["/a=1"]);
    let missing = RedbStore::open(Disk::real(), folder.path().join("missing/store")).err().unwrap();
    assert!(matches!(missing, Error::Open { .. }), "{missing:?}");
}
