//! What one instance may use, and the sum that no limit of wasmtime's keeps: memories and tables together.
//!
//! Every limit that a service cannot set itself is a constant here, with its reason. wasmtime's own defaults suit one
//! trusted guest; these suit thousands of strangers in one process.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::sandbox::budget::{Lease, Short};

/// Processor time of one request. Longer work is a Job's; a request that still computes after this is stuck.
pub(super) const CPU_PER_REQUEST: Duration = Duration::from_secs(10);

/// How long a guest may go on after its response has been sent whole: enough to write a last record, too short to make
/// unpaid background work a habit.
pub(super) const AFTER_RESPONSE_MAX: Duration = Duration::from_secs(10);

/// Host objects (streams, bodies, pollables) an instance may hold. A busy handler has some dozens; each costs the host up
/// to some hundred bytes that no memory limit counts.
pub(super) const HOST_OBJECTS_MAX: usize = 4096;

/// Handles in the guest's own tables, of which each costs the host 16 bytes.
pub(super) const COMPONENT_HANDLES_MAX: usize = 8192;

/// What one host call may copy out of a guest: well above the largest useful argument, which is a body chunk or a set
/// of headers, and low enough that a thousand guests at once cannot fill a small machine.
pub(super) const HOST_CALL_BYTES_MAX: usize = 4 << 20;

/// One call for random bytes: generous for keys, and microseconds of work that no epoch can interrupt.
pub(super) const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// Header fields in one collection, as they lie in memory, which is about twice what they are on the wire: common servers
/// take 8 to 16 KiB there.
pub(super) const FIELDS_BYTES_MAX: usize = 64 << 10;

/// One write to a response body. Two of them are buffered for each response, so this bounds what a slow reader costs.
pub(super) const BODY_CHUNK_BYTES: usize = 64 << 10;

/// Core instances in a component. A Rust or JavaScript service has 3 or 4; some dozens allow services composed of parts.
pub(super) const CORE_INSTANCES_MAX: u32 = 64;

/// Linear memories in a component: one for each part it is composed of.
pub(super) const MEMORIES_MAX: u32 = 16;

/// Tables in a component: one for each part, and one or two that adapters add.
pub(super) const TABLES_MAX: u32 = 64;

/// Elements of one table: a language runtime as large as JavaScript's has some 20 thousand functions.
pub(super) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// The stack of WebAssembly frames, which is what wasmtime documents as sufficient for every compiler.
pub(super) const WASM_STACK_BYTES: usize = 512 << 10;

/// The stack of a guest's fiber: that of WebAssembly, and 512 KiB for host calls, which are made on it.
pub(super) const FIBER_STACK_BYTES: usize = 1 << 20;

/// Bytes of host memory for one element of a table: a pointer.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Counts all memories and tables of one instance against its limit, its replica's and its node's.
#[derive(Debug)]
pub(super) struct Memory {
    lease: Lease,
    used_bytes: usize,
    max_bytes: usize,
    refused: Option<Short>,
}

impl Memory {
    pub(super) fn new(max_bytes: u64, lease: Lease) -> Self {
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        Self { lease, used_bytes: 0, max_bytes, refused: None }
    }

    /// Whether the guest ever asked for more than there was, and for whose part.
    pub(super) fn refused(&self) -> Option<Short> {
        self.refused
    }

    fn grow(&mut self, by_bytes: usize) -> bool {
        let total = self.used_bytes.checked_add(by_bytes).filter(|total| *total <= self.max_bytes);
        let grown = total.ok_or(Short::Instance).and_then(|total| {
            self.lease.grow(by_bytes as u64)?;
            Ok(total)
        });
        match grown {
            Ok(total) => self.used_bytes = total,
            Err(short) => self.refused = Some(short),
        }
        grown.is_ok()
    }
}

impl ResourceLimiter for Memory {
    // A growth that is allowed here and fails later (no pages, the memory's own maximum) stays counted: the guest is
    // told of the failure, and the sum errs on the safe side.
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // A module that grows beyond its own maximum is refused without being blamed for its limit.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sandbox::budget::{Budget, Share};

    const PAGE: usize = 65_536;

    fn memory(max_bytes: usize) -> Memory {
        let share = Share::new(Budget::new(u64::MAX), Arc::default(), u64::MAX);
        Memory::new(max_bytes as u64, share.lease().unwrap())
    }

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut memory = memory(4 * PAGE);
        assert!(memory.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(memory.memory_growing(0, PAGE, None).unwrap(), "a second memory");
        assert!(memory.table_growing(0, PAGE / 8, None).unwrap(), "exactly the rest");
        assert_eq!(memory.refused(), None);
        assert!(!memory.table_growing(PAGE / 8, PAGE / 8 + 1, None).unwrap());
        assert_eq!(memory.refused(), Some(Short::Instance));
    }

    #[test]
    fn growth_counts_the_difference() {
        let mut memory = memory(4 * PAGE);
        for pages in 0..4 {
            assert!(memory.memory_growing(pages * PAGE, (pages + 1) * PAGE, None).unwrap());
        }
        assert!(!memory.memory_growing(4 * PAGE, 5 * PAGE, None).unwrap());
    }

    #[test]
    fn a_modules_own_maximum_is_not_the_limit() {
        let mut memory = memory(64 * PAGE);
        assert!(!memory.memory_growing(0, 3 * PAGE, Some(2 * PAGE)).unwrap());
        assert_eq!(memory.refused(), None);
    }

    #[test]
    fn absurd_sizes_are_refused_without_overflow() {
        let mut memory = memory(usize::MAX - 1);
        assert!(memory.memory_growing(0, PAGE, None).unwrap());
        assert!(!memory.memory_growing(0, usize::MAX, None).unwrap());
        assert!(!memory.table_growing(0, usize::MAX, None).unwrap());
    }
}
