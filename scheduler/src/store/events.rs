//! What happened, for people to read: a bounded ring beside the revisioned keys.
//!
//! Controllers note events much oftener than they change objects, and an old or a lost one harms nobody. So events take
//! no revision, are not watched, and never wait for a disk: the ring is in memory, and the embedded store saves it along
//! with its next transaction, or [`SAVE_WITHIN`] at most after the first unsaved event. A power cut loses those.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

/// Some hours of a healthy fleet; about a megabyte.
pub const EVENTS_MAX: usize = 2_000;

/// Bounds the memory if events should be large.
const BYTES_MAX: usize = 4 << 20;

/// What a power cut may cost, against a write to the disk that nothing else asked for.
pub(super) const SAVE_WITHIN: Duration = Duration::from_secs(1);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Rises with each; survives restarts.
    pub sequence: u64,
    /// What it is about: a key.
    pub object: Arc<str>,
    pub value: Bytes,
}

/// A cheap-clone handle on a store's events.
#[derive(Clone)]
pub struct EventLog(Arc<Shared>);

struct Shared {
    ring: Mutex<Ring>,
    /// Called when there is something to save and was not before.
    unsaved: Box<dyn Fn() + Send + Sync>,
}

struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    next: u64,
    /// Events before this one are saved.
    saved: u64,
    announced: bool,
}

/// What to write to the disk.
pub(super) struct Unsaved {
    pub(super) events: Vec<Event>,
    /// Events before this one are dropped.
    pub(super) first_kept: u64,
}

impl EventLog {
    /// `saved` are those that the disk has, oldest first.
    pub(super) fn new(saved: impl IntoIterator<Item = Event>, unsaved: impl Fn() + Send + Sync + 'static) -> Self {
        let mut ring = Ring { events: VecDeque::new(), bytes: 0, next: 1, saved: 1, announced: false };
        for event in saved {
            ring.next = event.sequence + 1;
            ring.push(event);
        }
        ring.saved = ring.next;
        Self(Arc::new(Shared { ring: Mutex::new(ring), unsaved: Box::new(unsaved) }))
    }

    /// Notes an event about an object. Never waits.
    pub fn append(&self, object: impl Into<Arc<str>>, value: impl Into<Bytes>) {
        let mut ring = self.lock();
        let event = Event { sequence: ring.next, object: object.into(), value: value.into() };
        ring.next += 1;
        ring.push(event);
        if !std::mem::replace(&mut ring.announced, true) {
            drop(ring);
            (self.0.unsaved)();
        }
    }

    /// All that is kept, oldest first.
    pub fn list(&self) -> Vec<Event> {
        self.lock().events.iter().cloned().collect()
    }

    /// What is kept about one object, oldest first.
    pub fn about(&self, object: &str) -> Vec<Event> {
        self.lock().events.iter().filter(|event| &*event.object == object).cloned().collect()
    }

    /// What the disk does not have yet. The next event is announced again, whether or not these can be saved.
    pub(super) fn unsaved(&self) -> Option<Unsaved> {
        let mut ring = self.lock();
        ring.announced = false;
        if ring.saved == ring.next {
            return None;
        }
        let events = ring.events.iter().filter(|event| event.sequence >= ring.saved).cloned().collect();
        Some(Unsaved { events, first_kept: ring.events.front().map_or(ring.next, |event| event.sequence) })
    }

    pub(super) fn saved(&self, unsaved: &Unsaved) {
        if let Some(last) = unsaved.events.last() {
            self.lock().saved = last.sequence + 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, event: Event) {
        self.bytes += size(&event);
        self.events.push_back(event);
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= size(&oldest);
        }
    }
}

fn size(event: &Event) -> usize {
    event.object.len() + event.value.len()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn keeps_the_latest() {
        let log = EventLog::new([], || ());
        for n in 0..=EVENTS_MAX {
            log.append(if n % 2 == 0 { "/even" } else { "/odd" }, n.to_string());
        }
        let all = log.list();
        assert_eq!((all.len(), all[0].sequence, &*all[0].object), (EVENTS_MAX, 2, "/odd"));
        assert_eq!(log.about("/odd").len(), EVENTS_MAX / 2);
        assert!(log.about("/odd/more").is_empty());
        log.append("/large", vec![0; BYTES_MAX - 6]);
        assert_eq!(log.list().len(), 1);
    }

    #[test]
    fn announces_once_until_asked() {
        let announced = Arc::new(AtomicUsize::new(0));
        let count = announced.clone();
        let log = EventLog::new([], move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert!(log.unsaved().is_none());
        log.append("/a", "1");
        log.append("/a", "2");
        assert_eq!(announced.load(Ordering::Relaxed), 1);
        let unsaved = log.unsaved().unwrap();
        assert_eq!((unsaved.events.len(), unsaved.first_kept), (2, 1));
        log.append("/a", "3");
        assert_eq!(announced.load(Ordering::Relaxed), 2);
        log.saved(&unsaved);
        assert_eq!(log.unsaved().unwrap().events, log.list()[2..]);
    }
}
