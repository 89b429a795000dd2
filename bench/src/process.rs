//! What a process and all its children take, from `/proc`.
//!
//! Memory is the kernel's own count. Resident memory counts pages that processes share in each of them; the proportional
//! figure counts them once. Written bytes are those that went to a block device: what was written to a file and not yet
//! flushed counts from the moment the page was made dirty.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

/// What a tree of processes takes at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) processes: usize,
    pub(crate) threads: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) proportional_bytes: u64,
    /// Of that, what no file stands behind: it cannot be dropped and read again.
    pub(crate) anonymous_bytes: u64,
    /// Since the processes started.
    pub(crate) cpu: Duration,
    pub(crate) written_bytes: u64,
}

/// Reads the usage of `pid` and its descendants.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let mut total = Usage::default();
    for pid in tree(pid)? {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
        };
        let (status, memory, io) = (read("status")?, read("smaps_rollup")?, read("io")?);
        total.processes += 1;
        total.threads += number(&status, "Threads:")?;
        total.resident_bytes += number(&memory, "Rss:")? * 1024;
        total.proportional_bytes += number(&memory, "Pss:")? * 1024;
        total.anonymous_bytes += number(&memory, "Anonymous:")? * 1024;
        total.written_bytes += number(&io, "write_bytes:")?;
        total.cpu += cpu(&read("stat")?)?;
    }
    Ok(total)
}

/// A process, then its descendants.
fn tree(root: u32) -> Result<Vec<u32>> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("failed to list {tasks}"))?.flatten() {
            // A thread that is gone meanwhile has no children.
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    Ok(found)
}

/// The number after `name`, which begins a line.
fn number(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).with_context(|| format!("failed to find {name} in /proc"))
}

/// User and system time, fields 14 and 15; the second field is a name that may hold blanks.
fn cpu(stat: &str) -> Result<Duration> {
    let (_, fields) = stat.rsplit_once(')').context("failed to find the name in /proc/PID/stat")?;
    let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let (user, system) = ticks.next().zip(ticks.next()).context("failed to find times in /proc/PID/stat")?;
    Ok(Duration::from_secs_f64((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Every file below `folder` with its size and time: two of these that are equal mean that nothing was written.
pub(crate) fn files(folder: &Path) -> Result<BTreeMap<PathBuf, (u64, SystemTime)>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = || format!("failed to list {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let metadata = entry.metadata().with_context(failed)?;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path(), (metadata.len(), metadata.modified().with_context(failed)?));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_tree_is_counted_with_its_children() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It is started once it has said something.
        child.stdin.as_mut().unwrap().write_all(b"1").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let alone = usage(child.id()).unwrap();
        let all = usage(std::process::id()).unwrap();
        child.wait().unwrap();
        assert_eq!(alone.processes, 1);
        assert!(all.processes >= 2 && all.resident_bytes > alone.resident_bytes, "{all:?}");
        assert!(alone.resident_bytes > 100_000 && alone.proportional_bytes <= alone.resident_bytes, "{alone:?}");
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("7 (a) b c) S 1 7 7 0 -1 4194304 100 0 0 0 {ticks} {} 0 0 20 0", 2 * ticks);
        assert_eq!(cpu(&stat).unwrap(), Duration::from_secs(3));
        assert!(cpu("7 (a) S 1").is_err());
    }

    #[test]
    fn a_written_file_shows() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), "1").unwrap();
        let before = files(folder.path()).unwrap();
        assert_eq!(before, files(folder.path()).unwrap());
        fs::write(folder.path().join("a/b"), "12").unwrap();
        assert_ne!(before, files(folder.path()).unwrap());
    }
}
