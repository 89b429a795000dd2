//! How much history is kept: enough that a watcher which was away for some minutes resumes without listing again,
//! bounded in revisions and in bytes. Pure; the backends ask it after each transaction, so an idle store does nothing.

use std::collections::VecDeque;

use super::Revision;

/// About an hour of a busy fleet's changes, or minutes of one that is being rolled out anew.
const REVISIONS_KEPT: usize = 10_000;

/// Large values changed often would otherwise fill the disk: 10,000 transactions may hold 10 GiB.
const BYTES_KEPT: usize = 64 << 20;

/// Forgetting in steps, since each touches old pages of the disk that no other write needs.
const STEP_REVISIONS: usize = 500;
const STEP_BYTES: usize = 4 << 20;

/// The sizes of the transactions that can still be watched.
#[derive(Debug)]
pub(super) struct Retention {
    oldest: Revision,
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Retention {
    /// `oldest` is the first revision that can be read; nothing after it yet.
    pub(super) fn new(oldest: Revision) -> Self {
        Self { oldest, sizes: VecDeque::new(), bytes: 0 }
    }

    /// The next transaction.
    pub(super) fn add(&mut self, bytes: usize) {
        self.sizes.push_back(bytes);
        self.bytes += bytes;
    }

    /// What to compact to now, if anything.
    pub(super) fn due(&self) -> Option<Revision> {
        if self.sizes.len() < REVISIONS_KEPT + STEP_REVISIONS && self.bytes < BYTES_KEPT + STEP_BYTES {
            return None;
        }
        let (mut revision, mut bytes) = (self.oldest, self.bytes);
        for (forgotten, size) in self.sizes.iter().enumerate() {
            if self.sizes.len() - forgotten <= REVISIONS_KEPT && bytes <= BYTES_KEPT {
                break;
            }
            revision = revision.next();
            bytes -= size;
        }
        (revision > self.oldest).then_some(revision)
    }

    pub(super) fn compacted(&mut self, oldest: Revision) {
        while self.oldest < oldest {
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
            self.oldest = self.oldest.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_number_of_revisions() {
        let mut retention = Retention::new(Revision::new(7));
        for _ in 1..REVISIONS_KEPT + STEP_REVISIONS {
            retention.add(1);
            assert_eq!(retention.due(), None);
        }
        retention.add(1);
        let due = Revision::new(7 + STEP_REVISIONS as u64);
        assert_eq!(retention.due(), Some(due));
        retention.compacted(due);
        assert_eq!((retention.due(), retention.sizes.len(), retention.bytes), (None, REVISIONS_KEPT, REVISIONS_KEPT));
    }

    #[test]
    fn keeps_a_number_of_bytes() {
        let mut retention = Retention::new(Revision::ZERO);
        let mut last = 0;
        while retention.due().is_none() {
            retention.add(1 << 20);
            last += 1;
        }
        assert_eq!((last, retention.due()), (68, Some(Revision::new(4))));
    }
}
