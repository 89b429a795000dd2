//! Nothing committed names a package registry's or a mirror's host, or a path of somebody's machine: the sources must
//! build anywhere, with the registries that the machine at hand is configured for.

/// The hosts, in pieces so that this file does not name them either.
const HOSTS: [&str; 13] = [
    concat!("crates", ".io"),
    concat!("static.rust", "-lang"),
    concat!("sh.rust", "up.rs"),
    concat!("npm", "js"),
    concat!("yarn", "pkg"),
    concat!("py", "pi.org"),
    concat!("python", "hosted"),
    concat!("proxy.go", "lang"),
    concat!("deb.deb", "ian"),
    concat!("ftp.deb", "ian"),
    concat!("security.deb", "ian"),
    concat!("snapshot.deb", "ian"),
    concat!("archive.ubu", "ntu"),
];

/// Folders that only exist on the machine where something was written.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// The line that cargo writes into every lock file for every package of its default registry.
const LOCK_LINE: &str = concat!("source = \"registry+https://github.com/rust-lang/crates", ".io-index\"");

pub(super) fn check(path: &str, text: &[u8]) -> Vec<String> {
    let mut breaches = Vec::new();
    let is_lock = path == "Cargo.lock" || path.ends_with("/Cargo.lock");
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if is_lock && line.trim_ascii() == LOCK_LINE.as_bytes() {
            continue;
        }
        let line = line.to_ascii_lowercase();
        let hosts = HOSTS.iter().filter(|host| !found(&line, host).is_empty());
        let folders = MACHINE_PATHS.iter().filter(|folder| {
            // Only from the root: the same words further down a path are anybody's folder.
            found(&line, folder).iter().any(|at| !at.checked_sub(1).is_some_and(|before| continues(line[before])))
        });
        for name in hosts.chain(folders) {
            breaches.push(format!("{path}:{}: names {name} (hint: take it from the machine's own set-up)", index + 1));
        }
    }
    breaches
}

fn found(line: &[u8], name: &str) -> Vec<usize> {
    let matches = line.windows(name.len()).enumerate().filter(|(_, window)| *window == name.as_bytes());
    matches.map(|(at, _)| at).collect()
}

fn continues(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-}~*".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::{assert_caught, assert_kept, source};

    /// What is committed, and what would be by the next `git add`.
    fn tracked() -> Vec<String> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(source::root());
        let output = git.output().unwrap();
        assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
        let list = String::from_utf8(output.stdout).unwrap();
        list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn nothing_committed_names_a_registry_or_a_machine() {
        let paths = tracked();
        assert!(paths.len() > 200, "only {} files", paths.len());
        let mut breaches = Vec::new();
        for path in paths {
            let file = source::root().join(&path);
            // Deleted but not yet committed, or a link to a folder: nothing to read.
            if file.is_file() {
                breaches.extend(check(&path, &fs::read(file).unwrap()));
            }
        }
        assert_kept(&breaches);
    }

    #[test]
    fn hosts_are_caught() {
        for host in HOSTS {
            assert_caught(
                &check("a/README.md", format!("ok\nsee https://{host}/x").as_bytes()),
                &["README.md:2", host],
            );
        }
        assert_caught(&check("a.bin", concat!("\u{0}CRATES", ".IO\u{0}").as_bytes()), &["a.bin:1"]);
    }

    #[test]
    fn only_cargos_own_line_is_exempt() {
        assert_kept(&check("fuzz/Cargo.lock", format!("[[package]]\n{LOCK_LINE}\n").as_bytes()));
        assert_caught(&check("notes.txt", LOCK_LINE.as_bytes()), &["notes.txt:1"]);
        let other = LOCK_LINE.replace("github.com", "mirror.example");
        assert_caught(&check("Cargo.lock", other.as_bytes()), &["Cargo.lock:1"]);
    }

    #[test]
    fn machine_paths_are_caught_and_others_left_alone() {
        for folder in MACHINE_PATHS {
            assert_caught(&check("a.rs", format!("let x = \"{folder}main\";").as_bytes()), &["a.rs:1", folder]);
            assert_caught(&check("a.rs", format!("{folder}main").as_bytes()), &["a.rs:1"]);
            assert_kept(&check("a.rs", format!("let x = \"frame{folder}main\";").as_bytes()));
        }
    }
}
