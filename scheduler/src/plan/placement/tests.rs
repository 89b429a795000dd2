use std::collections::BTreeMap;

use proptest::prelude::*;
use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::{Placement, Strategy};

use super::*;
use crate::plan::testing::World;

fn resources(memory: u64, cpu: u64) -> Resources {
    Resources { memory: Bytes(memory), cpu: MilliCpu(cpu) }
}

/// Capacity, what is reserved of it, zone.
type Furnished<'a> = ((u64, u64), (u64, u64), &'a str);

/// Nodes `n0`, `n1`, ... with what is reserved there and, where it is not empty, a zone.
fn board(seats: &[Furnished<'_>]) -> Board {
    let mut world = World::new();
    for (n, (capacity, _, zone)) in seats.iter().enumerate() {
        let name = format!("n{n}");
        world.node(&name, resources(capacity.0, capacity.1));
        if !zone.is_empty() {
            world.label(&name, "zone", zone);
        }
    }
    let mut board = Board::new(&world.state);
    for (n, (_, reserved, _)) in seats.iter().enumerate() {
        board.reserve(&NodeName::new(format!("n{n}")), resources(reserved.0, reserved.1));
    }
    board
}

fn ask(wanted: Resources, placement: &Placement) -> Ask<'_> {
    Ask { wanted, placement, strategy: Strategy::Spread, runtime: None }
}

#[test]
fn refusals_are_told_by_reason() {
    let wanted = resources(3 << 30, 2000);
    let placement = Placement::default();
    let message = |world: &World| {
        let mut board = Board::new(&world.state);
        place(&mut board, &ask(wanted, &placement), &Peers::default()).unwrap_err().to_string()
    };
    let mut world = World::new();
    assert_eq!(message(&world), "there is no node");
    world.node("a", resources(5 << 28, 9000));
    assert_eq!(message(&world), "0/1 nodes fit: 1 lacks 3Gi of memory (free: 1.2Gi)");
    world.node("b", resources(5 << 28, 9000));
    world.node("c", resources(4 << 30, 1500));
    for name in ["d", "e"] {
        world.node(name, resources(4 << 30, 4000));
        world.suspect(name);
    }
    assert_eq!(
        message(&world),
        "0/5 nodes fit: 2 are suspect, 2 lack 3Gi of memory (most free: 1.2Gi), 1 lacks 2 of CPU (free: 1500m)"
    );
    world.taint("a", "edge=far:NoSchedule");
    world.spec("b", |spec| spec.unschedulable = true);
    world.taint("c", "slow:PreferNoSchedule");
    assert_eq!(
        message(&world),
        "0/5 nodes fit: 1 is cordoned, 2 are suspect, 1 has the taint edge=far:NoSchedule, 1 lacks 2 of CPU (free: 1500m)"
    );
}

#[test]
fn spreads_first_then_fills_evenly_then_goes_by_name() {
    let mut board = board(&[((100, 100), (50, 0), ""), ((100, 100), (0, 0), ""), ((100, 100), (0, 0), "")]);
    let placement = Placement::default();
    let mut choose = |siblings: &[&str]| {
        let mut peers = Peers::default();
        siblings.iter().for_each(|node| board.meet(&mut peers, &NodeName::new(*node), &placement));
        place(&mut board, &ask(resources(10, 1), &placement), &peers).unwrap().score.node.to_string()
    };
    assert_eq!(choose(&[]), "n1");
    assert_eq!(choose(&[]), "n2");
    assert_eq!(choose(&["n1", "n2"]), "n0");
}

#[test]
fn zones_come_before_nodes_and_preferences_before_zones() {
    let mut placement = Placement::default();
    let seats = [((100, 100), (90, 0), "a"), ((100, 100), (0, 0), "b"), ((100, 100), (0, 0), "b")];
    let choose = |placement: &Placement, siblings: &[&str]| {
        let mut board = board(&seats);
        let mut peers = Peers::default();
        siblings.iter().for_each(|node| board.meet(&mut peers, &NodeName::new(*node), placement));
        place(&mut board, &ask(resources(10, 1), placement), &peers).unwrap().score.node.to_string()
    };
    assert_eq!(choose(&placement, &["n1"]), "n0", "the other zone, however full");
    placement.spread = Some("rack".to_owned());
    assert_eq!(choose(&placement, &["n1"]), "n2", "nobody has a rack, so nodes count");
    placement.spread = None;
    placement.prefer = vec![
        BTreeMap::from([("gpu".to_owned(), "1".to_owned())]),
        BTreeMap::from([("zone".to_owned(), "b".to_owned())]),
    ];
    assert_eq!(choose(&placement, &["n1"]), "n2");
    placement.require = BTreeMap::from([("node".to_owned(), "n0".to_owned())]);
    assert_eq!(choose(&placement, &[]), "n0");
}

#[test]
fn packs_onto_the_fullest_that_has_room() {
    let mut board = board(&[((100, 100), (50, 0), "a"), ((100, 100), (95, 0), "a"), ((100, 100), (0, 0), "b")]);
    let placement = Placement::default();
    let ask = Ask { strategy: Strategy::Pack, ..ask(resources(10, 1), &placement) };
    let mut names = Vec::new();
    for _ in 0..6 {
        names.push(place(&mut board, &ask, &Peers::default()).unwrap().score.node.to_string());
    }
    assert_eq!(names, ["n0", "n0", "n0", "n0", "n0", "n2"]);
}

#[test]
fn the_full_text_of_a_choice() {
    let mut board = board(&[((1000, 1000), (50, 0), "")]);
    let placement = Placement::default();
    let choice = place(&mut board, &ask(resources(5, 1), &placement), &Peers::default()).unwrap();
    assert_eq!(choice.to_string(), "best of 1 node: n0 has 0 of the service's replicas and will be 5.5% reserved");
}

#[test]
fn quotas_say_what_is_used_up() {
    let quota = Quota { replicas: Some(3), memory: Some(Bytes::mebi(10)), cpu: None };
    assert_eq!(within(&quota, 2, resources(0, 0), resources(1, 1)), Ok(()));
    let refused = within(&quota, 3, resources(8 << 20, 0), resources(4 << 20, 1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the namespace's quota is used up: 3 of 3 replicas are placed, 8Mi of 10Mi memory are reserved, and it wants 4Mi"
    );
}

type AnySeat = ((u64, u64), (u64, u64), usize);

fn any_seat() -> impl Strategy_<Value = AnySeat> {
    ((1u64..100, 1u64..100), (0u64..=100, 0u64..=100), 0usize..3)
        .prop_map(|(capacity, part, zone)| (capacity, (capacity.0 * part.0 / 100, capacity.1 * part.1 / 100), zone))
}

use proptest::strategy::Strategy as Strategy_;

proptest! {
    /// Against a checker that knows nothing of indexes, filters and scores: it tries every node and compares every pair.
    /// Some boards are larger than the walk, so that both ways of finding the best are taken.
    #[test]
    fn the_choice_is_allowed_and_no_other_is_better(
        seats in prop_oneof![prop::collection::vec(any_seat(), 0..6), prop::collection::vec(any_seat(), 50..90)],
        wanted in prop::collection::vec((0u64..40, 0u64..40), 1..8),
        siblings in prop::collection::vec(0usize..3, 6),
        packs in any::<bool>(),
    ) {
        const ZONES: [&str; 3] = ["", "a", "b"];
        let named: Vec<_> = seats.iter().map(|(capacity, reserved, zone)| (*capacity, *reserved, ZONES[*zone])).collect();
        let mut board = board(&named);
        let placement = Placement::default();
        let mut peers = Peers::default();
        let siblings = |n: usize| if n < seats.len() { siblings.get(n).copied().unwrap_or(0) } else { 0 };
        for n in 0..seats.len() {
            (0..siblings(n)).for_each(|_| board.meet(&mut peers, &NodeName::new(format!("n{n}")), &placement));
        }
        let in_zone = |zone: usize| (0..seats.len()).filter(|n| seats[*n].2 == zone).map(siblings).sum::<usize>();
        let mut reserved: Vec<(u64, u64)> = seats.iter().map(|seat| seat.1).collect();
        let strategy = if packs { Strategy::Pack } else { Strategy::Spread };
        for (memory, cpu) in wanted {
            let allowed: Vec<usize> = (0..seats.len())
                .filter(|&n| reserved[n].0 + memory <= seats[n].0.0 && reserved[n].1 + cpu <= seats[n].0.1)
                .collect();
            let ask = Ask { strategy, ..ask(resources(memory, cpu), &placement) };
            match place(&mut board, &ask, &peers) {
                Err(refused) => {
                    prop_assert!(allowed.is_empty());
                    prop_assert_eq!(refused.tally.nodes, seats.len());
                }
                Ok(choice) => {
                    let chosen: usize = choice.score.node.as_str()[1..].parse().unwrap();
                    prop_assert!(allowed.contains(&chosen));
                    let full = |n: usize| {
                        let ratio = |part: u64, whole: u64| (part * 1_000_000).checked_div(whole).unwrap_or(0);
                        ratio(reserved[n].0, seats[n].0.0).max(ratio(reserved[n].1, seats[n].0.1))
                    };
                    let cost = |n: usize| match packs {
                        true => (0, 0, 1_000_000 - full(n).min(1_000_000), format!("n{n}")),
                        false => (in_zone(seats[n].2), siblings(n), full(n), format!("n{n}")),
                    };
                    for other in allowed {
                        prop_assert!(cost(chosen) <= cost(other), "{chosen} {other}");
                    }
                    reserved[chosen] = (reserved[chosen].0 + memory, reserved[chosen].1 + cpu);
                }
            }
        }
    }

    /// What sync looks at again is what a new board would see.
    #[test]
    fn a_synced_board_is_a_new_one(steps in prop::collection::vec((0usize..6, 0usize..5), 1..30)) {
        let mut world = World::new();
        let mut live = Board::default();
        for (step, n) in steps {
            let (name, service) = (format!("n{n}"), format!("s{n}"));
            match step {
                0 => world.node(&name, resources(100 << 20, 100)),
                1 => {
                    world.service(&service, 1, resources(1 << 20, 1));
                    world.revision(&service, 1, resources(1 << 20, 1));
                }
                2 => world.replica(&service, 1, "aaaaa", Some(&name), skiff_api::resource::Phase::Ready),
                3 => world.no_replica(&service, &format!("{service}-1-aaaaa")),
                4 => world.state.set_node(&NodeName::new(&name), None),
                _ => live.reserve(&NodeName::new(&name), resources(7, 7)),
            }
            live.sync(&mut world.state);
            let fresh = Board::new(&world.state);
            let shown = |board: &Board| -> Vec<_> {
                let mut seats: Vec<_> = board.seats().map(|seat| (seat.name.clone(), seat.access, seat.capacity, seat.reserved)).collect();
                seats.sort_by(|a, b| a.0.cmp(&b.0));
                seats
            };
            prop_assert_eq!(shown(&live), shown(&fresh));
        }
    }
}
