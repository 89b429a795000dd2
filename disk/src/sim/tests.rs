use std::collections::BTreeSet;
use std::io;

use super::*;
use crate::{File, Mode, write_atomic};

fn put(disk: &Disk, path: &str, data: &[u8]) -> io::Result<File> {
    let file = disk.open(path, Mode::Create)?;
    file.set_bytes(0)?;
    file.write_at(data, 0)?;
    Ok(file)
}

/// What a path holds after a power cut, over many seeds; `None` where it is missing.
fn outcomes(path: &str, run: impl Fn(&Disk) -> io::Result<()>) -> BTreeSet<Option<Vec<u8>>> {
    let outcome = |seed| {
        let sim = SimDisk::new(seed);
        run(&sim.disk()).unwrap();
        sim.power_cut().disk().read(path, u64::MAX).ok()
    };
    (0..200).map(outcome).collect()
}

fn exactly<const N: usize>(expected: [Option<&[u8]>; N]) -> BTreeSet<Option<Vec<u8>>> {
    expected.into_iter().map(|data| data.map(<[u8]>::to_vec)).collect()
}

#[test]
fn a_file_survives_if_its_data_and_its_name_were_synced() {
    let both = outcomes("/f", |disk| {
        put(disk, "/f", b"data")?.sync()?;
        disk.sync_dir("/")
    });
    assert_eq!(both, exactly([Some(b"data")]));
    let only_data = outcomes("/f", |disk| put(disk, "/f", b"data")?.sync());
    assert_eq!(only_data, exactly([Some(b"data"), None]));
    let only_name = outcomes("/f", |disk| {
        put(disk, "/f", b"data")?;
        disk.sync_dir("/")
    });
    assert_eq!(only_name, exactly([Some(b"data"), Some(b""), Some(b"\0\0\0\0")]));
}

#[test]
fn unsynced_writes_are_torn_at_sectors() {
    let outcomes = outcomes("/f", |disk| {
        let file = put(disk, "/f", &[b'a'; 1536])?;
        file.sync()?;
        disk.sync_dir("/")?;
        file.write_at(&[b'b'; 1024], 256)
    });
    // The write covers half of the first sector, all of the second and half of the third.
    let torn = |kept: [bool; 3]| {
        let mut data = vec![b'a'; 1536];
        for (kept, range) in kept.into_iter().zip([256..512, 512..1024, 1024..1280]) {
            if kept {
                data[range].fill(b'b');
            }
        }
        Some(data)
    };
    let all = (0..8).map(|bits| torn([bits & 1 != 0, bits & 2 != 0, bits & 4 != 0])).collect();
    assert_eq!(outcomes, all);
}

#[test]
fn names_change_in_any_order_until_synced() {
    let renamed = |path| {
        outcomes(path, |disk| {
            put(disk, "/old", b"old")?.sync()?;
            put(disk, "/new", b"new")?.sync()?;
            disk.sync_dir("/")?;
            disk.rename("/new", "/old")?;
            put(disk, "/later", b"later")?.sync()
        })
    };
    assert_eq!(renamed("/old"), exactly([Some(b"old"), Some(b"new")]));
    assert_eq!(renamed("/new"), exactly([Some(b"new"), None]));
    assert_eq!(renamed("/later"), exactly([Some(b"later"), None]));
    let removed = outcomes("/f", |disk| {
        put(disk, "/f", b"data")?.sync()?;
        disk.sync_dir("/")?;
        disk.remove_file("/f")
    });
    assert_eq!(removed, exactly([Some(b"data"), None]));
    // The rename may have happened and the creation after it not, and the other way round.
    let mut pairs = BTreeSet::new();
    for seed in 0..200 {
        let sim = SimDisk::new(seed);
        let disk = sim.disk();
        put(&disk, "/a", b"").unwrap();
        disk.sync_dir("/").unwrap();
        disk.rename("/a", "/b").unwrap();
        put(&disk, "/c", b"").unwrap();
        let disk = sim.power_cut().disk();
        assert_ne!(disk.exists("/a"), disk.exists("/b"), "a rename is atomic");
        pairs.insert((disk.exists("/b"), disk.exists("/c")));
    }
    assert_eq!(pairs.len(), 4);
}

#[test]
fn a_rename_between_directories_needs_the_one_it_leads_to() {
    let moved = |synced: &'static str, path| {
        outcomes(path, move |disk| {
            disk.create_dir_all("/from")?;
            disk.create_dir_all("/to")?;
            put(disk, "/from/f", b"data")?.sync()?;
            disk.sync_dir("/from")?;
            disk.rename("/from/f", "/to/f")?;
            disk.sync_dir(synced)
        })
    };
    assert_eq!(moved("/to", "/to/f"), exactly([Some(b"data")]));
    assert_eq!(moved("/to", "/from/f"), exactly([Some(b"data"), None]));
    assert_eq!(moved("/from", "/to/f"), exactly([Some(b"data"), None]));
}

#[test]
fn a_directory_needs_its_own_name_too() {
    let deep = |made: fn(&Disk) -> io::Result<()>| {
        outcomes("/a/b/f", move |disk| {
            made(disk)?;
            put(disk, "/a/b/f", b"data")?.sync()?;
            disk.sync_dir("/a/b")
        })
    };
    assert_eq!(deep(|disk| disk.create_dir_all("/a/b")), exactly([Some(b"data")]));
    let unsynced = deep(|disk| {
        disk.create_dir("/a")?;
        disk.create_dir("/a/b")
    });
    assert_eq!(unsynced, exactly([Some(b"data"), None]));
}

#[test]
fn every_sync_of_an_atomic_write_is_needed() {
    let found = |skip: Option<Site>| -> BTreeSet<Option<Vec<u8>>> {
        let one = |seed| {
            let sim = SimDisk::new(seed);
            write_atomic(&sim.disk(), "/f".as_ref(), b"old").unwrap();
            skip.into_iter().for_each(|site| sim.skip_site(site));
            write_atomic(&sim.disk(), "/f".as_ref(), b"new").unwrap();
            sim.power_cut().disk().read("/f", 100).ok()
        };
        (0..100).map(one).collect()
    };
    assert_eq!(found(None), exactly([Some(b"new")]));
    let sim = SimDisk::new(0);
    write_atomic(&sim.disk(), "/f".as_ref(), b"old").unwrap();
    assert_eq!(sim.sites().len(), 2);
    for site in sim.sites() {
        assert_ne!(found(Some(site)), exactly([Some(b"new")]), "{site} could be left out");
    }
}

#[test]
fn an_atomic_write_cut_anywhere_leaves_the_old_or_the_new() {
    let count = {
        let sim = SimDisk::new(0);
        write_atomic(&sim.disk(), "/f".as_ref(), b"old").unwrap();
        sim.operations()
    };
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        for cut in 0..count {
            let sim = SimDisk::new(seed);
            let disk = sim.disk();
            write_atomic(&disk, "/f".as_ref(), b"old").unwrap();
            sim.cut_after(cut);
            assert!(write_atomic(&disk, "/f".as_ref(), b"new").is_err(), "operation {cut} of {count} is not cut");
            assert!(disk.read("/f", 100).is_err(), "the machine still runs");
            seen.insert(sim.power_cut().disk().read("/f", 100).ok());
        }
    }
    assert_eq!(seen, exactly([Some(b"old"), Some(b"new")]));
}

#[test]
fn the_same_seed_keeps_the_same() {
    let run = |seed| {
        let sim = SimDisk::new(seed);
        put(&sim.disk(), "/f", &[7; 100_000]).unwrap();
        sim.disk().sync_dir("/").unwrap();
        let sim = sim.power_cut();
        let file = sim.disk().open("/f", Mode::Write).unwrap();
        file.write_at(&[9; 100_000], 0).unwrap();
        sim.power_cut().disk().read("/f", u64::MAX).unwrap()
    };
    let mut different = BTreeSet::new();
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
        different.insert(run(seed));
    }
    assert!(different.len() > 5);
}

#[test]
fn old_handles_fail_after_a_power_cut() {
    let sim = SimDisk::new(1);
    let disk = sim.disk();
    let file = put(&disk, "/f", b"data").unwrap();
    let next = sim.power_cut();
    assert!(file.read_at(&mut [0], 0).is_err() && file.write_at(b"x", 0).is_err() && file.sync().is_err());
    assert!(file.bytes().is_err() && file.set_bytes(0).is_err());
    assert!(disk.open("/g", Mode::Create).is_err() && disk.read_dir("/").is_err() && disk.sync_dir("/").is_err());
    put(&next.disk(), "/g", b"data").unwrap();
}

#[test]
fn a_kill_loses_nothing_and_makes_nothing_durable() {
    let mut found = BTreeSet::new();
    for seed in 0..50 {
        let sim = SimDisk::new(seed);
        let disk = sim.disk();
        let old = put(&disk, "/f", b"data").unwrap();
        let next = sim.kill();
        assert!(old.write_at(b"late", 0).is_err() && disk.stat("/f").is_err());
        assert_eq!(next.disk().read("/f", 100).unwrap(), b"data");
        found.insert(next.power_cut().disk().exists("/f"));
    }
    assert_eq!(found.len(), 2);
}

#[test]
fn a_full_disk_refuses_what_grows_and_recovers() {
    let sim = SimDisk::new(1);
    let disk = sim.disk();
    let file = put(&disk, "/f", &[1; 4096]).unwrap();
    sim.fail_with_full_after(4096);
    file.write_at(&[2; 4096], 2048).unwrap();
    file.set_bytes(1 << 20).unwrap();
    let full = file.write_at(&[3; 1], 8192).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.write_at(&[4; 6144], 0).unwrap();
    put(&disk, "/g", b"").unwrap().write_at(b"g", 0).unwrap_err();
    file.set_bytes(4096).unwrap();
    put(&disk, "/g", b"g").unwrap();
    put(&disk, "/h", b"").unwrap().write_at(b"h", 0).unwrap_err();
    disk.remove_file("/g").unwrap();
    put(&disk, "/h", b"h").unwrap();
    file.write_at(b"x", 1 << 20).unwrap_err();
    sim.make_room();
    file.write_at(b"x", 1 << 20).unwrap();
}

#[test]
fn a_failed_sync_loses_what_it_should_have_kept() {
    for seed in 0..20 {
        let sim = SimDisk::new(seed);
        let file = put(&sim.disk(), "/f", b"old").unwrap();
        file.sync().unwrap();
        sim.disk().sync_dir("/").unwrap();
        file.write_at(b"new", 0).unwrap();
        sim.fail_next_sync();
        file.sync().unwrap_err();
        assert_eq!(sim.disk().read("/f", 100).unwrap(), b"new");
        file.sync().unwrap();
        assert_eq!(sim.power_cut().disk().read("/f", 100).unwrap(), b"old");
    }
}

/// The same calls on the operating system's disk give the same answers.
#[test]
fn behaves_like_the_real_one_while_the_power_is_on() {
    fn script(disk: &Disk, root: &std::path::Path) -> Vec<String> {
        let mut log = Vec::new();
        let mut note = |what: &str, result: io::Result<String>| {
            log.push(format!("{what}: {:?}", result.map_err(|e| e.kind())));
        };
        let unit = |()| String::new();
        note("dir", disk.create_dir(root.join("d")).map(unit));
        note("dir again", disk.create_dir(root.join("d")).map(unit));
        note("dir without parent", disk.create_dir(root.join("x/y")).map(unit));
        note("missing", disk.open(root.join("f"), Mode::Read).map(|_| String::new()));
        note("missing for writing", disk.open(root.join("f"), Mode::Write).map(|_| String::new()));
        note("new", disk.open(root.join("f"), Mode::CreateNew).map(|_| String::new()));
        note("new again", disk.open(root.join("f"), Mode::CreateNew).map(|_| String::new()));
        note("below a file", disk.open(root.join("f/g"), Mode::Create).map(|_| String::new()));
        let file = disk.open(root.join("f"), Mode::Create).unwrap();
        note("write", file.write_at(b"hello", 3).map(unit));
        note("read", disk.read(root.join("f"), 100).map(|data| format!("{data:?}")));
        note("read past the end", file.read_at(&mut [0; 4], 100).map(|n| n.to_string()));
        note("shrink", file.set_bytes(4).map(unit));
        note("grow", file.set_bytes(6).map(unit));
        note("read", disk.read(root.join("f"), 100).map(|data| format!("{data:?}")));
        note("read too much", disk.read(root.join("f"), 5).map(|data| format!("{data:?}")));
        note("rename onto a directory", disk.rename(root.join("f"), root.join("d")).map(unit));
        note("rename a directory onto a file", disk.rename(root.join("d"), root.join("f")).map(unit));
        note("rename into itself", disk.rename(root.join("d"), root.join("d/e")).map(unit));
        note("rename", disk.rename(root.join("f"), root.join("d/g")).map(unit));
        note("rename again", disk.rename(root.join("f"), root.join("d/g")).map(unit));
        note("remove full", disk.remove_dir(root.join("d")).map(unit));
        note("remove a directory as a file", disk.remove_dir(root.join("d/g")).map(unit));
        note("list", disk.read_dir(root).map(|entries| format!("{entries:?}")));
        note("list", disk.read_dir(root.join("d")).map(|entries| format!("{entries:?}")));
        note("stat", disk.stat(root.join("d/g")).map(|stat| format!("{stat:?}")));
        note("read through a removed name", {
            disk.remove_file(root.join("d/g")).unwrap();
            file.bytes().map(|bytes| bytes.to_string())
        });
        note("remove again", disk.remove_file(root.join("d/g")).map(unit));
        note("remove", disk.remove_dir(root.join("d")).map(unit));
        note("write to a reader", {
            disk.open(root.join("r"), Mode::Create).unwrap();
            disk.open(root.join("r"), Mode::Read)
                .unwrap()
                .write_at(b"x", 0)
                .map(unit)
                .map_err(|_| io::ErrorKind::Other.into())
        });
        log
    }
    let temp = tempfile::tempdir().unwrap();
    let real = script(&Disk::real(), temp.path());
    let sim = SimDisk::new(0).disk();
    sim.create_dir_all(temp.path()).unwrap();
    assert_eq!(script(&sim, temp.path()), real);
}
