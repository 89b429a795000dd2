use jiff::Timestamp;
use skiff_api::resource::{Concurrency, Condition, Job, JobSpec};
use skiff_api::schedule::Schedule;

use crate::plan::job::tests::Jobs;
use crate::plan::testing::key;

/// A job that recurs every ten minutes, looked at just after an hour has begun.
fn world(change: impl FnOnce(&mut JobSpec)) -> Jobs {
    let mut jobs = Jobs::new(&["a"]);
    jobs.pass(1);
    jobs.apply("tick", |job| {
        job.schedule = Some(Schedule::new("*/10 * * * *"));
        change(job);
    });
    jobs.settle("tick");
    jobs
}

fn made(jobs: &Jobs) -> Vec<String> {
    let uid = jobs.job("tick").metadata.uid.clone();
    jobs.state.made_by(&key("tick"), &uid).map(|(key, _)| key.name.to_string()).collect()
}

fn finish(jobs: &mut Jobs, name: &str, condition: &str) {
    let mut job = Job::clone(&jobs.job(name));
    job.status.finished = Some(jobs.now);
    job.status.conditions = vec![Condition {
        name: condition.to_owned(),
        status: true,
        reason: String::new(),
        message: String::new(),
        since: jobs.now,
    }];
    jobs.state.set_job(&key(name), Some(std::sync::Arc::new(job)));
}

/// So many minutes after the beginning of the world.
fn minute(minute: i64) -> i64 {
    let zero: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    zero.as_second() / 60 + minute
}

#[test]
fn a_job_is_made_each_time_and_none_twice() {
    let mut jobs = world(|_| ());
    assert!(made(&jobs).is_empty(), "nothing is due yet");
    assert_eq!(jobs.wake, Some("2026-01-01T00:10:00Z".parse().unwrap()));
    for n in 1..=3 {
        jobs.pass(600);
        jobs.settle("tick");
        assert_eq!(made(&jobs).len(), n);
        assert_eq!(jobs.settle("tick"), 0);
    }
    let status = jobs.job("tick").status.clone();
    assert_eq!((status.active, status.next_scheduled), (3, Some("2026-01-01T00:40:00Z".parse().unwrap())));
    let first = jobs.job(&format!("tick-{}", minute(10)));
    assert!(first.spec.schedule.is_none(), "it runs once");
    jobs.settle(&first.metadata.name);
    assert_eq!(jobs.job(&first.metadata.name).status.active, 1);
}

#[test]
fn what_was_missed_is_made_up_for_once_unless_it_is_too_late() {
    let mut jobs = world(|_| ());
    jobs.pass(4 * 3600 + 120);
    jobs.settle("tick");
    assert_eq!(made(&jobs), [format!("tick-{}", minute(240))], "the last one only");
    let mut jobs = world(|job| job.starting_deadline = "60s".parse().unwrap());
    jobs.pass(3600 + 120);
    jobs.settle("tick");
    assert!(made(&jobs).is_empty() && jobs.events.iter().any(|event| event.starts_with("Missed")), "{:?}", jobs.events);
    jobs.pass(480);
    jobs.settle("tick");
    assert_eq!(made(&jobs), [format!("tick-{}", minute(70))]);
}

#[test]
fn one_that_has_not_ended_decides_as_the_job_says() {
    let mut jobs = world(|job| job.concurrency = Concurrency::Forbid);
    jobs.pass(600);
    jobs.settle("tick");
    jobs.pass(600);
    jobs.settle("tick");
    assert_eq!(made(&jobs), [format!("tick-{}", minute(10))]);
    finish(&mut jobs, &format!("tick-{}", minute(10)), "Complete");
    jobs.settle("tick");
    assert_eq!(made(&jobs).len(), 1, "what was left out stays left out");
    jobs.pass(600);
    jobs.settle("tick");
    assert_eq!(made(&jobs).len(), 2);

    let mut jobs = world(|job| job.concurrency = Concurrency::Replace);
    for _ in 0..2 {
        jobs.pass(600);
        jobs.settle("tick");
    }
    assert_eq!(made(&jobs), [format!("tick-{}", minute(20))]);
}

#[test]
fn those_that_have_ended_stay_for_a_while() {
    let mut jobs = world(|job| (job.history.succeeded, job.history.failed) = (2, 1));
    for n in 1..=6 {
        jobs.pass(600);
        jobs.settle("tick");
        let condition = if n % 2 == 0 { "Failed" } else { "Complete" };
        finish(&mut jobs, &format!("tick-{}", minute(10 * n)), condition);
        jobs.settle("tick");
    }
    let expected = [30, 50, 60].map(|at| format!("tick-{}", minute(at)));
    assert_eq!(made(&jobs), expected);
    assert_eq!(jobs.job("tick").status.active, 0);
}

#[test]
fn suspended_it_makes_nothing_and_afterwards_makes_up_for_nothing() {
    let mut jobs = world(|job| job.suspend = true);
    jobs.pass(1800);
    jobs.settle("tick");
    assert!(made(&jobs).is_empty() && jobs.wake.is_none());
    jobs.apply("tick", |job| job.suspend = false);
    jobs.settle("tick");
    assert!(made(&jobs).is_empty());
    jobs.pass(600);
    jobs.settle("tick");
    assert_eq!(made(&jobs), [format!("tick-{}", minute(40))]);
}

#[test]
fn without_the_schedule_what_it_made_goes() {
    let mut jobs = world(|_| ());
    jobs.pass(600);
    jobs.settle("tick");
    let name = made(&jobs)[0].clone();
    jobs.state.set_job(&key("tick"), None);
    jobs.settle(&name);
    assert!(jobs.state.workload(&key(&name)).is_none());
}
