use std::sync::Arc;

use proptest::prelude::*;
use skiff_api::resource::{JobSpec, Liveness, Metadata, Node, NodeSpec, Owner, ReplicaSpec, Revision};
use skiff_api::{NodeName, RevisionName, Uid};

use super::*;
use crate::plan::lint::Lint;
use crate::plan::service as planner;
use crate::plan::testing::{key, memory};

/// Jobs, nodes and a clock; plans are linted and carried out on the spot.
pub(in crate::plan) struct Jobs {
    pub(in crate::plan) state: State,
    pub(in crate::plan) now: Timestamp,
    pub(in crate::plan) events: Vec<String>,
    /// When the last plan wanted to be made again.
    pub(in crate::plan) wake: Option<Timestamp>,
    names: Names,
}

impl Jobs {
    pub(in crate::plan) fn new(nodes: &[&str]) -> Self {
        let mut jobs = Self {
            state: State::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            events: Vec::new(),
            wake: None,
            names: Names::new(1),
        };
        for name in nodes {
            let mut node = Node::new(Metadata::new(None, *name), NodeSpec::default());
            (node.status.liveness, node.status.capacity) = (Liveness::Alive, memory(100));
            jobs.state.set_node(&NodeName::new(*name), Some(Arc::new(node)));
        }
        jobs
    }

    pub(in crate::plan) fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    pub(in crate::plan) fn apply(&mut self, name: &str, change: impl FnOnce(&mut JobSpec)) {
        let before = self.state.workload(&key(name)).and_then(|workload| workload.job.clone());
        let mut job = before.map_or_else(
            || {
                let image = format!("{name}:1@sha256:{}", "0".repeat(64)).parse().unwrap();
                let mut metadata = Metadata::new(Some(key(name).namespace), name);
                (metadata.uid, metadata.created) = (Uid::new(format!("uid of {name}")), self.now);
                Job::new(metadata, JobSpec::new(image))
            },
            |job| Job::clone(&job),
        );
        change(&mut job.spec);
        job.metadata.generation += 1;
        self.state.set_job(&key(name), Some(Arc::new(job)));
    }

    pub(in crate::plan) fn job(&self, name: &str) -> Arc<Job> {
        self.state.workload(&key(name)).unwrap().job.clone().unwrap()
    }

    fn status(&self, name: &str) -> JobStatus {
        self.job(name).status.clone()
    }

    /// Plans until nothing is to be done. Answers how many steps that took.
    pub(in crate::plan) fn settle(&mut self, name: &str) -> usize {
        for step in 0..100 {
            let mut board = Board::new(&self.state);
            let plan = planner::plan(&self.state, &key(name), &mut board, &mut self.names, self.now);
            assert_eq!(Lint::new(&self.state).check(&plan), [], "{plan:?}");
            self.wake = plan.wake;
            assert!(plan.actions.len() <= 110, "{} actions are no transaction", plan.actions.len());
            if plan.is_empty() {
                return step;
            }
            self.execute(plan);
        }
        panic!("{name} does not settle");
    }

    fn execute(&mut self, plan: Plan) {
        let (owner, key) = (plan.service.name.to_string(), plan.service);
        self.events.extend(plan.events.iter().map(|event| format!("{}: {}", event.reason, event.message)));
        for action in plan.actions {
            match action {
                Action::CreateRevision { name, spec } => {
                    let revision = Revision::new(self.metadata(&owner, name.as_str()), *spec);
                    self.state.set_revision(&key, name, Some(Arc::new(revision)));
                }
                Action::DeleteRevision { name } => self.state.set_revision(&key, name, None),
                Action::CreateReplica { name, revision, node, status } => {
                    let spec = ReplicaSpec { service: key.name.clone(), revision, node, moves_to: None, stop: false };
                    let mut replica = Replica::new(self.metadata(&owner, name.as_str()), spec);
                    replica.status = status;
                    self.state.set_replica(&key, &name, Some(Arc::new(replica)));
                }
                Action::Place { name, node } => {
                    self.change(&owner, name.as_str(), |replica| {
                        replica.spec.node = Some(node);
                        replica.status = ReplicaStatus::default();
                    });
                }
                Action::Explain { name, status } => {
                    self.change(&owner, name.as_str(), |replica| replica.status = status);
                }
                Action::StopReplica { name } => {
                    self.change(&owner, name.as_str(), |replica| {
                        assert!(!replica.spec.stop, "{name} is told twice");
                        replica.spec.stop = true;
                    });
                }
                Action::DeleteReplica { name } => self.state.set_replica(&key, &name, None),
                Action::SetJobStatus(status) => {
                    let job = Job { status, ..Job::clone(&self.job(&owner)) };
                    self.state.set_job(&key, Some(Arc::new(job)));
                }
                Action::CreateJob { name, spec } => {
                    let job = Job::new(self.metadata(&owner, name.as_str()), *spec);
                    self.state.set_job(&crate::plan::testing::key(name.as_str()), Some(Arc::new(job)));
                }
                Action::DeleteJob { name } => {
                    self.state.set_job(&crate::plan::testing::key(name.as_str()), None);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn metadata(&self, owner: &str, name: &str) -> Metadata {
        let mut metadata = Metadata::new(Some(key(owner).namespace), name);
        (metadata.uid, metadata.created) = (Uid::new(format!("uid of {name}")), self.now);
        metadata.generation = 1;
        let uid = self.job(owner).metadata.uid.clone();
        metadata.owners = vec![Owner { kind: Kind::Job, name: owner.to_owned(), uid }];
        metadata
    }

    fn change(&mut self, job: &str, name: &str, change: impl FnOnce(&mut Replica)) {
        let name = ReplicaName::new(name);
        let mut replica = Replica::clone(&self.state.workload(&key(job)).unwrap().replicas[&name]);
        change(&mut replica);
        self.state.set_replica(&key(job), &name, Some(Arc::new(replica)));
    }

    /// What is there of a job, and has not ended.
    fn active(&self, job: &str) -> Vec<Arc<Replica>> {
        let replicas = self.state.workload(&key(job)).into_iter().flat_map(|workload| workload.replicas.values());
        replicas.filter(|replica| !replica.status.ended).cloned().collect()
    }

    /// Its node says that a task has ended.
    fn end(&mut self, job: &str, name: &str, status: ReplicaStatus) {
        let since = self.now;
        self.change(job, name, |replica| replica.status = ReplicaStatus { since, ended: true, ..status });
    }

    fn exit(&mut self, job: &str, name: &str, code: i32) {
        let (phase, reason) = if code == 0 { (Phase::Succeeded, "") } else { (Phase::Failed, "Exited") };
        let message = format!("exited with status {code}");
        let status =
            ReplicaStatus { phase, reason: reason.to_owned(), message, exit_code: Some(code), ..Default::default() };
        self.end(job, name, status);
    }

    fn exit_all(&mut self, job: &str, code: i32) {
        for task in self.active(job) {
            self.exit(job, &task.metadata.name, code);
        }
    }

    /// A node is not heard for longer than a lease, or is heard again.
    fn lapse(&mut self, node: &str, is_lapsed: bool) {
        let name = NodeName::new(node);
        if let Some(object) = self.state.node(&name).and_then(|node| node.node.as_ref()) {
            let mut object = Node::clone(object);
            object.status.liveness = if is_lapsed { Liveness::Dead } else { Liveness::Alive };
            self.state.set_node(&name, Some(Arc::new(object)));
        }
        self.state.set_lapsed(&name, is_lapsed);
    }
}

#[test]
fn tasks_run_until_enough_have_succeeded() {
    let mut jobs = Jobs::new(&["a", "b"]);
    jobs.apply("report", |job| (job.completions, job.parallelism) = (3, 2));
    jobs.settle("report");
    assert_eq!(jobs.active("report").len(), 2);
    jobs.exit_all("report", 0);
    jobs.settle("report");
    assert_eq!((jobs.status("report").succeeded, jobs.active("report").len()), (2, 1), "no more than are needed");
    jobs.exit_all("report", 0);
    jobs.settle("report");
    let status = jobs.status("report");
    assert_eq!((status.succeeded, status.active, status.finished), (3, 0, Some(jobs.now)));
    assert!(status.condition(COMPLETE).is_some_and(|condition| condition.status));
    assert_eq!(jobs.settle("report"), 0);
    // What has ended reserves nothing.
    assert!(jobs.state.nodes().values().all(|node| node.reserved == skiff_api::resource::Resources::ZERO));
}

#[test]
fn failures_are_followed_later_each_time_until_they_are_too_many() {
    let mut jobs = Jobs::new(&["a"]);
    jobs.apply("bad", |job| job.retries = 2);
    for (failures, wait) in [(1, 1), (2, 2)] {
        jobs.settle("bad");
        jobs.exit_all("bad", 3);
        jobs.settle("bad");
        assert_eq!((jobs.status("bad").failed, jobs.active("bad").len()), (failures, 0));
        assert_eq!(jobs.status("bad").conditions[0].reason, "BackOff");
        assert_eq!(jobs.wake, Some(after(jobs.now, wait * 1000)));
        jobs.pass(wait);
    }
    jobs.settle("bad");
    jobs.exit_all("bad", 3);
    jobs.settle("bad");
    let failed = jobs.status("bad").condition(FAILED).cloned().unwrap();
    assert_eq!((failed.status, failed.reason.as_str()), (true, "TooManyFailures"));
    assert!(failed.message.contains("exited with status 3"), "{}", failed.message);
    jobs.pass(1000);
    assert_eq!((jobs.settle("bad"), jobs.active("bad").len()), (0, 0));
    // Another template is another run.
    jobs.apply("bad", |job| job.args.push("--again".to_owned()));
    jobs.settle("bad");
    let status = jobs.status("bad");
    assert_eq!((status.failed, status.finished, jobs.active("bad").len()), (0, None, 1));
    assert_eq!(jobs.state.workload(&key("bad")).unwrap().replicas.len(), 1, "those of before are gone");
}

#[test]
fn nothing_takes_the_place_of_a_task_before_its_end_is_known() {
    let mut jobs = Jobs::new(&["a", "b"]);
    jobs.apply("once", |_| ());
    jobs.settle("once");
    let first = jobs.active("once")[0].clone();
    let node = first.spec.node.clone().unwrap();
    // Drained: it is told to stop, and its successor waits for that.
    let drained = |jobs: &mut Jobs, draining| {
        let mut object = Node::clone(jobs.state.node(&node).unwrap().node.as_ref().unwrap());
        (object.spec.draining, object.spec.unschedulable) = (draining, draining);
        jobs.state.set_node(&node, Some(Arc::new(object)));
    };
    drained(&mut jobs, true);
    jobs.settle("once");
    assert!(jobs.active("once").len() == 1 && jobs.active("once")[0].spec.stop);
    jobs.end("once", &first.metadata.name, ReplicaStatus::interrupted("was stopped"));
    jobs.settle("once");
    let second = jobs.active("once")[0].clone();
    assert!(second.spec.node.as_ref() != Some(&node) && jobs.status("once").failed == 0);
    drained(&mut jobs, false);
    // Its node is dead, and then no object any more: only the lease counts.
    let other = second.spec.node.clone().unwrap();
    jobs.state.set_node(&other, None);
    jobs.settle("once");
    assert_eq!(jobs.active("once").len(), 1);
    jobs.lapse(other.as_str(), true);
    jobs.settle("once");
    let third = jobs.active("once");
    assert_eq!((third.len(), third[0].spec.node.as_ref()), (1, Some(&node)));
    assert!(jobs.events.iter().any(|event| event.contains("its node is lost")), "{:?}", jobs.events);
}

#[test]
fn deadlines_suspension_and_expiry() {
    let mut jobs = Jobs::new(&["a"]);
    jobs.apply("slow", |job| {
        job.deadline = "60s".parse().unwrap();
        job.expire = "10s".parse().unwrap();
    });
    jobs.settle("slow");
    jobs.pass(50);
    jobs.apply("slow", |job| job.suspend = true);
    jobs.settle("slow");
    assert!(jobs.active("slow")[0].spec.stop);
    assert_eq!(jobs.status("slow").conditions[0].reason, "Suspended");
    let name = jobs.active("slow")[0].metadata.name.clone();
    jobs.end("slow", &name, ReplicaStatus::interrupted("was stopped"));
    jobs.settle("slow");
    jobs.pass(100);
    jobs.apply("slow", |job| job.suspend = false);
    jobs.settle("slow");
    assert_eq!(jobs.active("slow").len(), 1, "its time is counted anew");
    jobs.pass(60);
    jobs.settle("slow");
    let failed = jobs.status("slow").condition(FAILED).cloned().unwrap();
    assert_eq!(failed.reason, "DeadlineExceeded");
    assert!(jobs.active("slow")[0].spec.stop);
    jobs.pass(10);
    jobs.settle("slow");
    assert!(jobs.state.workload(&key("slow")).is_none_or(|workload| workload.job.is_none()));
}

#[test]
fn what_has_ended_is_counted_when_it_is_no_object_any_more() {
    let mut jobs = Jobs::new(&["a"]);
    jobs.apply("many", |job| (job.completions, job.parallelism) = (50, 7));
    while jobs.status("many").finished.is_none() {
        jobs.settle("many");
        jobs.exit_all("many", 0);
        jobs.pass(1);
    }
    assert_eq!(jobs.status("many").succeeded, 50);
    assert!(jobs.state.workload(&key("many")).unwrap().replicas.len() <= ENDED_KEPT);
}

#[test]
fn hundreds_of_tasks_are_ended_in_steps() {
    let mut jobs = Jobs::new(&["a"]);
    jobs.apply("wide", |job| (job.completions, job.parallelism, job.resources) = (400, 400, memory(0)));
    jobs.settle("wide");
    assert_eq!(jobs.active("wide").len(), 400);
    jobs.apply("wide", |job| job.args.push("again".to_owned()));
    jobs.settle("wide");
    assert!(jobs.active("wide").iter().all(|task| task.spec.stop));
    for task in jobs.active("wide") {
        jobs.end("wide", &task.metadata.name, ReplicaStatus::interrupted("was stopped"));
    }
    jobs.settle("wide");
    assert_eq!(jobs.active("wide").len(), 400);
    jobs.exit_all("wide", 0);
    jobs.settle("wide");
    assert_eq!((jobs.status("wide").succeeded, jobs.status("wide").finished), (400, Some(jobs.now)));
}

#[test]
fn one_that_no_node_takes_says_why() {
    let mut jobs = Jobs::new(&["a"]);
    jobs.apply("large", |job| job.resources = memory(1000));
    jobs.settle("large");
    let status = jobs.status("large");
    assert_eq!((status.active, status.conditions[0].reason.as_str()), (1, "NoNodeFits"));
    jobs.apply("large", |job| job.resources = memory(1));
    jobs.settle("large");
    assert!(jobs.active("large").len() == 1 && jobs.active("large")[0].spec.node.is_some());
}

proptest! {
    /// Whatever happens to its tasks and nodes: never more run than may, none is counted twice, and it comes to its end.
    #[test]
    fn it_ends_and_counts_each_task_once(
        completions in 1u32..8, parallelism in 1u32..4, script in prop::collection::vec((0u8..6, 0usize..4), 0..40),
    ) {
        let mut jobs = Jobs::new(&["a", "b"]);
        jobs.apply("x", |job| (job.completions, job.parallelism, job.retries) = (completions, parallelism, 1000));
        let (mut succeeded, mut failed) = (0, 0);
        let may_run = usize::try_from(parallelism).unwrap();
        for (what, which) in script {
            jobs.settle("x");
            let active = jobs.active("x");
            prop_assert!(active.len() <= may_run);
            let task = active.get(which % active.len().max(1)).map(|task| task.metadata.name.clone());
            match (what, task) {
                (0 | 1, Some(task)) => {
                    succeeded += 1;
                    jobs.exit("x", &task, 0);
                }
                (2, Some(task)) => {
                    failed += 1;
                    jobs.exit("x", &task, 1);
                }
                (3, Some(task)) => jobs.end("x", &task, ReplicaStatus::interrupted("its node was restarted")),
                (4, _) => {
                    jobs.lapse("a", true);
                    jobs.settle("x");
                    jobs.lapse("a", false);
                }
                _ => jobs.pass(7),
            }
            if succeeded >= completions {
                break;
            }
        }
        while jobs.status("x").finished.is_none() {
            jobs.settle("x");
            prop_assert!(jobs.active("x").len() <= may_run);
            for task in jobs.active("x") {
                succeeded += 1;
                jobs.exit("x", &task.metadata.name, 0);
            }
            jobs.pass(61);
        }
        let status = jobs.status("x");
        prop_assert_eq!((status.succeeded, status.failed), (succeeded, failed));
        prop_assert!(succeeded >= completions && succeeded < completions + parallelism);
    }
}

#[test]
fn revisions_tell_which_run_a_task_belongs_to() {
    let mut jobs = Jobs::new(&["a"]);
    jobs.apply("again", |_| ());
    jobs.settle("again");
    let old = jobs.active("again")[0].clone();
    jobs.apply("again", |job| job.args.push("x".to_owned()));
    jobs.settle("again");
    // The old one stops first, whatever it then says.
    assert!(jobs.active("again").len() == 1 && jobs.active("again")[0].spec.stop);
    jobs.exit("again", &old.metadata.name, 0);
    jobs.settle("again");
    let new = jobs.active("again");
    assert_eq!((new.len(), jobs.status("again").succeeded), (1, 0));
    assert_eq!(new[0].spec.revision, RevisionName::new("again-2"));
}
