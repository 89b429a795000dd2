//! Which loaded code stays: as much as there is room for, and what was not used for longest goes first.
//!
//! Each loaded component costs memory that the kernel cannot take back, a file descriptor and some mappings, of which a
//! process has a fixed number; ten thousand loaded ones would exhaust an ordinary machine's. [`Room`] is what this
//! machine can spare of each. Order is kept as a clock keeps it: a request only sets a mark, if it is not set already, and
//! whoever needs room walks round, takes marks away, and evicts what has none. So requests share no lock and no list.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::sandbox::machine::Machine;

/// What a loaded component costs in memory that is not in its file: types, trampolines and tables of the runtime.
/// Measured: 100 KiB for a service in Rust.
const COMPONENT_BYTES: u64 = 100 << 10;

/// Of the pages of a file, one in so many is charged. They are clean, so that the kernel drops them when it needs room,
/// and most are never touched.
const FILE_SHARE: u64 = 4;

/// The part of the machine's memory that idle code may take: one over this.
const MEMORY_SHARE: u64 = 64;

/// The least room for code, so that small boards do not load the same few components over and over.
const BYTES_MIN: u64 = 64 << 20;

/// Mappings of one component: its code, its data and the guards between them. Measured: 5.
const MAPPINGS_PER_COMPONENT: u64 = 6;

/// Of a process's mappings, one over this is for code. Half are the instances' (see [`super::engine`]), the rest the
/// allocator's and the libraries'.
const MAPPINGS_SHARE: u64 = 3;

/// Of a process's descriptors, one over this is for code: the others are connections.
const DESCRIPTORS_SHARE: u64 = 2;

/// Always room for so many: a request that waits must get in, however small the machine.
const COMPONENTS_MIN: u64 = 8;

/// How much may be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) components_max: usize,
    pub(super) bytes_max: u64,
}

impl Room {
    /// What a machine can spare.
    pub(super) fn on(machine: &Machine) -> Self {
        let by_mappings = machine.mappings_max / MAPPINGS_SHARE / MAPPINGS_PER_COMPONENT;
        let by_descriptors = machine.descriptors_max / DESCRIPTORS_SHARE;
        let components = by_mappings.min(by_descriptors).max(COMPONENTS_MIN);
        Self {
            components_max: usize::try_from(components).unwrap_or(usize::MAX),
            bytes_max: (machine.memory_bytes / MEMORY_SHARE).max(BYTES_MIN),
        }
    }

    /// For people.
    pub(super) fn describe(&self, machine: &Machine) -> String {
        format!(
            "{} components and {} MiB (shares of {} mappings, {} descriptors and {} MiB memory)",
            self.components_max,
            self.bytes_max >> 20,
            machine.mappings_max,
            machine.descriptors_max,
            machine.memory_bytes >> 20
        )
    }
}

/// Something that can be loaded.
pub(super) trait Book {
    /// Lets go of what is loaded, unless it is in use or was used since the last call. Answers whether nothing is loaded.
    fn give_up(&self) -> bool;
}

/// What is loaded, in the order in which it is looked at.
pub(super) struct Shelf<B> {
    room: Room,
    taken: Arc<Taken>,
    loads: AtomicU64,
    evictions: AtomicU64,
    books: Mutex<VecDeque<Weak<B>>>,
}

#[derive(Debug, Default)]
struct Taken {
    components: AtomicUsize,
    bytes: AtomicU64,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    taken: Arc<Taken>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.taken.components.fetch_sub(1, Ordering::Relaxed);
        self.taken.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl<B: Book> Shelf<B> {
    pub(super) fn new(room: Room) -> Self {
        let (loads, evictions) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { room, taken: Arc::default(), loads, evictions, books: Mutex::default() }
    }

    /// Evicts until a component with a file of that size fits, and takes its place. Where everything is in use it takes
    /// more than there is room for: requests in flight are bounded elsewhere, and refusing one would help nobody.
    pub(super) fn make_room(&self, file_bytes: u64) -> Charge {
        let bytes = COMPONENT_BYTES.saturating_add(file_bytes / FILE_SHARE);
        let mut books = self.books();
        // Once round to take the marks away, once more to find what has none.
        let mut looks = books.len().saturating_mul(2);
        while looks > 0 && !self.fits(bytes) {
            looks -= 1;
            let Some(book) = books.pop_front() else { break };
            let Some(loaded) = book.upgrade() else { continue };
            match loaded.give_up() {
                true => _ = self.evictions.fetch_add(1, Ordering::Relaxed),
                false => books.push_back(book),
            }
        }
        self.taken.components.fetch_add(1, Ordering::Relaxed);
        self.taken.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.loads.fetch_add(1, Ordering::Relaxed);
        Charge { taken: self.taken.clone(), bytes }
    }

    /// Puts what was loaded where it is looked at last.
    pub(super) fn push(&self, book: &Arc<B>) {
        let mut books = self.books();
        // What was dropped with its last replica leaves its place behind; swept before it outnumbers what is there.
        if books.len() > 2 * self.loaded() + 64 {
            books.retain(|book| book.strong_count() > 0);
        }
        books.push_back(Arc::downgrade(book));
    }

    fn fits(&self, bytes: u64) -> bool {
        self.loaded() < self.room.components_max
            && self.taken.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.room.bytes_max
    }

    fn books(&self) -> MutexGuard<'_, VecDeque<Weak<B>>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Shelf<B> {
    /// Components that are loaded now.
    pub(super) fn loaded(&self) -> usize {
        self.taken.components.load(Ordering::Relaxed)
    }

    /// What they are charged.
    pub(super) fn bytes(&self) -> u64 {
        self.taken.bytes.load(Ordering::Relaxed)
    }

    /// How often something was loaded, and how often evicted.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.loads.load(Ordering::Relaxed), self.evictions.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::sandbox::machine::Swap;

    struct Tome {
        used: AtomicBool,
        charge: Mutex<Option<Charge>>,
    }

    impl Book for Tome {
        fn give_up(&self) -> bool {
            let used = self.used.swap(false, Ordering::Relaxed);
            if !used {
                self.charge.lock().unwrap().take();
            }
            !used
        }
    }

    fn put(shelf: &Shelf<Tome>, bytes: u64, used: bool) -> Arc<Tome> {
        let charge = shelf.make_room(bytes);
        let tome = Arc::new(Tome { used: AtomicBool::new(used), charge: Mutex::new(Some(charge)) });
        shelf.push(&tome);
        tome
    }

    fn is_loaded(tome: &Tome) -> bool {
        tome.charge.lock().unwrap().is_some()
    }

    #[test]
    fn the_heavy_push_out_as_many_as_they_weigh() {
        let small = COMPONENT_BYTES;
        let shelf = Shelf::new(Room { components_max: 100, bytes_max: 10 * small });
        let tomes: Vec<_> = (0..10).map(|_| put(&shelf, 0, false)).collect();
        assert_eq!(shelf.loaded(), 10);
        let heavy = put(&shelf, FILE_SHARE * small * 4, false);
        assert!(tomes[..5].iter().all(|tome| !is_loaded(tome)) && tomes[5..].iter().all(|tome| is_loaded(tome)));
        assert!(is_loaded(&heavy) && shelf.bytes() == 10 * small);
        assert_eq!(shelf.counts(), (11, 5));
    }

    #[test]
    fn one_that_fits_nowhere_gets_in_alone() {
        let shelf = Shelf::new(Room { components_max: 4, bytes_max: COMPONENT_BYTES });
        let tomes: Vec<_> = (0..3).map(|_| put(&shelf, 1 << 30, true)).collect();
        assert_eq!(tomes.iter().filter(|tome| is_loaded(tome)).count(), 1);
    }

    #[test]
    fn what_is_dropped_leaves_no_places_behind() {
        let shelf = Shelf::new(Room { components_max: usize::MAX, bytes_max: u64::MAX });
        for _ in 0..1000 {
            drop(put(&shelf, 0, true));
        }
        assert_eq!((shelf.loaded(), shelf.bytes()), (0, 0));
        assert!(shelf.books().len() < 100, "{}", shelf.books().len());
    }

    #[test]
    fn every_machine_has_some_room() {
        let machine = |memory_bytes, mappings_max, descriptors_max| Machine {
            memory_bytes,
            mappings_max,
            descriptors_max,
            swap: Swap::Off,
        };
        assert_eq!(Room::on(&machine(24 << 30, 65_530, 20_000)).components_max, 3640);
        assert_eq!(Room::on(&machine(24 << 30, 1 << 20, 1024)).components_max, 512);
        let smallest = Room::on(&machine(0, 0, 0));
        assert_eq!((smallest.components_max, smallest.bytes_max), (8, BYTES_MIN));
    }
}
