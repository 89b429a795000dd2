//! The registry's metrics, in Prometheus' text format.
//!
//! | name | labels | unit |
//! |---|---|---|
//! | `skiff_registry_collected_total` | `what`: `manifest`, `link`, `content` | things that nothing referred to and that were removed |
//! | `skiff_registry_collected_bytes_total` | | bytes of removed content |
//! | `skiff_registry_uploads` | | uploads under way |

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::collect::Collected;

#[derive(Debug, Default)]
pub(super) struct Metrics {
    manifests: AtomicU64,
    links: AtomicU64,
    contents: AtomicU64,
    bytes: AtomicU64,
}

impl Metrics {
    pub(super) fn collected(&self, done: &Collected) {
        self.manifests.fetch_add(done.manifests, Ordering::Relaxed);
        self.links.fetch_add(done.links, Ordering::Relaxed);
        self.contents.fetch_add(done.contents, Ordering::Relaxed);
        self.bytes.fetch_add(done.bytes, Ordering::Relaxed);
    }

    pub(super) fn render(&self, uploads: usize) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut text = String::new();
        let name = "skiff_registry_collected_total";
        head(&mut text, name, "counter", "What nothing referred to and was removed.");
        for (what, counter) in [("manifest", &self.manifests), ("link", &self.links), ("content", &self.contents)] {
            line(&mut text, format_args!("{name}{{what=\"{what}\"}} {}", read(counter)));
        }
        let name = "skiff_registry_collected_bytes_total";
        head(&mut text, name, "counter", "Bytes of content that was removed.");
        line(&mut text, format_args!("{name} {}", read(&self.bytes)));
        let name = "skiff_registry_uploads";
        head(&mut text, name, "gauge", "Uploads under way.");
        line(&mut text, format_args!("{name} {uploads}"));
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}"));
    line(text, format_args!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
