//! Rollout and scale: which replicas come and which go, in one step.
//!
//! New replicas start before old ones stop: for a moment there is [`SURGE`] more than wanted, and never fewer that
//! answer than wanted or than there were. So a revision that does not become ready takes nothing down: its replicas wait
//! next to the old ones. What is not ready goes before what is; an intermediate revision that never got ready goes
//! before the older one that still serves.
//!
//! Edge cases: when a node restarts in the middle of a stuck rollout, the old replicas are not ready for a moment and
//! must not be taken for dispensable; so unready old ones go only as far as the others leave room for it (`dispensable`
//! below). A replica on a suspect node counts as serving when it is about to be removed, and as not serving when it is
//! to stand in for another; an old one there takes no part of the surge, or a lost node would hold up every rollout.

use skiff_api::ReplicaName;

use super::state::Health;

/// How many more replicas than wanted there may be during a rollout. One is enough to go on, and the least that a full
/// node has to have room for.
pub const SURGE: usize = 1;

/// How many fewer than wanted may answer because of a rollout.
pub const UNAVAILABLE: usize = 0;

/// Most creations, and most removals, in one step: a step has to fit into one transaction.
pub const STEP_MAX: usize = 30;

/// A replica as the rollout sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: ReplicaName,
    /// Its revision's.
    pub number: u64,
    pub health: Health,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// So many replicas of the target revision.
    pub create: usize,
    pub remove: Vec<Removal>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub name: ReplicaName,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There are more of the target revision than wanted.
    Surplus,
    /// Newer ones stand in for it.
    Replaced,
}

/// One step towards `wanted` replicas of revision `target`.
pub fn plan(wanted: usize, target: u64, copies: &[Member]) -> Step {
    let (mut current, mut old): (Vec<_>, Vec<_>) = copies.iter().partition(|copy| copy.number == target);
    let mut remove = Vec::new();

    current.sort_unstable_by(|a, b| (a.health, &a.name).cmp(&(b.health, &b.name)));
    let surplus = current.len().saturating_sub(wanted).min(STEP_MAX);
    remove.extend(current.drain(..surplus).map(|copy| Removal { name: copy.name.clone(), why: Why::Surplus }));

    // Unready ones first, the youngest revision first among them; then serving ones, the oldest revision first.
    old.sort_unstable_by_key(|copy| {
        let youngest_first = if copy.health.serves() { copy.number } else { u64::MAX - copy.number };
        (copy.health, youngest_first, &copy.name)
    });
    let unready = current.iter().filter(|copy| copy.health != Health::Ready).count();
    let mut dispensable = (current.len() + old.len()).saturating_sub(wanted.saturating_sub(UNAVAILABLE) + unready);
    let mut ready = current.iter().chain(&old).filter(|copy| copy.health == Health::Ready).count();
    let enough = wanted.saturating_sub(UNAVAILABLE);
    let mut left = current.len();
    for copy in old {
        let may_go = match copy.health {
            Health::Ready => ready > enough,
            Health::Unknown => ready >= enough,
            Health::Unplaced | Health::Failed | Health::Starting => true,
        };
        if dispensable == 0 || !may_go || remove.len() >= STEP_MAX {
            left += usize::from(copy.health != Health::Unknown);
            continue;
        }
        dispensable -= 1;
        ready -= usize::from(copy.health == Health::Ready);
        remove.push(Removal { name: copy.name.clone(), why: Why::Replaced });
    }

    let missing = wanted.saturating_sub(current.len());
    let room = (wanted + SURGE).saturating_sub(left);
    Step { create: missing.min(room).min(STEP_MAX), remove }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copies(text: &str) -> Vec<Member> {
        let health = |letter: &str| match letter {
            "u" => Health::Unplaced,
            "f" => Health::Failed,
            "s" => Health::Starting,
            "?" => Health::Unknown,
            _ => Health::Ready,
        };
        let copy = |(n, word): (usize, &str)| {
            let (number, letter) = word.split_at(1);
            Member {
                name: ReplicaName::new(format!("{n}:{word}")),
                number: number.parse().unwrap(),
                health: health(letter),
            }
        };
        text.split_whitespace().enumerate().map(copy).collect()
    }

    /// `1r` is a ready replica of revision 1; the target is revision 3.
    fn step(wanted: usize, text: &str) -> String {
        let step = plan(wanted, 3, &copies(text));
        let removed: Vec<_> = step.remove.iter().map(|removal| removal.name.as_str()).collect();
        format!("+{} -[{}]", step.create, removed.join(" "))
    }

    #[test]
    fn steps() {
        for (wanted, before, expected) in [
            // Scale.
            (2, "", "+2 -[]"),
            (2, "3r", "+1 -[]"),
            (1, "3r 3s 3f 3u", "+0 -[3:3u 2:3f 1:3s]"),
            (1, "3r 3? 3r", "+0 -[1:3? 0:3r]"),
            (0, "3r 1r", "+0 -[0:3r 1:1r]"),
            // Start before stop, one at a time.
            (1, "1r", "+1 -[]"),
            (1, "1r 3s", "+0 -[]"),
            (1, "1r 3f", "+0 -[]"),
            (1, "1r 3u", "+0 -[]"),
            (1, "1r 3r", "+0 -[0:1r]"),
            (3, "1r 1r 1r", "+1 -[]"),
            (3, "1r 1r 1r 3s", "+0 -[]"),
            (3, "1r 1r 1r 3r", "+1 -[0:1r]"),
            (3, "1r 3r 3r 3s", "+0 -[]"),
            // A third revision takes the place of a second that did not get ready.
            (1, "1r 2f", "+1 -[1:2f]"),
            (1, "1r 2s", "+1 -[1:2s]"),
            // The old ones restart while the new one fails: nothing is given up.
            (1, "1s 3f", "+0 -[]"),
            (1, "1s 2s", "+1 -[1:2s]"),
            (1, "1f", "+1 -[]"),
            (1, "1f 3r", "+0 -[0:1f]"),
            // What is on a suspect node may serve, but stands in for nothing.
            (1, "1? 3?", "+0 -[]"),
            (1, "1r 3?", "+0 -[]"),
            (1, "1? 3r", "+0 -[0:1?]"),
            (2, "1? 1? 1?", "+2 -[]"),
            // Scaled down in the middle.
            (1, "1r 1r 1r 3s", "+0 -[0:1r 1:1r]"),
        ] {
            assert_eq!(step(wanted, before), expected, "{wanted} wanted of {before}");
        }
    }

    #[test]
    fn a_large_service_goes_in_steps() {
        assert_eq!(plan(100, 3, &[]).create, STEP_MAX);
        let many: Vec<String> = (0..100).map(|_| "3r".to_owned()).collect();
        assert_eq!(plan(0, 3, &copies(&many.join(" "))).remove.len(), STEP_MAX);
    }

    fn any_copies() -> impl Strategy<Value = Vec<Member>> {
        let health = prop_oneof![
            Just(Health::Unplaced),
            Just(Health::Failed),
            Just(Health::Starting),
            Just(Health::Unknown),
            Just(Health::Ready),
        ];
        let copy = (1u64..=3, health);
        prop::collection::vec(copy, 0..9).prop_map(|copies| {
            let named = copies.into_iter().enumerate();
            named
                .map(|(n, (number, health))| Member { name: ReplicaName::new(n.to_string()), number, health })
                .collect()
        })
    }

    fn after(before: &[Member], step: &Step) -> Vec<Member> {
        let removed = |copy: &Member| step.remove.iter().any(|removal| removal.name == copy.name);
        before.iter().filter(|copy| !removed(copy)).cloned().collect()
    }

    fn ready(copies: &[Member]) -> usize {
        copies.iter().filter(|copy| copy.health == Health::Ready).count()
    }

    proptest! {
        #[test]
        fn no_step_costs_availability_or_exceeds_the_surge(wanted in 0usize..5, before in any_copies()) {
            let step = plan(wanted, 3, &before);
            let left = after(&before, &step);
            prop_assert!(ready(&left) >= wanted.min(ready(&before)));
            let known = left.iter().filter(|copy| copy.number == 3 || copy.health != Health::Unknown).count();
            prop_assert!(step.create == 0 || known + step.create <= wanted + SURGE);
            let of_target = left.iter().filter(|copy| copy.number == 3).count();
            prop_assert!(step.create == 0 || of_target + step.create <= wanted);
            prop_assert_eq!(step.remove.len() + left.len(), before.len(), "every removal is of one that exists, once");
        }

        /// Whatever the start, replicas that get ready once they exist make the rollout end, in exactly what is wanted.
        #[test]
        fn it_ends(wanted in 0usize..5, mut copies in any_copies()) {
            for round in 0..40 {
                let step = plan(wanted, 3, &copies);
                copies = after(&copies, &step);
                copies.extend((0..step.create).map(|n| Member {
                    name: ReplicaName::new(format!("new-{round}-{n}")),
                    number: 3,
                    health: Health::Starting,
                }));
                if step == Step::default() && copies.iter().all(|copy| copy.health == Health::Ready) {
                    break;
                }
                copies.iter_mut().filter(|copy| copy.number == 3).for_each(|copy| copy.health = Health::Ready);
            }
            prop_assert_eq!(copies.len(), wanted);
            prop_assert!(copies.iter().all(|copy| copy.number == 3));
        }

        /// A revision whose replicas all fail leaves what was ready as it was, however long it goes on.
        #[test]
        fn a_failing_revision_takes_nothing_down(wanted in 1usize..5, mut copies in any_copies()) {
            copies.iter_mut().filter(|copy| copy.number == 3).for_each(|copy| copy.health = Health::Failed);
            let before = ready(&copies);
            for round in 0..20 {
                let step = plan(wanted, 3, &copies);
                copies = after(&copies, &step);
                copies.extend((0..step.create).map(|n| Member {
                    name: ReplicaName::new(format!("new-{round}-{n}")),
                    number: 3,
                    health: Health::Failed,
                }));
            }
            prop_assert!(ready(&copies) >= before.min(wanted));
        }
    }
}
