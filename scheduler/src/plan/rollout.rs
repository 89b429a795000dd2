//! Rollout, scale and moves: which replicas come and which go, in one step.
//!
//! New replicas start before old ones stop: for a moment there are `surge` more than wanted, and never fewer that answer
//! than wanted (less `unavailable`) or than there were. So a revision that does not become ready takes nothing down: its
//! replicas wait next to the old ones. What is not ready goes before what is; an intermediate revision that never got
//! ready goes before the older one that still serves. A replica that has to leave its node (it is drained, the replica
//! is to move) is treated as one of an older revision: a successor starts, and then it goes.
//!
//! Edge cases: when a node restarts in the middle of a stuck rollout, the old replicas are not ready for a moment and
//! must not be taken for dispensable; so unready old ones go only as far as the others leave room for it (`dispensable`
//! below). A replica on a suspect node counts as serving when it is about to be removed, and as not serving when it is
//! to stand in for another; an old one there takes no part of the surge, or a lost node would hold up every rollout.
//! One that was given up (its node is dead) counts for nothing, and stays an object until its successor answers: if the
//! node is back before that, nothing has moved.

use skiff_api::ReplicaName;
use skiff_api::resource::Update;

use super::state::Health;

/// Most creations, and most removals, in one step: a step has to fit into one transaction.
pub const STEP_MAX: usize = 30;

/// What an update may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// How many more replicas than wanted there may be.
    pub surge: usize,
    /// How many fewer than wanted may answer.
    pub unavailable: usize,
}

impl From<&Update> for Budget {
    fn from(update: &Update) -> Self {
        let number = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        Self { surge: number(update.surge), unavailable: number(update.unavailable) }
    }
}

/// A replica as the rollout sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: ReplicaName,
    /// Its revision's.
    pub number: u64,
    pub health: Health,
    /// Whether it may stay on its node.
    pub stays: bool,
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
    /// It had to leave its node, and another stands in for it.
    Moved,
    /// Its node is dead, and another stands in for it.
    Lost,
    /// Its node is not to have one any more.
    Unwanted,
    /// It may run in one place only, and is known not to run any more, or never has.
    Ended,
}

/// One step towards `wanted` replicas of revision `target`.
pub fn plan(wanted: usize, target: u64, budget: Budget, copies: &[Member]) -> Step {
    let is_current = |copy: &&Member| copy.number == target && copy.stays && copy.health != Health::Lost;
    let (mut current, mut old): (Vec<_>, Vec<_>) = copies.iter().partition(is_current);
    let mut remove = Vec::new();

    current.sort_unstable_by(|a, b| (a.health, &a.name).cmp(&(b.health, &b.name)));
    let surplus = current.len().saturating_sub(wanted).min(STEP_MAX);
    remove.extend(current.drain(..surplus).map(|copy| Removal { name: copy.name.clone(), why: Why::Surplus }));

    // Unready ones first, the youngest revision first among them; then serving ones, the oldest revision first.
    old.sort_unstable_by_key(|copy| {
        let youngest_first = if copy.health.serves() { copy.number } else { u64::MAX - copy.number };
        (copy.health, youngest_first, &copy.name)
    });
    let enough = wanted.saturating_sub(budget.unavailable);
    let unready = current.iter().filter(|copy| copy.health != Health::Ready).count();
    let mut dispensable = (current.len() + old.len()).saturating_sub(enough + unready);
    let mut ready = current.iter().chain(&old).filter(|copy| copy.health == Health::Ready).count();
    let mut left = current.len();
    for copy in old {
        let may_go = match copy.health {
            Health::Ready => ready > enough,
            Health::Unknown | Health::Lost => ready >= enough,
            Health::Unplaced | Health::Failed | Health::Starting => true,
        };
        if dispensable == 0 || !may_go || remove.len() >= STEP_MAX {
            left += usize::from(!matches!(copy.health, Health::Unknown | Health::Lost));
            continue;
        }
        dispensable -= 1;
        ready -= usize::from(copy.health == Health::Ready);
        let why = match () {
            () if copy.health == Health::Lost => Why::Lost,
            () if copy.number == target => Why::Moved,
            () => Why::Replaced,
        };
        remove.push(Removal { name: copy.name.clone(), why });
    }

    let missing = wanted.saturating_sub(current.len());
    let room = wanted.saturating_add(budget.surge).saturating_sub(left);
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
            "l" => Health::Lost,
            "?" => Health::Unknown,
            _ => Health::Ready,
        };
        let copy = |(n, word): (usize, &str)| {
            let (number, letter) = word.split_at(1);
            let health = |letter: &str| health(letter.trim_end_matches('!'));
            Member {
                name: ReplicaName::new(format!("{n}:{word}")),
                number: number.parse().unwrap(),
                health: health(letter),
                stays: !letter.ends_with('!'),
            }
        };
        text.split_whitespace().enumerate().map(copy).collect()
    }

    const STRICT: Budget = Budget { surge: 1, unavailable: 0 };

    /// `1r` is a ready replica of revision 1; the target is revision 3. `3r!` has to leave its node.
    fn step(wanted: usize, text: &str) -> String {
        step_within(STRICT, wanted, text)
    }

    fn step_within(budget: Budget, wanted: usize, text: &str) -> String {
        let step = plan(wanted, 3, budget, &copies(text));
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
            // Given up: replaced, and removed once the successor answers.
            (1, "3l", "+1 -[]"),
            (1, "3l 3s", "+0 -[]"),
            (1, "3l 3r", "+0 -[0:3l]"),
            (3, "3r 3r 3l 3r", "+0 -[2:3l]"),
            (2, "1l 1r 3r", "+1 -[0:1l]"),
            // It has to leave: a successor starts, then it goes; back again, the successor is too many.
            (1, "3r!", "+1 -[]"),
            (1, "3r! 3s", "+0 -[]"),
            (1, "3r! 3r", "+0 -[0:3r!]"),
            (2, "3r! 3r! 3r", "+1 -[0:3r!]"),
            (1, "3r 3s", "+0 -[1:3s]"),
            (1, "3r! 3u", "+0 -[]"),
            // Scaled down in the middle.
            (1, "1r 1r 1r 3s", "+0 -[0:1r 1:1r]"),
        ] {
            assert_eq!(step(wanted, before), expected, "{wanted} wanted of {before}");
        }
    }

    #[test]
    fn budgets_are_the_services_own() {
        let wide = Budget { surge: 2, unavailable: 0 };
        assert_eq!(step_within(wide, 3, "1r 1r 1r"), "+2 -[]");
        assert_eq!(step_within(wide, 3, "1r 1r 1r 3r 3s"), "+1 -[0:1r]");
        // Stop before start, where no room is for more.
        let tight = Budget { surge: 0, unavailable: 1 };
        assert_eq!(step_within(tight, 3, "1r 1r 1r"), "+1 -[0:1r]");
        assert_eq!(step_within(tight, 3, "1r 1r 3s"), "+0 -[]");
        assert_eq!(step_within(tight, 3, "1r 1r 3r"), "+1 -[0:1r]");
        assert_eq!(step_within(tight, 1, "1r"), "+1 -[0:1r]");
    }

    #[test]
    fn a_large_service_goes_in_steps() {
        assert_eq!(plan(100, 3, STRICT, &[]).create, STEP_MAX);
        let many: Vec<String> = (0..100).map(|_| "3r".to_owned()).collect();
        assert_eq!(plan(0, 3, STRICT, &copies(&many.join(" "))).remove.len(), STEP_MAX);
    }

    fn any_copies() -> impl Strategy<Value = Vec<Member>> {
        let health = prop_oneof![
            Just(Health::Unplaced),
            Just(Health::Failed),
            Just(Health::Lost),
            Just(Health::Starting),
            Just(Health::Unknown),
            Just(Health::Ready),
        ];
        let copy = (1u64..=3, health, prop::bool::weighted(0.8));
        prop::collection::vec(copy, 0..9).prop_map(|copies| {
            let named = copies.into_iter().enumerate();
            named
                .map(|(n, (number, health, stays))| Member {
                    name: ReplicaName::new(n.to_string()),
                    number,
                    health,
                    stays,
                })
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
        fn no_step_costs_availability_or_exceeds_the_surge(
            wanted in 0usize..5, before in any_copies(), surge in 0usize..3, unavailable in 0usize..3,
        ) {
            prop_assume!(surge + unavailable > 0);
            let step = plan(wanted, 3, Budget { surge, unavailable }, &before);
            let left = after(&before, &step);
            prop_assert!(ready(&left) >= wanted.saturating_sub(unavailable).min(ready(&before)));
            let current = |copy: &&Member| copy.number == 3 && copy.stays && copy.health != Health::Lost;
            let out_of_sight = |copy: &Member| matches!(copy.health, Health::Unknown | Health::Lost);
            let known = left.iter().filter(|copy| current(copy) || !out_of_sight(copy)).count();
            prop_assert!(step.create == 0 || known + step.create <= wanted + surge);
            let of_target = left.iter().filter(current).count();
            prop_assert!(step.create == 0 || of_target + step.create <= wanted);
            prop_assert_eq!(step.remove.len() + left.len(), before.len(), "every removal is of one that exists, once");
        }

        /// Whatever the start, replicas that get ready once they exist make the rollout end, in exactly what is wanted.
        #[test]
        fn it_ends(wanted in 0usize..5, mut copies in any_copies(), surge in 0usize..3, unavailable in 0usize..3) {
            prop_assume!(surge + unavailable > 0);
            for round in 0..40 {
                let step = plan(wanted, 3, Budget { surge, unavailable }, &copies);
                copies = after(&copies, &step);
                copies.extend((0..step.create).map(|n| Member {
                    name: ReplicaName::new(format!("new-{round}-{n}")),
                    number: 3,
                    health: Health::Starting,
                    stays: true,
                }));
                if step == Step::default() && copies.iter().all(|copy| copy.health == Health::Ready) {
                    break;
                }
                copies.iter_mut().filter(|copy| copy.number == 3 && copy.stays && copy.health != Health::Lost).for_each(|copy| copy.health = Health::Ready);
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
                let step = plan(wanted, 3, STRICT, &copies);
                copies = after(&copies, &step);
                copies.extend((0..step.create).map(|n| Member {
                    name: ReplicaName::new(format!("new-{round}-{n}")),
                    number: 3,
                    health: Health::Failed,
                    stays: true,
                }));
            }
            prop_assert!(ready(&copies) >= before.min(wanted));
        }
    }
}
