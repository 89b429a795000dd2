//! Ports, folders, files and disks that are not as `skiff up` needs them.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use skiff_tests::cluster::finish;
use skiff_tests::{Cluster, Run, eventually, guest};

use super::super::golden::Golden;
use super::{HELLO_HOST, serve_hello, serving, still_serves};

/// A second `skiff up`, with a context of its own: the cluster's must stay.
fn up(cluster: &Cluster, args: &[&str]) -> Run {
    let args = [&["up"], args].concat();
    let mut command = cluster.command(&args);
    command.env("SKIFF_CONFIG", cluster.path("second.json")).env("SKIFF_LOG", "off");
    for (option, value) in [("--listen", "127.0.0.1:0"), ("--gateway", "127.0.0.1:0")] {
        if !args.contains(&option) {
            command.args([option, value]);
        }
    }
    finish(command, &args, b"")
}

#[test]
fn bad_surroundings() {
    let cluster = serving();
    let mut golden = Golden::new("environment", &cluster);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|addr| (taken, addr.to_string())).unwrap();
    golden.varies(taken.1.clone(), "<taken>");
    cluster.write("file", "not a folder");
    cluster.write("bad-token/token", "short");
    cluster.write("bad-store/store.redb", "this is no store".repeat(1000));
    cluster.write("foreign/letters/first", "dear Ada");
    let mut cases = 0;
    for (name, args) in [
        ("the API's port is in use", &["--data", "a", "--listen", &taken.1][..]),
        ("the gateway's port is in use", &["--data", "b", "--gateway", &taken.1]),
        ("two on one data folder", &["--data", "data"]),
        ("the data folder is a file", &["--data", "file"]),
        ("the data folder is in a file", &["--data", "file/data"]),
        ("the data folder has other things in it", &["--data", "foreign"]),
        ("the token is damaged", &["--data", "bad-token"]),
        ("the store is damaged", &["--data", "bad-store"]),
        ("an address of another machine", &["--data", "c", "--listen", "192.0.2.1:7070"]),
    ] {
        golden.run(name, "", &up(&cluster, args));
        still_serves(name, &cluster);
        cases += 1;
    }
    assert_eq!(fs::read_to_string(cluster.path("file")).unwrap(), "not a folder");

    for (name, context) in [
        ("a context that is damaged", Some("{\"server\": ")),
        ("a context of another kind", Some("{\"server\": 3}")),
        ("no context", None),
        ("a context whose server is gone", Some("{\"server\": \"http://127.0.0.1:1\", \"token\": \"x\"}")),
    ] {
        let context = context.map(|text| cluster.write(&format!("{cases}.json"), text));
        let args = ["get", "services"];
        let mut command = cluster.command(&args);
        command.env("SKIFF_CONFIG", context.unwrap_or_else(|| "none.json".to_owned()));
        golden.run(name, "", &finish(command, &args, b""));
        still_serves(name, &cluster);
        cases += 1;
    }
    let args = ["get", "services"];
    let mut homeless = cluster.command(&args);
    homeless.env_remove("SKIFF_CONFIG").env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    golden.run("no home", "", &finish(homeless, &args, b""));
    still_serves("no home", &cluster);
    golden.check(cases + 1);
}

#[test]
fn a_folder_that_nobody_may_write_is_named() {
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root may write everywhere");
        return;
    }
    let cluster = serving();
    let run = up(&cluster, &["--data", "/proc/skiff"]);
    assert!(run.stderr.contains("/proc/skiff"), "{run}");
    still_serves("a folder that nobody may write", &cluster);
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn mount(folder: &Path, bytes: u64) -> Option<SmallDisk<'_>> {
        fs::create_dir_all(folder).unwrap();
        let options = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "skiff-test"]).arg(folder).status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: what still has files open there is about to end.
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("disk");
    let Some(_disk) = SmallDisk::mount(&data, 24 << 20) else {
        eprintln!("SKIPPED: only root can mount a small disk");
        return;
    };
    let mut cluster = Cluster::builder().data(&data.join("data")).start();
    serve_hello(&cluster);
    let filler = data.join("filler");
    let mut golden = Golden::new("full-disk", &cluster);
    golden.varies(guest("probe").to_str().unwrap(), "probe.wasm");
    golden.varies(data.to_str().unwrap(), "<disk>");
    // Another compiler makes another size.
    golden.varies(format!("({} bytes)", fs::metadata(guest("probe")).unwrap().len()), "(<probe> bytes)");
    fill(&filler);
    golden.run("push to a full disk", "", &cluster.skiff(&["push", "probe", guest("probe").to_str().unwrap()]));
    still_serves("a push to a full disk", &cluster);
    golden.run("read on a full disk", "", &cluster.skiff(&["get", "services", "-o", "name"]));
    fs::remove_file(&filler).unwrap();
    // Room again: it goes on without a restart, and after one.
    cluster.skiff(&["push", "probe", guest("probe").to_str().unwrap()]).ok();
    cluster.skiff(&["run", "probe"]).ok();
    still_serves("room again", &cluster);
    cluster.kill9();
    cluster.restart();
    eventually("hello answers after a restart", || (cluster.get_host(HELLO_HOST, "/").status == 200).then_some(()));
    golden.check(2);
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    let mut piece = vec![0; 1 << 20];
    while !piece.is_empty() {
        // What fits of a piece is written before the rest of it fails.
        if file.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
}
