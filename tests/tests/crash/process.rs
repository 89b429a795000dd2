//! What the system knows of processes and files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use skiff_tests::skiff_binary;

/// Processes that compile a component for a `skiff` that is no more.
pub(crate) fn orphaned_compilers() -> Vec<u32> {
    let binary = skiff_binary().canonicalize().expect("it is there");
    let is_skiff = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary);
    let all = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let compiles = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("compile-component"))
    };
    pids.filter(|pid| is_skiff(*pid) && compiles(*pid) && parent(*pid).is_some_and(|parent| !is_skiff(parent)))
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The bytes that a process caused to be written to a disk.
pub(crate) fn bytes_written(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("our own child tells");
    let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).expect("the kernel counts");
    bytes.trim().parse().expect("it is a number")
}

/// The processor time that a process has used, in clock ticks.
pub(crate) fn ticks_used(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("our own child tells");
    // The name, in brackets, may contain anything; user and system time are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').expect("there is a name");
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("it is a number")).sum()
}

/// Size and time of the last change of every file below a folder.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(dir) = left.pop() {
        // What is removed meanwhile was there, and is not.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                left.push(entry.path());
            } else {
                found.insert(entry.path(), (meta.len(), meta.modified().expect("the system keeps times")));
            }
        }
    }
    found
}
