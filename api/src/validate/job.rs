//! Jobs: what is asked of a service's fields of the same names, and what only jobs have.

use super::{Fault, metadata, spec};
use crate::quantity::{Span, Timeout};
use crate::resource::{Concurrency, History, InstanceLimits, Job, JobSpec};
use crate::schedule::Invalid;

const COMPLETIONS_MAX: u32 = 100_000;
const PARALLELISM_MAX: u32 = 1000;
const RETRIES_MAX: u32 = 1000;
const HISTORY_MAX: u32 = 100;
/// Whoever means for ever says so.
const SPAN_MAX: Span = Span::from_secs(365 * 24 * 3600);
/// A schedule's jobs have the minute in their names.
const SCHEDULED_NAME_BYTES_MAX: usize = 52;

/// Everything that is wrong with a job, in the order of its fields.
pub fn job(job: &Job) -> Vec<Fault> {
    let mut faults = metadata(&job.metadata);
    let name = job.metadata.name.as_str();
    if job.spec.schedule.is_some() && name.len() > SCHEDULED_NAME_BYTES_MAX {
        let message = format!(
            "{} characters are more than the {SCHEDULED_NAME_BYTES_MAX} that the name of a job with a schedule may have",
            name.len()
        );
        faults.push(Fault::new("metadata.name", message, "its jobs have the minute in their names"));
    }
    own(&job.spec, &mut faults);
    let service = job.spec.as_service();
    faults.extend(spec(&service));
    faults
}

fn own(spec: &JobSpec, faults: &mut Vec<Fault>) {
    let counts = [
        ("completions", spec.completions, 1, COMPLETIONS_MAX),
        ("parallelism", spec.parallelism, 1, PARALLELISM_MAX),
        ("retries", spec.retries, 0, RETRIES_MAX),
        ("history.succeeded", spec.history.succeeded, 0, HISTORY_MAX),
        ("history.failed", spec.history.failed, 0, HISTORY_MAX),
    ];
    for (field, value, least, most) in
        counts.into_iter().filter(|(_, value, least, most)| value < least || value > most)
    {
        let hint = if field == "parallelism" { "to stop it for a while, write suspend: true" } else { "" };
        faults.push(Fault::new(field, format!("{value} is not between {least} and {most}"), hint));
    }
    let spans = [("deadline", spec.deadline), ("expire", spec.expire), ("startingDeadline", spec.starting_deadline)];
    for (field, value) in spans {
        let Timeout::After(span) = value else { continue };
        let least = if field == "expire" { 0 } else { 1000 };
        if span.as_ms() < least || span > SPAN_MAX {
            let message = format!("{span} is not between {least} ms and a year");
            faults.push(Fault::new(field, message, "leave it out for none"));
        }
    }
    match &spec.schedule {
        Some(schedule) => match schedule.check(spec.time_zone.as_deref()) {
            Ok(()) => {}
            Err(Invalid::Schedule(why)) => {
                let hint = "write MINUTE HOUR DAY MONTH WEEKDAY, such as \"0 3 * * *\" for each night at three, or @hourly, @daily, @weekly, @monthly";
                faults.push(Fault::new("schedule", format!("{:?} is not a schedule: {why}", schedule.as_str()), hint));
            }
            Err(Invalid::TimeZone) => {
                let zone = spec.time_zone.as_deref().unwrap_or_default();
                let hint = "name one of the IANA database, such as Europe/Berlin";
                faults.push(Fault::new("timeZone", format!("there is no time zone {zone:?}"), hint));
            }
        },
        None => {
            let only = [
                ("timeZone", spec.time_zone.is_some()),
                ("concurrency", spec.concurrency != Concurrency::default()),
                ("startingDeadline", spec.starting_deadline != Timeout::None),
                ("history", spec.history != History::default()),
            ];
            for (field, _) in only.into_iter().filter(|(_, is_set)| *is_set) {
                let hint = "write a schedule, or leave it out";
                faults.push(Fault::new(field, "it is for jobs with a schedule", hint));
            }
        }
    }
    streams(spec, faults);
    let defaults = InstanceLimits::default();
    if spec.instance.requests != defaults.requests || spec.instance.idle != defaults.idle {
        let hint = "only instance.memory is for jobs";
        faults.push(Fault::new("instance", "a task serves no requests", hint));
    }
}

/// A client attaches to one task, which is there once.
fn streams(spec: &JobSpec, faults: &mut Vec<Fault>) {
    if spec.tty && !spec.attach {
        faults.push(Fault::new("tty", "nobody attaches to it", "write attach: true as well, or leave it out"));
    }
    if !spec.attach {
        return;
    }
    let many = [("completions", spec.completions > 1), ("parallelism", spec.parallelism > 1)];
    for (field, _) in many.into_iter().filter(|(_, is_so)| *is_so) {
        faults.push(Fault::new(field, "with attach: true it can only be 1", "a client attaches to one task"));
    }
    if spec.schedule.is_some() {
        faults.push(Fault::new("attach", "nobody attaches to what a schedule begins", "leave one of the two out"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Metadata;
    use crate::schedule::Schedule;

    fn faults(change: impl FnOnce(&mut Job)) -> Vec<String> {
        let metadata = Metadata::new("default".parse().ok(), "report");
        let mut object = Job::new(metadata, JobSpec::new("report".parse().unwrap()));
        change(&mut object);
        job(&object).into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_plain_job_is_fine_and_ranges_are_checked() {
        assert!(faults(|_| ()).is_empty());
        assert_eq!(faults(|job| job.spec.completions = 0), ["completions"]);
        assert_eq!(faults(|job| job.spec.parallelism = 0), ["parallelism"]);
        assert_eq!(faults(|job| job.spec.deadline = "0s".parse().unwrap()), ["deadline"]);
        assert_eq!(faults(|job| job.spec.instance.requests = 2), ["instance"]);
        assert_eq!(faults(|job| drop(job.spec.env.insert("1".into(), String::new()))), ["env"]);
    }

    #[test]
    fn a_client_attaches_to_one_task() {
        assert!(faults(|job| (job.spec.attach, job.spec.tty) = (true, true)).is_empty());
        assert_eq!(faults(|job| job.spec.tty = true), ["tty"]);
        assert_eq!(faults(|job| (job.spec.attach, job.spec.completions) = (true, 2)), ["completions"]);
        let scheduled = |job: &mut Job| (job.spec.attach, job.spec.schedule) = (true, Some(Schedule::new("@daily")));
        assert_eq!(faults(scheduled), ["attach"]);
    }

    #[test]
    fn schedules_are_read_and_what_is_theirs_needs_one() {
        assert!(faults(|job| job.spec.schedule = Some(Schedule::new("@daily"))).is_empty());
        assert_eq!(faults(|job| job.spec.schedule = Some(Schedule::new("daily"))), ["schedule"]);
        let zone = |job: &mut Job| {
            job.spec.schedule = Some(Schedule::new("@daily"));
            job.spec.time_zone = Some("Here".to_owned());
        };
        assert_eq!(faults(zone), ["timeZone"]);
        assert_eq!(faults(|job| job.spec.time_zone = Some("UTC".to_owned())), ["timeZone"]);
        assert_eq!(faults(|job| job.spec.concurrency = Concurrency::Forbid), ["concurrency"]);
        let long = |job: &mut Job| {
            job.spec.schedule = Some(Schedule::new("@daily"));
            job.metadata.name = "a".repeat(53);
        };
        assert_eq!(faults(long), ["metadata.name"]);
    }
}
