//! What a replica's guests have used since it was prepared, for whoever prints it.
//!
//! Figures only: nothing is decided by them. All are relaxed, because each is read by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A replica's figures. They only rise.
#[derive(Debug, Default)]
pub struct Usage {
    started: AtomicU64,
    reused: AtomicU64,
    cold: AtomicU64,
    cpu_ns: AtomicU64,
    memory_bytes_max: AtomicU64,
}

impl Usage {
    /// Instances that were started.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Requests that were served by an instance that had served another before.
    pub fn reused(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }

    /// Requests that had to wait until code was loaded.
    pub fn cold(&self) -> u64 {
        self.cold.load(Ordering::Relaxed)
    }

    /// Processor time of all guests, exact for those that compute for long.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }

    /// The most that all instances together had reserved at once.
    pub fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max.load(Ordering::Relaxed)
    }

    pub(super) fn add_started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_reused(&self) {
        self.reused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_cold(&self) {
        self.cold.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_cpu_ns(&self, ns: u64) {
        self.cpu_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub(super) fn saw_memory(&self, bytes: u64) {
        // Read first: it seldom rises, and a write would take the cache line from the other cores.
        if self.memory_bytes_max() < bytes {
            self.memory_bytes_max.fetch_max(bytes, Ordering::Relaxed);
        }
    }
}
