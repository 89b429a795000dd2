use std::sync::Arc;

use proptest::prelude::*;
use skiff_api::id::{ReplicaName, RevisionName, Uid};
use skiff_api::resource::{ServiceSpec, Template};
use skiff_api::wire::Task;

use super::super::observed::Running;
use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn key(name: &str) -> ReplicaKey {
    ReplicaKey { namespace: "default".parse().unwrap(), name: ReplicaName::new(name) }
}

fn digest(number: u8) -> Digest {
    format!("sha256:{}", format!("{number:02x}").repeat(32)).parse().unwrap()
}

fn assignment(name: &str, image: &str) -> (ReplicaKey, Assignment) {
    let template = Arc::new(ServiceSpec::new(image.parse().unwrap()).template());
    let service = "cart".parse().unwrap();
    let revision = RevisionName::new("cart-1");
    (
        key(name),
        Assignment {
            replica: key(name),
            uid: Uid::new("1"),
            service,
            revision,
            template,
            trust: None,
            settings: None,
            task: None,
            stop: false,
            owner: None,
        },
    )
}

fn on(name: &str, number: u8) -> (ReplicaKey, Assignment) {
    assignment(name, &format!("cart@{}", digest(number)))
}

#[test]
fn replicas_of_one_image_share_its_pull() {
    let desired = BTreeMap::from([on("a", 1), on("b", 1), on("c", 2)]);
    let plan = plan(&desired, &Observed::default(), NOW);
    let pull = |number| Action::Pull { digest: digest(number), repository: "default/cart".to_owned() };
    assert_eq!(plan.actions, [pull(1), pull(2)]);
    assert!(plan.report.values().all(|standing| standing.phase == Phase::Pulling) && plan.report.len() == 3);
}

#[test]
fn a_failed_pull_waits_and_then_goes_elsewhere() {
    let other = assignment("b", &format!("other/cart@{}", digest(1)));
    let desired = BTreeMap::from([on("a", 1), other]);
    let mut observed = Observed::default();
    let failure = Failure::after(None, "PullFailed", "no such image".to_owned(), NOW);
    observed.code.insert(digest(1), Code { stage: CodeStage::Missing, failure: Some(failure.clone()) });
    let waiting = plan(&desired, &observed, NOW);
    assert!(waiting.actions.is_empty());
    assert_eq!(waiting.wake, failure.retry_at());
    assert_eq!(waiting.report[&key("a")].message, "no such image");
    let due = plan(&desired, &observed, failure.retry_at().unwrap());
    assert_eq!(due.actions, [Action::Pull { digest: digest(1), repository: "other/cart".to_owned() }]);
    assert_eq!(due.report[&key("a")].retries, 1);
}

#[test]
fn a_task_needs_a_lease_and_does_not_run_again() {
    let task = |stop| {
        BTreeMap::from(
            [on("a", 1)].map(|(key, one)| (key, Assignment { task: Some(Task { stop, ..Task::default() }), ..one })),
        )
    };
    let mut observed = Observed::default();
    let waits = plan(&task(false), &observed, NOW);
    assert!(waits.actions.is_empty() && waits.report[&key("a")].reason == "NoLease");
    observed.is_leased = true;
    assert_eq!(plan(&task(false), &observed, NOW).actions.len(), 1);
    assert!(plan(&task(true), &observed, NOW).report[&key("a")].ended, "it never began");
    observed.running.insert(key("a"), Running { uid: Uid::new("1"), stage: RunningStage::Ready });
    assert!(plan(&task(false), &observed, NOW).actions.is_empty());
    assert_eq!(plan(&task(true), &observed, NOW).actions, [Action::Stop(key("a"))]);
    observed.is_leased = false;
    assert_eq!(plan(&task(false), &observed, NOW).actions, [Action::Stop(key("a"))]);
    observed.running.clear();
    observed.is_leased = true;
    observed.ended.insert(key("a"), Ended::interrupted(&Uid::new("1"), "was stopped"));
    let ended = plan(&task(false), &observed, NOW);
    assert!(ended.actions.is_empty() && ended.report[&key("a")].ended);
    observed.ended.insert(key("a"), Ended::interrupted(&Uid::new("0"), "another one"));
    assert_eq!(plan(&task(false), &observed, NOW).actions.len(), 1);
}

#[test]
fn what_may_run_in_one_place_only_runs_with_a_lease_and_says_that_it_has_stopped() {
    let exclusive = |stop| {
        BTreeMap::from([on("a", 1)].map(|(key, one)| {
            let template = Template { exclusive: true, ..Template::clone(&one.template) };
            (key, Assignment { template: Arc::new(template), stop, ..one })
        }))
    };
    let mut observed = Observed::default();
    observed.code.insert(digest(1), Code { stage: CodeStage::Compiled, failure: None });
    let waits = plan(&exclusive(false), &observed, NOW);
    assert!(waits.actions.is_empty() && waits.report[&key("a")].reason == "NoLease");
    observed.is_leased = true;
    assert_eq!(plan(&exclusive(false), &observed, NOW).actions, [Action::Start(key("a"))]);
    observed.running.insert(key("a"), Running { uid: Uid::new("1"), stage: RunningStage::Ready });
    assert!(plan(&exclusive(false), &observed, NOW).actions.is_empty());
    observed.is_leased = false;
    assert_eq!(plan(&exclusive(false), &observed, NOW).actions, [Action::Stop(key("a"))]);
    // It has not ended: with the next lease, it begins again.
    observed.running.clear();
    assert!(!plan(&exclusive(false), &observed, NOW).report[&key("a")].ended);
    observed.is_leased = true;
    assert_eq!(plan(&exclusive(false), &observed, NOW).actions, [Action::Start(key("a"))]);
    // Told to stop, it has ended once it does not run.
    observed.running.insert(key("a"), Running { uid: Uid::new("1"), stage: RunningStage::Ready });
    let stops = plan(&exclusive(true), &observed, NOW);
    assert_eq!((stops.actions, stops.report[&key("a")].ended), (vec![Action::Stop(key("a"))], false));
    observed.running.clear();
    let stopped = plan(&exclusive(true), &observed, NOW);
    assert!(stopped.actions.is_empty() && stopped.report[&key("a")].ended);
}

#[test]
fn what_is_not_wanted_stops_and_a_namesake_is_replaced() {
    let desired = BTreeMap::from([on("b", 1), on("c", 1)]);
    let mut observed = Observed::default();
    observed.code.insert(digest(1), Code { stage: CodeStage::Compiled, failure: None });
    for (name, uid) in [("a", "1"), ("b", "1"), ("c", "0")] {
        observed.running.insert(key(name), Running { uid: Uid::new(uid), stage: RunningStage::Ready });
    }
    let plan = plan(&desired, &observed, NOW);
    assert_eq!(plan.actions, [Action::Stop(key("a")), Action::Stop(key("c"))]);
    assert_eq!(plan.report[&key("b")].phase, Phase::Ready);
}

#[test]
fn plans_for_parts_are_the_plan_for_the_whole() {
    let desired = BTreeMap::from([on("a", 1), on("b", 1), on("c", 2), on("d", 3), assignment("e", "cart:1")]);
    let mut observed = Observed::default();
    observed.code.insert(digest(2), Code { stage: CodeStage::Compiled, failure: None });
    for (name, uid, stage) in [("d", "0", RunningStage::Ready), ("x", "1", RunningStage::Stopping)] {
        observed.running.insert(key(name), Running { uid: Uid::new(uid), stage });
    }
    let whole = plan(&desired, &observed, NOW);
    let mut parts = Plan::default();
    for names in [&["a", "b"][..], &["c", "x"], &["d", "nobody"], &["e"]] {
        let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
        let part = plan_for(&desired, &observed, &keys, NOW);
        parts.actions.extend(part.actions);
        parts.report.extend(part.report);
    }
    parts.actions.sort();
    assert_eq!(parts, whole);
}

#[test]
fn what_cannot_run_is_refused_with_a_reason() {
    let mut desired = BTreeMap::from([assignment("a", "cart:1"), assignment("b", "registry.example.com/cart:1")]);
    desired.extend([on("../../etc", 1)]);
    let plan = plan(&desired, &Observed::default(), NOW);
    assert!(plan.actions.is_empty() && plan.wake.is_none());
    assert_eq!(plan.report.len(), 3);
    assert!(plan.report.values().all(|standing| standing.reason == "InvalidAssignment"));
}

/// A node in which everything takes one step and some things fail.
struct Toy {
    observed: Observed,
    now: Timestamp,
}

impl Toy {
    fn begin(&mut self, desired: &BTreeMap<ReplicaKey, Assignment>, action: &Action) {
        match action {
            Action::Stop(key) => self.observed.running.get_mut(key).unwrap().stage = RunningStage::Stopping,
            Action::Pull { digest, .. } => {
                self.observed.code.entry(digest.clone()).or_default().stage = CodeStage::Pulling
            }
            Action::Compile(digest) => self.observed.code.get_mut(digest).unwrap().stage = CodeStage::Compiling,
            Action::Start(key) => {
                let running = Running { uid: desired[key].uid.clone(), stage: RunningStage::Starting };
                assert!(self.observed.running.insert(key.clone(), running).is_none(), "{key} was started twice");
            }
        }
    }

    fn finish(&mut self, action: &Action, fails: bool) {
        let now = self.now;
        let code = |observed: &mut Observed, digest: &Digest, stage: [CodeStage; 2]| {
            let code = observed.code.get_mut(digest).unwrap();
            code.stage = stage[usize::from(fails)];
            code.failure = fails.then(|| Failure::after(code.failure.as_ref(), "Failed", String::new(), now));
        };
        match action {
            Action::Stop(key) => drop(self.observed.running.remove(key)),
            Action::Pull { digest, .. } => code(&mut self.observed, digest, [CodeStage::Pulled, CodeStage::Missing]),
            Action::Compile(digest) => code(&mut self.observed, digest, [CodeStage::Compiled, CodeStage::Pulled]),
            Action::Start(key) if fails => {
                self.observed.running.remove(key);
                let failure = Failure::after(self.observed.failed.get(key), "Failed", String::new(), now);
                self.observed.failed.insert(key.clone(), failure);
            }
            Action::Start(key) => {
                self.observed.running.get_mut(key).unwrap().stage = RunningStage::Ready;
                self.observed.failed.remove(key);
            }
        }
    }
}

proptest! {
    /// From any desired set over any other, with any failures, the node ends with exactly what is desired.
    #[test]
    fn the_plan_converges(
        sets in prop::collection::vec(prop::collection::btree_map(0u8..8, (0u8..4, 0u8..2), 0..8), 1..4),
        mut failures in prop::collection::vec(any::<bool>(), 0..40),
    ) {
        let mut toy = Toy { observed: Observed::default(), now: NOW };
        let mut desired = BTreeMap::new();
        let mut under_way: Vec<Action> = Vec::new();
        for set in sets {
            desired = set
                .into_iter()
                .map(|(name, (image, uid))| {
                    let (key, assignment) = on(&format!("r{name}"), image);
                    (key, Assignment { uid: Uid::new(uid.to_string()), ..assignment })
                })
                .collect();
            // A few steps only: the next set comes while things are under way.
            for _ in 0..3 {
                step(&mut toy, &desired, &mut under_way, &mut failures);
            }
        }
        let mut steps = 0;
        while step(&mut toy, &desired, &mut under_way, &mut failures) {
            steps += 1;
            prop_assert!(steps < 1000, "it does not settle");
        }
        let running: BTreeMap<_, _> = toy.observed.running.iter().map(|(key, running)| (key.clone(), running.uid.clone())).collect();
        let wanted: BTreeMap<_, _> = desired.iter().map(|(key, assignment)| (key.clone(), assignment.uid.clone())).collect();
        prop_assert_eq!(running, wanted);
        prop_assert!(toy.observed.running.values().all(|running| running.stage == RunningStage::Ready));
    }
}

/// Plans, begins what is planned, and finishes the oldest thing under way. Whether anything happened.
fn step(
    toy: &mut Toy,
    desired: &BTreeMap<ReplicaKey, Assignment>,
    under_way: &mut Vec<Action>,
    failures: &mut Vec<bool>,
) -> bool {
    let plan = plan(desired, &toy.observed, toy.now);
    for action in &plan.actions {
        assert!(!under_way.contains(action), "{action:?} is already under way");
        toy.begin(desired, action);
        under_way.push(action.clone());
    }
    if under_way.is_empty() {
        if let Some(wake) = plan.wake {
            assert!(wake > toy.now, "a plan that wakes at once would spin");
            toy.now = wake;
        }
        return plan.wake.is_some();
    }
    let action = under_way.remove(0);
    let fails = !matches!(action, Action::Stop(_)) && failures.pop().unwrap_or(false);
    toy.finish(&action, fails);
    true
}
