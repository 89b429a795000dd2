//! What every backend must do, one behaviour per test.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use skiff_scheduler::store::{Batch, Error, KEY_BYTES_MAX, List, Store, TXN_BYTES_MAX, Txn, TxnOutcome};

use super::{commit, list, rev};

macro_rules! for_every_backend {
    ($($test:ident),* $(,)?) => {
        mod memory { $(#[tokio::test] async fn $test() { super::$test(super::super::memory()).await; })* }
        mod redb { $(#[tokio::test] async fn $test() { super::$test(super::super::redb()).await; })* }
    };
}

for_every_backend!(
    a_transaction_takes_one_revision_if_it_changes_something,
    compares_decide_over_all_keys,
    created_stays_until_the_key_is_deleted,
    lists_a_prefix_in_pages,
    lists_at_a_revision,
    lists_keys_with_many_versions,
    watches_whole_transactions_of_a_prefix,
    a_watch_before_history_or_beyond_the_tip_says_so,
    a_watcher_that_falls_behind_misses_nothing,
    a_watch_survives_a_dropped_wait,
    a_watch_ends_with_the_store,
    what_is_too_large_changes_nothing,
    concurrent_writers_lose_no_update,
    history_is_compacted_by_itself,
);

fn changes(batch: &Batch) -> Vec<String> {
    let value = |entry: &Option<skiff_scheduler::store::Entry>| {
        entry.as_ref().map_or("-".to_owned(), |e| String::from_utf8_lossy(&e.value).into_owned())
    };
    batch.changes.iter().map(|c| format!("{} {}>{}", c.key, value(&c.before), value(&c.after))).collect()
}

async fn a_transaction_takes_one_revision_if_it_changes_something(store: Arc<dyn Store>) {
    let store = &*store;
    assert_eq!(commit(store, Txn::new()).await, rev(0));
    assert_eq!(commit(store, Txn::new().put("/a", "1").put("/b", "1")).await, rev(1));
    assert_eq!(commit(store, Txn::new().put("/a", "1")).await, rev(2), "the same value is a change");
    assert_eq!(commit(store, Txn::new().delete("/missing")).await, rev(2));
    assert_eq!(commit(store, Txn::new().require_present("/a")).await, rev(2));
    assert!(store.commit(Txn::new().require_absent("/a").put("/c", "1")).await.unwrap().committed().is_none());
    assert_eq!(commit(store, Txn::new().delete("/missing").delete("/a")).await, rev(3));
    assert_eq!(store.revision().await.unwrap(), rev(3));
    assert_eq!(list(store, List::prefix("/")).await, ["/b=1"]);
}

async fn compares_decide_over_all_keys(store: Arc<dyn Store>) {
    let store = &*store;
    commit(store, Txn::new().put("/a", "1").put("/b", "1")).await;
    commit(store, Txn::new().put("/a", "2")).await;
    let good = || {
        Txn::new()
            .require_revision("/a", rev(2))
            .require_created("/a", rev(1))
            .require_present("/b")
            .require_absent("/c")
            .put("/c", "1")
    };
    for bad in [
        good().require_revision("/b", rev(2)),
        good().require_revision("/missing", rev(0)),
        good().require_created("/b", rev(2)),
        good().require_created("/missing", rev(0)),
        good().require_present("/missing"),
        good().require_absent("/b"),
    ] {
        let last = bad.compares().last().cloned();
        let TxnOutcome::Refused { compare, found } = store.commit(bad.clone()).await.unwrap() else {
            panic!("committed: {bad:?}")
        };
        assert_eq!(Some(&compare), last.as_ref());
        assert_eq!(found, store.get(compare.key()).await.unwrap());
    }
    assert_eq!(list(store, List::prefix("/")).await, ["/a=2", "/b=1"]);
    assert_eq!(commit(store, good()).await, rev(3));
}

async fn created_stays_until_the_key_is_deleted(store: Arc<dyn Store>) {
    let store = &*store;
    let created_modified = async || {
        let entry = store.get("/a").await.unwrap();
        entry.map(|entry| (entry.created.get(), entry.modified.get()))
    };
    assert_eq!(created_modified().await, None);
    commit(store, Txn::new().put("/a", "1")).await;
    commit(store, Txn::new().put("/a", "2")).await;
    assert_eq!(created_modified().await, Some((1, 2)));
    commit(store, Txn::new().delete("/a")).await;
    assert_eq!(created_modified().await, None);
    commit(store, Txn::new().put("/a", "3")).await;
    assert_eq!(created_modified().await, Some((4, 4)));
}

async fn lists_a_prefix_in_pages(store: Arc<dyn Store>) {
    let store = &*store;
    let keys = ["/a", "/a/", "/a/1", "/a/2", "/a/2/x", "/a/ü", "/ab", "/b"];
    commit(store, keys.iter().fold(Txn::new(), |txn, key| txn.put(*key, "v"))).await;
    commit(store, Txn::new().put("/a/2", "w")).await;
    assert_eq!(list(store, List::prefix("/a/")).await, ["/a/=v", "/a/1=v", "/a/2=w", "/a/2/x=v", "/a/ü=v"]);
    assert_eq!(list(store, List::prefix("")).await.len(), keys.len());
    assert!(list(store, List::prefix("/c")).await.is_empty());

    let page = |after: &str, limit| store.list(List::prefix("/a/").after(after).limit(limit));
    let first = store.list(List::prefix("/a/").limit(2)).await.unwrap();
    assert_eq!((super::pairs(&first), first.more), (vec!["/a/=v".to_owned(), "/a/1=v".to_owned()], true));
    let second = page("/a/1", 2).await.unwrap();
    assert_eq!((super::pairs(&second), second.more), (vec!["/a/2=w".to_owned(), "/a/2/x=v".to_owned()], true));
    let last = page("/a/2/x", 2).await.unwrap();
    assert_eq!((super::pairs(&last), last.more), (vec!["/a/ü=v".to_owned()], false));
    let exact = page("/a/2", 2).await.unwrap();
    assert_eq!((exact.entries.len(), exact.more, exact.revision), (2, false, rev(2)));
    let nothing = page("/a/", 0).await.unwrap();
    assert_eq!((nothing.entries.len(), nothing.more), (0, true));
    assert_eq!(page("/", 9).await.unwrap().entries.len(), 5, "a key before the prefix cuts nothing off");
    assert!(page("/b", 9).await.unwrap().entries.is_empty());
}

async fn lists_at_a_revision(store: Arc<dyn Store>) {
    let store = &*store;
    commit(store, Txn::new().put("/a", "1").put("/b", "1")).await;
    commit(store, Txn::new().put("/a", "2")).await;
    commit(store, Txn::new().delete("/a").put("/c", "3")).await;
    commit(store, Txn::new().put("/a", "4").delete("/b")).await;
    let at = |revision| list(store, List::prefix("/").at(rev(revision)));
    let expected: [&[&str]; 5] = [&[], &["/a=1", "/b=1"], &["/a=2", "/b=1"], &["/b=1", "/c=3"], &["/a=4", "/c=3"]];
    for (revision, expected) in (0..).zip(expected) {
        assert_eq!(at(revision).await, expected, "at {revision}");
    }
    let beyond = store.list(List::prefix("/").at(rev(5))).await;
    assert!(matches!(beyond, Err(Error::Future { wanted, current }) if (wanted, current) == (rev(5), rev(4))));
    assert!(matches!(store.compact(rev(5)).await, Err(Error::Future { .. })));

    store.compact(rev(3)).await.unwrap();
    store.compact(rev(2)).await.unwrap();
    for revision in [3, 4] {
        assert_eq!(at(revision).await, expected[usize::try_from(revision).unwrap()], "at {revision}");
    }
    let gone = store.list(List::prefix("/").at(rev(2))).await;
    assert!(matches!(gone, Err(Error::Compacted { wanted, oldest }) if (wanted, oldest) == (rev(2), rev(3))));
    store.compact(rev(4)).await.unwrap();
    assert_eq!(at(4).await, expected[4]);
}

async fn lists_keys_with_many_versions(store: Arc<dyn Store>) {
    let store = &*store;
    for n in 1..=60 {
        commit(store, Txn::new().put("/a", n.to_string()).put("/b", "1")).await;
        let txn = if n % 2 == 0 { Txn::new().put("/c", n.to_string()) } else { Txn::new().delete("/c").put("/d", "1") };
        commit(store, txn).await;
    }
    for at in 1..=120u64 {
        let (a, half) = (at.div_ceil(2), at / 2);
        let mut expected = vec![format!("/a={a}"), "/b=1".to_owned()];
        expected.extend((half > 0 && half.is_multiple_of(2)).then(|| format!("/c={half}")));
        expected.extend((half > 0).then(|| "/d=1".to_owned()));
        assert_eq!(list(store, List::prefix("/").at(rev(at))).await, expected, "at {at}");
        assert_eq!(list(store, List::prefix("/").at(rev(at)).after("/a").limit(1)).await, ["/b=1"]);
    }
}

async fn watches_whole_transactions_of_a_prefix(store: Arc<dyn Store>) {
    let store = &*store;
    commit(store, Txn::new().put("/a/1", "1").put("/b/1", "1")).await;
    commit(store, Txn::new().put("/b/1", "2")).await;
    let mut all = store.watch("/", rev(0));
    let mut some = store.watch("/a/", rev(1));
    commit(store, Txn::new().put("/a/2", "3").put("/b/2", "3").delete("/a/1")).await;
    let seen = all.next().await.unwrap();
    assert_eq!((seen.revision, changes(&seen)), (rev(1), vec!["/a/1 ->1".into(), "/b/1 ->1".into()]));
    let seen = all.next().await.unwrap();
    assert_eq!((seen.revision, changes(&seen)), (rev(2), vec!["/b/1 1>2".into()]));
    let seen = all.next().await.unwrap();
    assert_eq!(changes(&seen), ["/a/2 ->3", "/b/2 ->3", "/a/1 1>-"]);
    let seen = some.next().await.unwrap();
    assert_eq!((seen.revision, changes(&seen)), (rev(3), vec!["/a/2 ->3".into(), "/a/1 1>-".into()]));
    assert_eq!(some.position(), rev(3));
    let entry = seen.changes[0].after.clone().unwrap();
    assert_eq!(store.get("/a/2").await.unwrap(), Some(entry));
}

async fn a_watch_before_history_or_beyond_the_tip_says_so(store: Arc<dyn Store>) {
    for n in 1..=1200 {
        commit(&*store, Txn::new().put("/a", n.to_string())).await;
    }
    store.compact(rev(10)).await.unwrap();
    let early = store.watch("/", rev(9)).next().await;
    assert!(matches!(early, Err(Error::Compacted { wanted, oldest }) if (wanted, oldest) == (rev(9), rev(10))));
    assert_eq!(store.watch("/", rev(10)).next().await.unwrap().revision, rev(11));
    let late = store.watch("/", rev(1201)).next().await;
    assert!(matches!(late, Err(Error::Future { wanted, current }) if (wanted, current) == (rev(1201), rev(1200))));
}

async fn a_watcher_that_falls_behind_misses_nothing(store: Arc<dyn Store>) {
    let mut watch = store.watch("/", rev(0));
    let large = vec![7; TXN_BYTES_MAX / 2];
    let put =
        |n: u64| Txn::new().put("/a", if n.is_multiple_of(250) { large.clone() } else { n.to_string().into_bytes() });
    // More than is kept in memory for watchers, in number and in bytes; and some that come while it catches up.
    join_all((1..=2500).map(|n| commit(&*store, put(n)))).await;
    for n in 1..=2500 {
        if n == 1000 {
            join_all((2501..=2600).map(|n| commit(&*store, put(n)))).await;
        }
        let batch = watch.next().await.unwrap();
        assert_eq!((batch.revision, batch.changes.len()), (rev(n), 1));
    }
    for n in 2501..=2600 {
        assert_eq!(watch.next().await.unwrap().revision, rev(n));
    }
}

async fn a_watch_survives_a_dropped_wait(store: Arc<dyn Store>) {
    let mut watch = store.watch("/a", rev(0));
    for n in 1..=50 {
        // Dropped while it waits, for one that is of no interest moved it on.
        let waiting = tokio::time::timeout(Duration::from_millis(1), watch.next()).await;
        assert!(waiting.is_err());
        commit(&*store, Txn::new().put("/b", "1")).await;
        commit(&*store, Txn::new().put("/a", "1")).await;
        assert_eq!(watch.next().await.unwrap().revision, rev(2 * n));
    }
}

async fn a_watch_ends_with_the_store(store: Arc<dyn Store>) {
    commit(&*store, Txn::new().put("/a", "1")).await;
    let mut idle = store.watch("/", rev(1));
    let waiting = tokio::spawn(async move { idle.next().await });
    let mut behind = store.watch("/", rev(0));
    drop(store);
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)));
    assert!(matches!(behind.next().await, Err(Error::Closed)));
}

async fn what_is_too_large_changes_nothing(store: Arc<dyn Store>) {
    let many = (0..=128).fold(Txn::new(), |txn, n| txn.put(format!("/{n}"), "v"));
    assert!(matches!(store.commit(many).await, Err(Error::TooManyOperations { count: 129 })));
    let large = Txn::new().put("/a", vec![0; TXN_BYTES_MAX]);
    assert!(matches!(store.commit(large).await, Err(Error::TooLarge { .. })));
    let twice = Txn::new().put("/a", "1").put("/a", "2");
    assert!(matches!(store.commit(twice).await, Err(Error::DuplicateKey { .. })));
    let long = Txn::new().put("k".repeat(KEY_BYTES_MAX + 1), "1");
    assert!(matches!(store.commit(long).await, Err(Error::BadKey { .. })));
    assert_eq!(store.revision().await.unwrap(), rev(0));
    let full = (0..127).fold(Txn::new(), |txn, n| txn.put(format!("/{n:03}"), ""));
    let room = TXN_BYTES_MAX - full.bytes() - "/large".len();
    commit(&*store, full.put("/large", vec![7; room])).await;
    assert_eq!(store.get("/large").await.unwrap().unwrap().value.len(), room);
}

async fn concurrent_writers_lose_no_update(store: Arc<dyn Store>) {
    commit(&*store, Txn::new().put("/n", "0")).await;
    let add = async || loop {
        let entry = store.get("/n").await.unwrap().unwrap();
        let n: u32 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
        let txn = Txn::new().require_revision("/n", entry.modified).put("/n", (n + 1).to_string());
        if store.commit(txn).await.unwrap().committed().is_some() {
            return;
        }
    };
    join_all((0..8).map(|_| async {
        for _ in 0..20 {
            add().await
        }
    }))
    .await;
    assert_eq!(list(&*store, List::prefix("/")).await, ["/n=160"]);
    assert_eq!(store.revision().await.unwrap(), rev(161));
}

async fn history_is_compacted_by_itself(store: Arc<dyn Store>) {
    commit(&*store, Txn::new().put("/kept", "1").put("/deleted", "1")).await;
    commit(&*store, Txn::new().delete("/deleted")).await;
    join_all((3..=10_600).map(|n| commit(&*store, Txn::new().put(format!("/{}", n % 7), n.to_string())))).await;
    let Err(Error::Compacted { oldest, .. }) = store.list(List::prefix("/").at(rev(0))).await else {
        panic!("nothing was compacted")
    };
    assert!((rev(500)..=rev(600)).contains(&oldest), "{oldest}");
    assert_eq!(list(&*store, List::prefix("/kept").at(oldest)).await, ["/kept=1"]);
    assert_eq!(store.list(List::prefix("/").at(oldest)).await.unwrap().entries.len(), 8);
    assert_eq!(store.watch("/", oldest).next().await.unwrap().revision.get(), oldest.get() + 1);
}
