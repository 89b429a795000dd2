//! When services have to be planned again although nothing happened. One timer for all; none, where nothing waits.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use skiff_api::ServiceKey;

#[derive(Debug, Default)]
pub(super) struct Wakes {
    by_time: BTreeSet<(Timestamp, ServiceKey)>,
    by_service: BTreeMap<ServiceKey, Timestamp>,
}

impl Wakes {
    /// What the newest plan of a service says counts; an earlier one is forgotten.
    pub(super) fn set(&mut self, service: &ServiceKey, at: Option<Timestamp>) {
        if let Some(before) = self.by_service.remove(service) {
            self.by_time.remove(&(before, service.clone()));
        }
        if let Some(at) = at {
            self.by_service.insert(service.clone(), at);
            self.by_time.insert((at, service.clone()));
        }
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Those whose time has come.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<ServiceKey> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.by_time.first()
            && *at <= now
            && let Some((_, service)) = self.by_time.pop_first()
        {
            self.by_service.remove(&service);
            due.push(service);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::key;

    #[test]
    fn the_last_word_counts_and_the_first_in_time_comes_first() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut wakes = Wakes::default();
        wakes.set(&key("a"), Some(at(5)));
        wakes.set(&key("b"), Some(at(3)));
        wakes.set(&key("b"), Some(at(7)));
        wakes.set(&key("c"), Some(at(1)));
        wakes.set(&key("c"), None);
        assert_eq!(wakes.first(), Some(at(5)));
        assert_eq!(wakes.take_due(at(4)), []);
        assert_eq!(wakes.take_due(at(9)), [key("a"), key("b")]);
        assert_eq!(wakes.first(), None);
    }
}
