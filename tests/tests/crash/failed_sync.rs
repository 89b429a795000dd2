//! A disk that fails to keep what it was given. The kernel says so once, at the next sync, and forgets the pages: what is
//! read back is then not what a restart would find. So the process must not go on.
//!
//! The fault is a library that is loaded before the system's and fails syncs as long as a file exists. It is compiled
//! here; where there is no C compiler, the test is skipped, and says so.

use std::fs;
use std::path::Path;
use std::process::Command;

use skiff_tests::{Cluster, guest};

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int failing(void) {
    const char *file = getenv("SYNCS_FAIL_WHILE");
    return file && access(file, F_OK) == 0;
}

int fdatasync(int fd) {
    if (failing()) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, fd);
}

int fsync(int fd) {
    if (failing()) { errno = EIO; return -1; }
    return syscall(SYS_fsync, fd);
}
"#;

/// How `exit.rs` of the command line counts a broken machine.
const BROKEN: i32 = 70;

fn compile(folder: &Path) -> Option<String> {
    let source = folder.join("syncs.c");
    let library = folder.join("syncs.so");
    fs::write(&source, LIBRARY).unwrap();
    match Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).output() {
        Ok(output) if output.status.success() => Some(library.to_str().unwrap().to_owned()),
        Ok(output) => panic!("the library does not compile: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            eprintln!("SKIPPED: failed to run cc: {error}");
            None
        }
    }
}

fn names(cluster: &Cluster) -> Vec<String> {
    let list = cluster.skiff(&["get", "services", "-o", "json"]).ok().json();
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_failed_sync_ends_the_process_and_the_next_one_has_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = compile(folder.path()) else { return };
    let failing = folder.path().join("failing");
    let mut cluster =
        Cluster::builder().env("LD_PRELOAD", &library).env("SYNCS_FAIL_WHILE", failing.to_str().unwrap()).start();
    cluster.skiff(&["push", "hello", guest("hello").to_str().unwrap()]).ok();
    cluster.skiff(&["run", "hello", "--path", "/"]).ok();
    let apply = |cluster: &Cluster, name: &str| {
        let text = format!("{{kind: Service, name: {name}, image: hello, replicas: 0}}\n");
        cluster.skiff(&["apply", "-f", &cluster.write(&format!("{name}.yaml"), text)])
    };
    apply(&cluster, "kept").ok();

    fs::write(&failing, "").unwrap();
    let run = apply(&cluster, "lost");
    assert_ne!(run.code, Some(0), "{run}");
    assert_eq!(cluster.wait(), Some(BROKEN));
    let log = cluster.log();
    assert!(log.contains("error: failed to make the store durable") && log.contains("(hint: "), "{log}");
    fs::remove_file(&failing).unwrap();

    cluster.restart();
    cluster.eventually_answers("/", 200);
    let found = names(&cluster);
    assert!(found.contains(&"kept".to_owned()), "{found:?}");
    apply(&cluster, "next").ok();
    assert_eq!(cluster.terminate(), Some(0));
}
