//! What a service's status says: counts, and one condition with the reason that helps most.

use jiff::Timestamp;
use skiff_api::RevisionName;
use skiff_api::resource::{Condition, Home, ReplicaStatus, Replicas, Service, ServiceStatus};

use super::state::Health;

/// The condition's name.
pub const READY: &str = "Ready";

/// A replica as the status sees it.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    pub name: &'a str,
    pub is_updated: bool,
    pub health: Health,
    pub status: &'a ReplicaStatus,
}

/// How many replicas there should be, and why one of them cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wants {
    pub replicas: u32,
    pub blocked: Option<Blocked>,
    /// The node that has its volumes.
    pub home: Option<Home>,
}

/// What keeps a replica from being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// One word for programs.
    pub reason: &'static str,
    pub message: String,
}

/// The status of a service with these replicas, in the order of their names.
pub fn status(
    service: &Service,
    revision: &RevisionName,
    wants: &Wants,
    replicas: &[Seen<'_>],
    now: Timestamp,
) -> ServiceStatus {
    let wanted = wants.replicas;
    let count = |is: &dyn Fn(&Seen<'_>) -> bool| {
        u32::try_from(replicas.iter().filter(|replica| is(replica)).count()).unwrap_or(u32::MAX)
    };
    let serving_new = count(&|replica| replica.is_updated && replica.health.serves());
    let serving_old = count(&|replica| !replica.is_updated && replica.health.serves());
    let ready = serving_new >= wanted;
    let (reason, message) = match ready {
        true if wanted == 0 && service.spec.replicas == Replicas::EveryNode => {
            ("NoNodes".to_owned(), "no node is to have a replica".to_owned())
        }
        true if wanted == 0 => ("ScaledToZero".to_owned(), "no replicas are wanted".to_owned()),
        true => ("Ready".to_owned(), format!("{serving_new} of {wanted} replicas of {revision} are ready")),
        false => {
            let progress = progress(revision, wanted, serving_new, serving_old);
            let blocked = || wants.blocked.clone().map(|Blocked { reason, message }| (reason.to_owned(), message));
            trouble(replicas)
                .or_else(blocked)
                .map_or(("Progressing".to_owned(), progress.clone()), |(reason, message)| {
                    (reason, format!("{progress}; {message}"))
                })
        }
    };
    let before = service.status.condition(READY).filter(|condition| condition.status == ready);
    let since = before.map_or(now, |condition| condition.since);
    ServiceStatus {
        observed_generation: service.metadata.generation,
        replicas: count(&|_| true),
        updated: count(&|replica| replica.is_updated),
        ready: serving_new + serving_old,
        revision: Some(revision.clone()),
        home: wants.home.clone(),
        conditions: vec![Condition { name: READY.to_owned(), status: ready, reason, message, since }],
    }
}

fn progress(revision: &RevisionName, wanted: u32, serving_new: u32, serving_old: u32) -> String {
    let old = match serving_old {
        0 => String::new(),
        1 => ", 1 of an older revision answers".to_owned(),
        n => format!(", {n} of older revisions answer"),
    };
    format!("{serving_new} of {wanted} replicas of {revision} are ready{old}")
}

/// What keeps the newest revision from being ready: a failure if there is one, else a replica that no node takes.
fn trouble(replicas: &[Seen<'_>]) -> Option<(String, String)> {
    let first = |health: Health| replicas.iter().find(|replica| replica.is_updated && replica.health == health);
    let replica = first(Health::Failed).or_else(|| first(Health::Unplaced))?;
    let reason = match replica.status.reason.as_str() {
        "" => "Failed",
        reason => reason,
    };
    Some((reason.to_owned(), format!("{}: {}", replica.name, replica.status.message)))
}

#[cfg(test)]
mod tests {
    use skiff_api::resource::Phase;

    use super::*;
    use crate::plan::testing::{self, memory};

    fn of(wanted: u32, replicas: &[(&str, bool, Health, &str)]) -> ServiceStatus {
        let service = testing::service("cart", wanted, memory(1));
        let statuses: Vec<ReplicaStatus> = (replicas.iter())
            .map(|(_, _, _, reason)| ReplicaStatus {
                phase: Phase::Pending,
                reason: (*reason).to_owned(),
                message: format!("it says {reason}"),
                ..ReplicaStatus::default()
            })
            .collect();
        let seen: Vec<Seen<'_>> = (replicas.iter().zip(&statuses))
            .map(|((name, is_updated, health, _), status)| Seen {
                name,
                is_updated: *is_updated,
                health: *health,
                status,
            })
            .collect();
        let wants = Wants { replicas: wanted, blocked: None, home: None };
        status(&service, &RevisionName::new("cart-2"), &wants, &seen, Timestamp::UNIX_EPOCH)
    }

    fn ready_condition(status: &ServiceStatus) -> (bool, &str, &str) {
        let condition = status.condition(READY).unwrap();
        (condition.status, condition.reason.as_str(), condition.message.as_str())
    }

    #[test]
    fn the_condition_names_what_helps_most() {
        let ready = of(1, &[("a", true, Health::Ready, "")]);
        assert_eq!(ready_condition(&ready), (true, "Ready", "1 of 1 replicas of cart-2 are ready"));
        let progressing = of(2, &[("a", true, Health::Starting, ""), ("o", false, Health::Ready, "")]);
        assert_eq!(
            ready_condition(&progressing),
            (false, "Progressing", "0 of 2 replicas of cart-2 are ready, 1 of an older revision answers")
        );
        assert_eq!((progressing.replicas, progressing.updated, progressing.ready), (2, 1, 1));
        let failed = of(2, &[("a", true, Health::Unplaced, "NoNodeFits"), ("b", true, Health::Failed, "ImagePull")]);
        assert_eq!(
            ready_condition(&failed),
            (false, "ImagePull", "0 of 2 replicas of cart-2 are ready; b: it says ImagePull")
        );
        let unplaced = of(1, &[("a", true, Health::Unplaced, "NoNodeFits"), ("o", false, Health::Failed, "Trap")]);
        assert_eq!(ready_condition(&unplaced).1, "NoNodeFits");
        assert_eq!(ready_condition(&of(0, &[])), (true, "ScaledToZero", "no replicas are wanted"));
    }

    #[test]
    fn a_condition_is_as_old_as_its_truth() {
        let mut service = testing::service("cart", 0, memory(1));
        let revision = RevisionName::new("cart-1");
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let wants = |replicas| Wants { replicas, blocked: None, home: None };
        service.status = status(&service, &revision, &wants(0), &[], at(5));
        service.status = status(&service, &revision, &wants(0), &[], at(6));
        assert_eq!(service.status.condition(READY).unwrap().since, at(5));
        service.status = status(&service, &revision, &wants(1), &[], at(7));
        assert_eq!(service.status.condition(READY).unwrap().since, at(7));
    }
}
