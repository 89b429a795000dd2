//! Memory of guests: the node's budget, a replica's share of it, and what one instance has of that.
//!
//! ```text
//!  Budget (a part of the machine) >= all Shares' use;  Share (limits.memory) >= its Leases;  Lease: one instance
//! ```
//!
//! An instance starts with as much as the service's instances usually end up with, reserved in one step, so that most
//! never ask again, and a request waits *before* it begins where that is not there. Growing beyond it is asked for piece by
//! piece, and refused to the guest when the share or the budget has no more.
//!
//! What counts is what guests may touch, their linear memories and tables, whether they touched it or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::sandbox::shard::Padded;
use crate::sandbox::usage::Usage;

/// Memory that all guests of a node may have together.
#[derive(Debug)]
pub(super) struct Budget {
    max_bytes: u64,
    used_bytes: Padded<AtomicU64>,
}

/// Memory that one replica's guests may have together.
#[derive(Debug)]
pub(super) struct Share {
    node: Arc<Budget>,
    usage: Arc<Usage>,
    max_bytes: u64,
    used_bytes: Padded<AtomicU64>,
    /// What an instance usually needs.
    expected_bytes: AtomicU64,
    waiting: AtomicU32,
    freed: Notify,
}

/// Memory of one instance; it goes back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    share: Arc<Share>,
    reserved_bytes: u64,
    used_bytes: u64,
}

/// Whose memory was not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Short {
    Instance,
    Replica,
    Node,
}

/// How fast an outlier is forgotten: each usual instance takes off such a part of the difference.
const FORGET: u64 = 16;

impl Budget {
    pub(super) fn new(max_bytes: u64) -> Arc<Self> {
        Arc::new(Self { max_bytes, used_bytes: Padded::default() })
    }

    /// Nothing should be kept that nobody uses.
    pub(super) fn is_tight(&self) -> bool {
        self.used_bytes.0.load(Ordering::Relaxed) > self.max_bytes / 10 * 9
    }
}

/// Adds unless it would be more than `max`. Returns the sum.
fn add(used: &AtomicU64, bytes: u64, max: u64) -> Option<u64> {
    let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= max);
    used.fetch_update(Ordering::SeqCst, Ordering::Relaxed, fits).ok().map(|used| used + bytes)
}

impl Share {
    pub(super) fn new(node: Arc<Budget>, usage: Arc<Usage>, max_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            node,
            usage,
            max_bytes,
            used_bytes: Padded::default(),
            expected_bytes: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
            freed: Notify::new(),
        })
    }

    /// Memory for one more instance, if it is there.
    pub(super) fn lease(self: &Arc<Self>) -> Result<Lease, Short> {
        let expected = self.expected_bytes.load(Ordering::Relaxed).min(self.max_bytes);
        let mut lease = Lease { share: self.clone(), reserved_bytes: 0, used_bytes: 0 };
        lease.reserve(expected)?;
        Ok(lease)
    }

    /// Whether another instance may be started now.
    pub(super) fn has_room(&self) -> bool {
        let expected = self.expected_bytes.load(Ordering::Relaxed);
        self.used_bytes.0.load(Ordering::SeqCst).saturating_add(expected) <= self.max_bytes
    }

    /// Waits until there is room for another instance, or `otherwise` says that none is needed. Who waits longer comes
    /// first.
    pub(super) async fn room(&self, otherwise: impl Fn() -> bool) {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.has_room() || otherwise() {
                // One that was woken may leave room for the next.
                self.freed.notify_one();
                return;
            }
            freed.await;
        }
    }

    /// Something has changed for those who wait.
    pub(super) fn nudge(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    pub(super) fn node(&self) -> &Budget {
        &self.node
    }

    fn learn(&self, bytes: u64) {
        let expected = self.expected_bytes.load(Ordering::Relaxed);
        let next = if bytes >= expected { bytes } else { expected - (expected - bytes) / FORGET };
        if next != expected {
            self.expected_bytes.store(next, Ordering::Relaxed);
        }
    }
}

struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Lease {
    /// The instance grows by so much, or may not.
    pub(super) fn grow(&mut self, by_bytes: u64) -> Result<(), Short> {
        let used = self.used_bytes.saturating_add(by_bytes);
        self.reserve(used.saturating_sub(self.reserved_bytes))?;
        self.used_bytes = used;
        // At once, and not at its end: others may begin meanwhile.
        if used > self.share.expected_bytes.load(Ordering::Relaxed) {
            self.share.expected_bytes.store(used, Ordering::Relaxed);
        }
        Ok(())
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), Short> {
        if bytes == 0 {
            return Ok(());
        }
        let share = &*self.share;
        let Some(sum) = add(&share.used_bytes.0, bytes, share.max_bytes) else { return Err(Short::Replica) };
        if add(&share.node.used_bytes.0, bytes, share.node.max_bytes).is_none() {
            share.used_bytes.0.fetch_sub(bytes, Ordering::SeqCst);
            return Err(Short::Node);
        }
        share.usage.saw_memory(sum);
        self.reserved_bytes += bytes;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let share = &*self.share;
        if self.used_bytes > 0 {
            share.learn(self.used_bytes);
        }
        if self.reserved_bytes > 0 {
            share.node.used_bytes.0.fetch_sub(self.reserved_bytes, Ordering::Relaxed);
            // Pairs with "say that I wait, then look for room".
            share.used_bytes.0.fetch_sub(self.reserved_bytes, Ordering::SeqCst);
        }
        share.nudge();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn share(node: &Arc<Budget>, max: u64) -> Arc<Share> {
        Share::new(node.clone(), Arc::default(), max)
    }

    fn grown(share: &Arc<Share>, bytes: u64) -> Lease {
        let mut lease = share.lease().unwrap();
        lease.grow(bytes).unwrap();
        lease
    }

    #[test]
    fn growing_stops_at_the_share_and_at_the_budget() {
        let node = Budget::new(150);
        let (one, two) = (share(&node, 100), share(&node, 100));
        let mut first = grown(&one, 60);
        assert_eq!(first.grow(41), Err(Short::Replica));
        let mut second = grown(&two, 80);
        assert_eq!(second.grow(20), Err(Short::Node));
        drop(first);
        second.grow(20).unwrap();
        drop(second);
        assert_eq!(node.used_bytes.0.load(Ordering::SeqCst), 0);
        assert_eq!(one.usage.memory_bytes_max(), 60);
    }

    #[test]
    fn the_next_instance_is_given_what_the_last_one_used() {
        let node = Budget::new(1000);
        let share = share(&node, 100);
        drop(grown(&share, 60));
        let lease = share.lease().unwrap();
        assert_eq!(lease.reserved_bytes, 60);
        assert!(!share.has_room());
        assert_eq!(share.lease().unwrap_err(), Short::Replica);
        drop(lease);
        (0..100).for_each(|_| drop(grown(&share, 10)));
        assert!(share.expected_bytes.load(Ordering::Relaxed) < 30, "an outlier is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_gets_it_in_turn() {
        let node = Budget::new(1000);
        let share = share(&node, 100);
        let first = grown(&share, 100);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let share = share.clone();
                tokio::spawn(async move {
                    share.room(|| false).await;
                    drop(share.lease());
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        drop(first);
        for waiting in waiting {
            tokio::time::timeout(Duration::from_secs(1), waiting).await.expect("it was woken").unwrap();
        }
        assert_eq!(share.waiting.load(Ordering::SeqCst), 0);
    }
}
