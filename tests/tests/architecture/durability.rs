//! What must survive a power cut goes through `skiff-disk`, where a test can cut the power.
//!
//! The rule holds for whole crates, not for the folders that are durable today, so that a new file is under it from its
//! first day. What has a reason to read the file system by itself is listed, with the reason; an exception that is no
//! longer needed is a breach too.

use super::mentions::{is_within, mentions};
use super::source::File;

const DURABLE_CRATES: [&str; 3] = ["host", "registry", "scheduler"];

/// Ways to the file system that no simulated disk sees.
const DIRECT: [&str; 5] = ["std::fs", "tokio::fs", "std::os::unix::fs", "rustix::fs", "tempfile"];

/// Files that may go there, and why that loses nothing in a power cut.
const EXCEPTIONS: [(&str, &str); 8] = [
    ("host/src/docker/files.rs", "values in memory, which a power cut shall take"),
    ("host/src/doorway/names.rs", "a file for others to read, made anew with each container"),
    ("host/src/gateway/access.rs", "a log for operators, whose last lines may be lost"),
    ("host/src/gateway/tls/pair.rs", "reads certificates; only reads"),
    ("host/src/sandbox/machine.rs", "reads what the kernel says about the machine"),
    ("host/src/sandbox/code.rs", "maps compiled code; only reads, and checks a seal"),
    ("host/src/docker/volume.rs", "looks where paths of the machine lead; only reads"),
    ("host/src/compile/seal.rs", "checks the seal of a compiled file; only reads"),
];

pub(super) fn check(file: &File) -> Vec<String> {
    let direct = mentions(file).paths.into_iter().filter(|path| DIRECT.iter().any(|way| is_within(&path.name, way)));
    direct
        .map(|path| format!("{}:{}: {} goes past skiff-disk (hint: take a `Disk`)", file.path, path.line, path.name))
        .collect()
}

fn check_all(files: &[File], exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| !file.test) {
        let found = check(file);
        match exceptions.iter().find(|(path, _)| *path == file.path) {
            Some(_) if found.is_empty() => breaches.push(format!("{}: its exception is not needed", file.path)),
            Some(_) => {}
            None => breaches.extend(found),
        }
    }
    for (path, _) in exceptions {
        if files.iter().all(|file| file.path != *path) {
            breaches.push(format!("{path}: has an exception and does not exist"));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_caught, assert_kept, source};

    #[test]
    fn durable_crates_write_through_the_disk_seam() {
        let mut files = Vec::new();
        for dir in DURABLE_CRATES {
            files.extend(source::read_crate(&source::root(), dir).unwrap());
        }
        assert_kept(&check_all(&files, &EXCEPTIONS));
    }

    #[test]
    fn a_way_past_the_disk_is_caught() {
        for text in [
            "fn f() { std::fs::write(\"x\", \"y\"); }",
            "use std::fs::OpenOptions;",
            "use tokio::fs as afs;",
            "fn f() { rustix::fs::renameat(a, b); }",
            "use std::*;",
        ] {
            let file = File::example("registry/src/store/x.rs", text);
            assert_caught(&check(&file), &["registry/src/store/x.rs:1", "goes past skiff-disk"]);
        }
        let through = "use skiff_disk::{Disk, Mode};\n#[cfg(test)] mod tests { use std::fs; }";
        assert_kept(&check(&File::example("registry/src/store/x.rs", through)));
    }

    #[test]
    fn exceptions_are_needed_and_exist() {
        let reads = || File::example("host/src/a.rs", "use std::fs;");
        let clean = || File::example("host/src/a.rs", "");
        assert_kept(&check_all(&[reads()], &[("host/src/a.rs", "")]));
        assert_caught(&check_all(&[clean()], &[("host/src/a.rs", "")]), &["not needed"]);
        assert_caught(&check_all(&[], &[("host/src/a.rs", "")]), &["does not exist"]);
        assert_caught(&check_all(&[reads()], &[]), &["goes past"]);
    }
}
