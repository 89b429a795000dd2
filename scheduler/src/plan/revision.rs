//! Revisions: when a service's spec needs a new one, and which old ones go.
//!
//! A revision is made when the part of the spec that replicas are made from differs from the newest revision's. Going
//! back to an earlier template makes a new revision too: numbers tell the order of what was rolled out.

use skiff_api::resource::{RevisionSpec, Template};
use skiff_api::{RevisionName, ServiceKey};

use super::Workload;

/// Enough to see what was running over the last days, few enough that they cost nothing.
pub const REVISIONS_KEPT: usize = 10;

/// The revision that replicas should have, and whether it must be made first.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Exists { name: RevisionName, number: u64 },
    Create { name: RevisionName, spec: Box<RevisionSpec> },
}

impl Target {
    pub fn name(&self) -> &RevisionName {
        match self {
            Self::Exists { name, .. } | Self::Create { name, .. } => name,
        }
    }

    pub fn number(&self) -> u64 {
        match self {
            Self::Exists { number, .. } => *number,
            Self::Create { spec, .. } => spec.number,
        }
    }
}

/// The revision for what a service or job now says that its replicas are made from.
pub fn target(key: &ServiceKey, template: Template, workload: &Workload) -> Target {
    let newest = workload.newest();
    match newest {
        Some(newest) if *newest.template == template => {
            Target::Exists { name: name(key, newest.object.spec.number), number: newest.object.spec.number }
        }
        _ => {
            let number = newest.map_or(0, |newest| newest.object.spec.number) + 1;
            let spec = RevisionSpec { service: key.name.clone(), number, template };
            Target::Create { name: name(key, number), spec: Box::new(spec) }
        }
    }
}

/// Old revisions that nothing runs any more, beyond those that are kept, the oldest first.
pub fn expired(workload: &Workload, target: &Target) -> Vec<RevisionName> {
    let mut old: Vec<_> = workload
        .revisions
        .iter()
        .filter(|(name, _)| *name != target.name())
        .map(|(name, r)| (r.object.spec.number, name))
        .collect();
    old.sort_unstable();
    let surplus = (old.len() + 1).saturating_sub(REVISIONS_KEPT);
    let in_use = |name: &RevisionName| workload.replicas.values().any(|replica| replica.spec.revision == *name);
    old.into_iter().take(surplus).map(|(_, name)| name).filter(|name| !in_use(name)).cloned().collect()
}

fn name(key: &ServiceKey, number: u64) -> RevisionName {
    RevisionName::new(format!("{}-{number}", key.name))
}

#[cfg(test)]
mod tests {
    use skiff_api::resource::Phase;

    use super::*;
    use crate::plan::testing::{World, key, memory};

    #[test]
    fn a_changed_template_makes_the_next_revision() {
        let mut world = World::new();
        world.service("cart", 1, memory(1));
        let target_of = |world: &World| {
            let workload = world.state.workload(&key("cart")).unwrap();
            target(&key("cart"), workload.service.as_ref().unwrap().spec.template(), workload)
        };
        assert!(matches!(target_of(&world), Target::Create { name, .. } if name.as_str() == "cart-1"));
        world.revision("cart", 1, memory(1));
        assert!(matches!(target_of(&world), Target::Exists { number: 1, .. }));
        // The number of replicas is not part of the template.
        world.service("cart", 5, memory(1));
        assert!(matches!(target_of(&world), Target::Exists { number: 1, .. }));
        world.service("cart", 5, memory(2));
        assert!(matches!(target_of(&world), Target::Create { name, .. } if name.as_str() == "cart-2"));
        // Back to the first: a new number all the same.
        world.revision("cart", 2, memory(2));
        world.service("cart", 5, memory(1));
        assert!(matches!(target_of(&world), Target::Create { name, .. } if name.as_str() == "cart-3"));
    }

    #[test]
    fn ten_are_kept_and_those_in_use() {
        let mut world = World::new();
        world.service("cart", 1, memory(12));
        (1..=12).for_each(|number| world.revision("cart", number, memory(number)));
        let expired_of = |world: &World| {
            let workload = world.state.workload(&key("cart")).unwrap();
            let target = target(&key("cart"), workload.service.as_ref().unwrap().spec.template(), workload);
            expired(workload, &target).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        // By number, not by name: cart-10 comes after cart-2.
        assert_eq!(expired_of(&world), ["cart-1", "cart-2"]);
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Ready);
        assert_eq!(expired_of(&world), ["cart-2"]);
    }
}
