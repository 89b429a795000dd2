//! A set of things that arrives as a whole or as changes, each with a fence.

use std::collections::BTreeMap;

use skiff_api::wire::{Base, Fence};

/// The newest set, and the fence it came with.
#[derive(Debug, Clone, PartialEq)]
pub struct Set<K, V> {
    pub fence: Fence,
    pub items: BTreeMap<K, V>,
}

impl<K, V> Default for Set<K, V> {
    fn default() -> Self {
        Self { fence: Fence::default(), items: BTreeMap::new() }
    }
}

/// What became of a message.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// Nothing is different from before, not even the fence.
    Unchanged,
    /// It is older than what is known.
    Refused,
    /// It builds on something else than what is known: the whole set is needed.
    Gap,
}

impl<K: Ord, V: PartialEq> Set<K, V> {
    /// Takes a message of a control plane. `newest` is the newest fence that the node has accepted in any set: a control
    /// plane that has been replaced cannot change one set only because its successor has not sent that one yet.
    ///
    /// The whole set may come again with the same fence: so it does when a node reconnects and nothing has changed.
    pub fn apply(
        &mut self,
        newest: Fence,
        (fence, base): (Fence, Base),
        upsert: impl IntoIterator<Item = (K, V)>,
        remove: &[K],
    ) -> Verdict {
        let replaced = (fence.epoch, fence.term) < (newest.epoch, newest.term);
        let old = match base {
            Base::Whole => fence < self.fence,
            Base::After(_) => fence <= self.fence,
        };
        if replaced || old {
            return Verdict::Refused;
        }
        match base {
            Base::Whole => {
                let items = upsert.into_iter().collect();
                if fence == self.fence && items == self.items {
                    return Verdict::Unchanged;
                }
                self.items = items;
            }
            Base::After(base) if base != self.fence => return Verdict::Gap,
            Base::After(_) => {
                for key in remove {
                    self.items.remove(key);
                }
                self.items.extend(upsert);
            }
        }
        self.fence = fence;
        Verdict::Accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(term: u64, counter: u64) -> Fence {
        Fence { epoch: 1, term, counter }
    }

    fn set() -> Set<u8, char> {
        let mut set = Set::default();
        let whole = set.apply(Fence::default(), (fence(1, 5), Base::Whole), [(1, 'a'), (2, 'b')], &[]);
        assert_eq!(whole, Verdict::Accepted);
        set
    }

    #[test]
    fn changes_build_on_what_is_known() {
        let mut set = set();
        let mut apply = |at, base| set.apply(fence(1, 5), (at, Base::After(base)), [(3, 'c')], &[1]);
        assert_eq!(apply(fence(1, 7), fence(1, 6)), Verdict::Gap);
        assert_eq!(apply(fence(1, 6), fence(1, 5)), Verdict::Accepted);
        assert_eq!(apply(fence(1, 6), fence(1, 5)), Verdict::Refused, "the same again");
        assert_eq!(set.items, BTreeMap::from([(2, 'b'), (3, 'c')]));
        assert_eq!(set.fence, fence(1, 6));
    }

    #[test]
    fn older_ones_change_nothing() {
        let mut set = set();
        let before = set.clone();
        for base in [Base::Whole, Base::After(fence(1, 5))] {
            assert_eq!(set.apply(fence(1, 5), (fence(1, 4), base), [], &[1]), Verdict::Refused);
        }
        let replaced = set.apply(fence(2, 1), (fence(1, 6), Base::Whole), [], &[]);
        assert_eq!(replaced, Verdict::Refused, "the other set has heard of a successor");
        assert_eq!(set, before);
    }

    #[test]
    fn the_whole_may_come_again() {
        let mut set = set();
        let mut whole = |at| set.apply(fence(1, 5), (at, Base::Whole), [(1, 'a'), (2, 'b')], &[]);
        assert_eq!(whole(fence(1, 5)), Verdict::Unchanged);
        assert_eq!(whole(fence(2, 0)), Verdict::Accepted, "the fence is new");
    }
}
