//! What the control loop counts.
//!
//! | name | unit |
//! |---|---|
//! | `skiff_plans_total` | plans that were carried out |
//! | `skiff_plan_conflicts_total` | transactions that were planned again, because somebody else wrote |
//! | `skiff_plan_failures_total` | transactions that the store did not take |
//! | `skiff_plan_lint_refusals_total` | plans that would have broken an invariant; each is a bug |
//! | `skiff_eviction_brake` | nodes that are lost and not given up, because they are too many at once |
//! | `skiff_moves_total` | replicas that a rebalancing has told to move |
//! | `skiff_links` | nodes that are connected |
//! | `skiff_links_refused_total` | links that were dropped, for a node that broke the rules or was too slow |
//! | `skiff_node_words_refused_total` | statements of nodes about what is not theirs |

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) plans: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) lint_refusals: AtomicU64,
    pub(crate) brake: AtomicU64,
    pub(crate) moves: AtomicU64,
    pub(crate) links: AtomicU64,
    pub(crate) links_refused: AtomicU64,
    pub(crate) words_refused: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Counters {
    /// In Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, counter) in [
            ("skiff_plans_total", "counter", "Plans that were carried out.", &self.plans),
            ("skiff_plan_conflicts_total", "counter", "Transactions that were planned again.", &self.conflicts),
            ("skiff_plan_failures_total", "counter", "Transactions that the store did not take.", &self.failures),
            ("skiff_plan_lint_refusals_total", "counter", "Plans that broke an invariant.", &self.lint_refusals),
            ("skiff_eviction_brake", "gauge", "Lost nodes that are too many to give up.", &self.brake),
            ("skiff_moves_total", "counter", "Replicas that were told to move.", &self.moves),
            ("skiff_links", "gauge", "Nodes that are connected.", &self.links),
            ("skiff_links_refused_total", "counter", "Links that were dropped.", &self.links_refused),
            ("skiff_node_words_refused_total", "counter", "Words about what is not theirs.", &self.words_refused),
        ] {
            let value = counter.load(Ordering::Relaxed);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_rendered() {
        let counters = Counters::default();
        add(&counters.lint_refusals, 3);
        let text = counters.render();
        assert!(text.contains("# TYPE skiff_plan_lint_refusals_total counter\nskiff_plan_lint_refusals_total 3\n"));
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 9);
    }
}
