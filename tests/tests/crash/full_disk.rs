//! A disk without room, made of a small file system in memory. Only root may mount one; others skip this, and say so.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use skiff_tests::{Cluster, eventually, guest};

use crate::image::with_salt;
use crate::rng::Rng;

/// Room for the store, a few components and their code.
const SIZE: &str = "size=32m";

/// More than may fit into what a full disk has left inside of the store's own file.
const APPLIES_MAX: usize = 200;

const STORAGE_FULL: i32 = 10;

/// A mounted file system; gone when dropped.
struct Mount {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Mount {
    /// `None`, with a reason, where that is not possible.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small");
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { path, _folder: folder }),
            Ok(output) => {
                eprintln!("SKIPPED: failed to mount: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: failed to run mount: {error}");
                None
            }
        }
    }

    /// Takes all the room that is left. Removing the file gives it back.
    fn fill(&self) -> PathBuf {
        let path = self.path.join("filler");
        let mut file = File::create(&path).unwrap();
        for chunk in [1 << 16, 1 << 12, 1] {
            let zeros = vec![0; chunk];
            loop {
                match file.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("failed to fill the disk: {error}"),
                }
            }
        }
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // What still uses it, after a failure, keeps it until it ends.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}

fn manifest(name: &str, text: &str) -> String {
    format!("{{kind: Service, name: {name}, image: hello, replicas: 0, env: {{TEXT: {text}}}}}\n")
}

fn text_of(cluster: &Cluster, name: &str) -> String {
    let object = cluster.skiff(&["get", "service", name, "-o", "json"]).ok().json();
    object["spec"]["env"]["TEXT"].as_str().unwrap_or_else(|| panic!("no TEXT in {object}")).to_owned()
}

/// Something that does not fit into the room that a database leaves between its pages.
fn long_text(rng: &mut Rng) -> String {
    rng.bytes(30_000).iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

fn apply(cluster: &Cluster, name: &str, text: &str) -> Option<i32> {
    let file = cluster.write(&format!("{name}.yaml"), manifest(name, text));
    cluster.skiff(&["apply", "-f", &file]).code
}

fn push_another(cluster: &Cluster, rng: &mut Rng) -> skiff_tests::Run {
    let wasm = with_salt(&fs::read(guest("hello")).unwrap(), &rng.bytes(40_000));
    let file = cluster.write("other.wasm", wasm);
    cluster.skiff(&["push", "other", &file])
}

#[test]
fn a_full_disk_loses_nothing_and_is_no_reason_to_restart() {
    let Some(mount) = Mount::new() else { return };
    let mut rng = Rng::new(Rng::seed());
    let mut cluster = Cluster::builder().data(&mount.path.join("data")).start();
    cluster.skiff(&["push", "hello", guest("hello").to_str().unwrap()]).ok();
    cluster.skiff(&["run", "hello", "--path", "/"]).ok();
    cluster.eventually_answers("/", 200);
    let mut acknowledged = vec![("before".to_owned(), long_text(&mut rng))];
    assert_eq!(apply(&cluster, &acknowledged[0].0, &acknowledged[0].1), Some(0));

    let filler = mount.fill();
    let mut refused = None;
    for n in 0..APPLIES_MAX {
        let (name, text) = (format!("cart-{n}"), long_text(&mut rng));
        match apply(&cluster, &name, &text) {
            Some(0) => acknowledged.push((name, text)),
            Some(STORAGE_FULL) => {
                refused = Some(name);
                break;
            }
            code => panic!("apply ended with {code:?} on a full disk:\n{}", cluster.log()),
        }
    }
    let refused = refused.expect("a disk that is full is full at some time");
    let again = cluster.write("refused.yaml", manifest(&refused, &long_text(&mut rng)));
    let run = cluster.skiff(&["apply", "-f", &again]).fails_with(STORAGE_FULL);
    assert!(run.stderr.contains("full") && run.stderr.contains("hint:"), "{run}");
    assert_eq!(cluster.get("/").status, 200, "what runs, runs on");
    check(&cluster, &acknowledged);
    let run = push_another(&cluster, &mut rng).fails_with(STORAGE_FULL);
    assert!(run.stderr.contains("full") && run.stderr.contains("hint:"), "{run}");

    fs::remove_file(filler).unwrap();
    eventually("there is room again", || (apply(&cluster, &refused, "small") == Some(0)).then_some(()));
    acknowledged.push((refused, "small".to_owned()));
    push_another(&cluster, &mut rng).ok();
    check(&cluster, &acknowledged);
    assert_eq!(cluster.get("/").status, 200);

    cluster.kill9();
    cluster.restart();
    check(&cluster, &acknowledged);
    cluster.eventually_answers("/", 200);
    assert_eq!(cluster.terminate(), Some(0));
    assert!(Path::new(&cluster.data()).starts_with(&mount.path), "the test ran where the room was small");
}

fn check(cluster: &Cluster, acknowledged: &[(String, String)]) {
    for (name, text) in acknowledged {
        assert!(text_of(cluster, name) == *text, "{name} is not what it was");
    }
}
