//! One replica on every node: which nodes are to have one, which get one now, and which replicas go.
//!
//! A node on which an older revision runs gets the new one beside it, and the old one goes once the new one answers; at
//! most `surge` nodes are in the middle of that at once. A node that cannot be heard keeps what it has, for nobody else
//! can stand in for it. A cordoned node keeps its replica, too, and gets none; a drained one loses it.

use std::collections::BTreeMap;

use skiff_api::{NodeName, ReplicaName};

use super::rollout::{Budget, Removal, STEP_MAX, Why};
use super::state::Health;

/// What a node has to do with the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is to have a replica.
    Wants,
    /// It is to have one as soon as it can be heard again; it keeps what it has meanwhile.
    Waits,
    /// It keeps what it has, and gets nothing.
    Keeps,
    /// It is not to have one.
    Refuses,
}

/// A replica on a node.
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
    /// Nodes that are to have a replica, whether they have one or not.
    pub wanted: usize,
    pub create: Vec<NodeName>,
    pub remove: Vec<Removal>,
}

/// One step towards a replica of revision `target` on each node that wants one.
pub fn plan(
    nodes: &BTreeMap<NodeName, Standing>,
    members: &BTreeMap<NodeName, Vec<Member>>,
    target: u64,
    budget: Budget,
) -> Step {
    let mut step = Step::default();
    let mut fresh = Vec::new();
    let mut outdated = Vec::new();
    let mut under_way = 0;
    let names = nodes.keys().chain(members.keys().filter(|name| !nodes.contains_key(*name)));
    for name in names {
        let standing = nodes.get(name).copied().unwrap_or(Standing::Refuses);
        let here = members.get(name).map_or(&[] as &[_], Vec::as_slice);
        if standing == Standing::Refuses {
            step.remove.extend(here.iter().map(|member| removal(member, Why::Unwanted)));
            continue;
        }
        let is_wanted = matches!(standing, Standing::Wants | Standing::Waits);
        step.wanted += usize::from(is_wanted || !here.is_empty());
        let (mut new, old): (Vec<&Member>, Vec<&Member>) = here.iter().partition(|member| member.number == target);
        new.sort_unstable_by(|a, b| (b.health, &a.name).cmp(&(a.health, &b.name)));
        step.remove.extend(new.iter().skip(1).map(|member| removal(member, Why::Surplus)));
        match new.first().map(|member| member.health) {
            Some(Health::Ready) => step.remove.extend(old.iter().map(|member| removal(member, Why::Replaced))),
            Some(_) => under_way += usize::from(!old.is_empty()),
            None if standing != Standing::Wants => {}
            None if old.is_empty() => fresh.push(name.clone()),
            None => outdated.push(name.clone()),
        }
    }
    let room = budget.surge.max(1).saturating_sub(under_way);
    step.create = fresh.into_iter().chain(outdated.into_iter().take(room)).take(STEP_MAX).collect();
    step.remove.truncate(STEP_MAX);
    step
}

fn removal(member: &Member, why: Why) -> Removal {
    Removal { name: member.name.clone(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a:2r` is a ready replica of revision 2 on node a; `b` has none. A trailing `-` refuses, a `=` keeps, a `?` waits.
    fn step(text: &str) -> String {
        let mut nodes = BTreeMap::new();
        let mut members: BTreeMap<NodeName, Vec<Member>> = BTreeMap::new();
        for word in text.split_whitespace() {
            let (node, have) = word.split_once(':').unwrap_or((word, ""));
            let standing = match node.chars().last() {
                Some('-') => Standing::Refuses,
                Some('=') => Standing::Keeps,
                Some('?') => Standing::Waits,
                _ => Standing::Wants,
            };
            let name = NodeName::new(node.trim_end_matches(['-', '=', '?']));
            nodes.insert(name.clone(), standing);
            for (n, have) in have.split(',').filter(|have| !have.is_empty()).enumerate() {
                let (number, letter) = have.split_at(1);
                let health = if letter == "r" { Health::Ready } else { Health::Starting };
                let member = ReplicaName::new(format!("{name}{n}"));
                members.entry(name.clone()).or_default().push(Member {
                    name: member,
                    number: number.parse().unwrap(),
                    health,
                });
            }
        }
        let step = plan(&nodes, &members, 2, Budget { surge: 1, unavailable: 0 });
        let create: Vec<_> = step.create.iter().map(ToString::to_string).collect();
        let remove: Vec<_> = step.remove.iter().map(|removal| removal.name.to_string()).collect();
        format!("{} +[{}] -[{}]", step.wanted, create.join(" "), remove.join(" "))
    }

    #[test]
    fn every_node_has_one() {
        assert_eq!(step("a b"), "2 +[a b] -[]");
        assert_eq!(step("a:2r b"), "2 +[b] -[]");
        assert_eq!(step("a:2r b- c-:2r"), "1 +[] -[c0]");
        assert_eq!(step("a:2s,2r"), "1 +[] -[a0]");
    }

    #[test]
    fn nodes_are_updated_in_turn_and_new_ones_at_once() {
        assert_eq!(step("a:1r b:1r c"), "3 +[c a] -[]");
        assert_eq!(step("a:1r,2s b:1r c"), "3 +[c] -[]");
        assert_eq!(step("a:1r,2r b:1r"), "2 +[b] -[a0]");
    }

    #[test]
    fn what_cannot_be_heard_keeps_what_it_has() {
        assert_eq!(step("a=:1r b="), "1 +[] -[]");
        assert_eq!(step("a=:2s"), "1 +[] -[]");
        // After a restart of the control plane nobody was heard yet: it is not done with nothing.
        assert_eq!(step("a? b?:1r"), "2 +[] -[]");
    }
}
