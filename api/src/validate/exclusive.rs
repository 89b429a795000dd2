//! What at most one copy may run of: the old one has ended before a new one starts, and a lease says when that is.

use super::Fault;
use crate::quantity::{Span, Timeout};
use crate::resource::{Offline, ServiceSpec, Update};
use crate::wire::LEASE_LAPSES_MS;

/// How soon a copy whose node was lost can be known to have ended.
const REPLACED_MIN: Span = Span::from_ms(LEASE_LAPSES_MS);

pub(super) fn check(spec: &ServiceSpec, faults: &mut Vec<Fault>) {
    if !spec.is_exclusive() {
        return;
    }
    let why = match spec.bound_by() {
        Some(volume) if !spec.exclusive => format!("with the volume {}", volume.called()),
        _ => "with exclusive: true".to_owned(),
    };
    if spec.replicas.count().is_none_or(|count| count > 1) {
        let message = format!("{} is more than the one copy that may run {why}", spec.replicas);
        faults.push(Fault::new("replicas", message, "write 1, or 0 to stop it"));
    }
    let Update { surge, unavailable, healthy } = spec.update;
    if surge > 1 || unavailable > 1 {
        let field = if surge > 1 { "update.surge" } else { "update.unavailable" };
        let message = format!("{why} the old copy ends before the new one starts, one after the other");
        faults.push(Fault::new(field, message, "leave update out"));
    }
    if healthy.as_ms() > 0 {
        let message = format!("{why} no new copy stands beside an old one that waits for it");
        faults.push(Fault::new("update.healthy", message, "leave it out"));
    }
    if let Timeout::After(span) = spec.offline.replace_after
        && span > Offline::REPLACE_AFTER_MIN
        && span < REPLACED_MIN
    {
        let message = format!("{why} a lost node's copy is replaced after {REPLACED_MIN} at the earliest");
        let hint = format!("leave it out for {REPLACED_MIN}, or write more, or `none` to wait for the node for ever");
        faults.push(Fault::new("offline.replaceAfter", message, &hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Replicas;

    fn faults(change: impl FnOnce(&mut ServiceSpec)) -> Vec<String> {
        let mut spec = ServiceSpec::new("cart:1".parse().unwrap());
        spec.exclusive = true;
        change(&mut spec);
        let mut faults = Vec::new();
        check(&spec, &mut faults);
        faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
    }

    #[test]
    fn one_copy_at_most_and_stop_before_start() {
        assert!(faults(|_| {}).is_empty());
        assert!(faults(|spec| spec.replicas = Replicas::Count(0)).is_empty());
        assert!(faults(|spec| (spec.exclusive, spec.replicas) = (false, Replicas::Count(9))).is_empty());
        assert_eq!(
            faults(|spec| spec.replicas = Replicas::Count(2)),
            ["replicas: 2 is more than the one copy that may run with exclusive: true"]
        );
        assert!(faults(|spec| spec.replicas = Replicas::EveryNode)[0].starts_with("replicas: every-node"));
        // What is so anyway may be said.
        assert!(faults(|spec| (spec.update.surge, spec.update.unavailable) = (0, 1)).is_empty());
        assert!(faults(|spec| spec.update.surge = 2)[0].starts_with("update.surge"));
        assert!(faults(|spec| spec.update.unavailable = 2)[0].starts_with("update.unavailable"));
        assert!(faults(|spec| spec.update.healthy = Span::from_secs(1))[0].starts_with("update.healthy"));
        let after = |text: &str| faults(|spec| spec.offline.replace_after = text.parse().unwrap());
        assert!(after("5s").is_empty() && after("33s").is_empty() && after("none").is_empty());
        assert!(after("10s")[0].contains("33s at the earliest"), "{:?}", after("10s"));
    }
}
