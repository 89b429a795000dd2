//! Guests that write: too much, too long, too strange.

use std::fs;
use std::path::Path;

use crate::case::{Attack, Case, case};
use crate::client::{ask, get, request};

/// Two files of 4 MiB, of which one may exceed that by a flush.
const STORED_BYTES_MAX: u64 = 16 << 20;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a flood of logs", stored("/log-flood?ms=3000"), "200, little stored")
            .logs("noisy", "lines with")
            .logs("noisy", "more than 1048576 bytes a second")
            .twin(get("plain", "/log-flood?ms=0"), "200"),
        case("a line of 16 MiB", stored("/log-unended?mb=16"), "200, little stored")
            .twin(get("plain", "/log-unended?mb=0"), "200"),
        case("logs that are no text", get("plain", "/log-garbage"), "200")
            .logs("plain", "not text")
            .twin(get("plain", "/log-flood?ms=0"), "200"),
    ]
}

/// Asks, and looks at what the disk then holds of the service's logs.
fn stored(path: &'static str) -> Attack {
    Box::new(move |world| {
        let words = ask(world, &request("GET", "noisy", path, "", b"")).0;
        match bytes_below(&world.cluster.data().join("node/logs/default/noisy")) {
            bytes if bytes <= STORED_BYTES_MAX => format!("{words}, little stored"),
            bytes => format!("{words}, {bytes} bytes stored"),
        }
    })
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
