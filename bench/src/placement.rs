//! What decisions cost, and how good they are: the planners of the control plane on fleets in memory.
//!
//! | figure | how |
//! |---|---|
//! | decision | a new service on a fleet that is full of others: what its plans take until its replica has a node |
//! | packing | services of mixed sizes on nodes of one size, packed; against the fewest nodes that could hold them |
//! | growth | a balanced fleet gets a tenth more nodes: moves against the fewest that make it even, and a second run |

use std::time::Instant;

use anyhow::{Result, ensure};
use skiff_api::resource::{Placement, Strategy};
use skiff_scheduler::plan::rebalance::{self, Options as Evenness};

use crate::process::usage;
use crate::report::{Bar, Report, megabytes};
use crate::stats::percentile;
use crate::world::{Random, World, resources};

/// Decisions that are timed.
const DECISIONS: usize = 2000;
const DECISION_BAR: Bar = Bar { below: 0.005, shown: "5 ms" };
const RESIDENT_BAR: Bar = Bar { below: 1e9, shown: "1 GB" };
/// Seeded workloads that are packed.
const WORKLOADS: u64 = 11;
const PACKING_BAR: Bar = Bar { below: 1.03, shown: "1.03" };
const GROWTH_BAR: Bar = Bar { below: 1.2, shown: "1.2" };

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Nodes of the fleet on which decisions are timed; the bars are for 10,000
    #[arg(long, default_value_t = 10_000)]
    nodes: usize,
    /// Replicas that are there already; the bars are for 1,000,000
    #[arg(long, default_value_t = 1_000_000)]
    replicas: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report = Report::default();
    decisions(options, &mut report)?;
    packing(&mut report)?;
    growth(&mut report)?;
    report.print("placement")
}

fn decisions(options: &Options, report: &mut Report) -> Result<()> {
    const REPLICAS_OF_ONE: usize = 10;
    let mut world = World::new(Strategy::Spread)?;
    let (nodes, services) = (options.nodes.max(REPLICAS_OF_ONE), options.replicas / REPLICAS_OF_ONE);
    for number in 0..nodes {
        world.node(number, resources(64 << 10, 64_000));
    }
    for service in 0..services {
        let at = (0..REPLICAS_OF_ONE).map(|replica| (service * 7 + replica * (nodes / REPLICAS_OF_ONE)) % nodes);
        world.placed(&format!("s{service}"), resources(64, 10), at)?;
    }
    world.sync();
    let resident = usage(std::process::id())?.resident_bytes;
    let (mut random, mut seconds) = (Random(1), Vec::new());
    for number in 0..DECISIONS {
        let kind = random.below(4);
        let key = world.service(&format!("new{number}"), |spec| {
            spec.resources = resources(64 + random.below(256), random.below(200));
            let zone = format!("z{}", random.below(10));
            let label = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
            spec.placement = match kind {
                0 => Placement { require: label("zone", &zone), ..Placement::default() },
                1 => Placement { prefer: vec![label("disk", "ssd"), label("zone", &zone)], ..Placement::default() },
                2 => Placement {
                    require: label("node", &format!("n{:05}", random.below(nodes as u64))),
                    ..Placement::default()
                },
                _ => Placement::default(),
            };
        })?;
        let (mut spent, mut placed) = (0.0, 0);
        // Its revision first, then its replica.
        for _ in 0..3 {
            let began = Instant::now();
            let plan = world.plan(&key);
            spent += began.elapsed().as_secs_f64();
            placed += world.execute(&plan);
            if placed > 0 {
                break;
            }
        }
        ensure!(placed == 1, "service new{number} got no node");
        seconds.push(spent);
    }
    let median = percentile(&mut seconds, 0.5);
    let p99 = percentile(&mut seconds, 0.99);
    let fleet = format!("{nodes} nodes with {} replicas", services * REPLICAS_OF_ONE);
    let shown = |seconds: f64| format!("{:.3} ms", seconds * 1e3);
    report.figure(
        "decision_median_seconds",
        &format!("decision for a new service, {fleet}, median"),
        shown(median),
        median,
        None,
    );
    let what = format!("decision for a new service, {fleet}, 99th percentile");
    report.figure("decision_p99_seconds", &what, shown(p99), p99, Some(DECISION_BAR));
    let what = format!("resident memory of {fleet}, as the planners see them");
    report.figure("resident_bytes", &what, megabytes(resident), resident as f64, Some(RESIDENT_BAR));
    Ok(())
}

fn packing(report: &mut Report) -> Result<()> {
    const NODE_MEBI: u64 = 8 << 10;
    const NODE_MILLI: u64 = 4000;
    let (mut used, mut least) = (0, 0);
    for seed in 0..WORKLOADS {
        let mut world = World::new(Strategy::Pack)?;
        let mut random = Random(seed);
        for number in 0..400 {
            world.node(number, resources(NODE_MEBI, NODE_MILLI));
        }
        world.sync();
        let (mut mebi, mut milli) = (0, 0);
        for service in 0..300 {
            // Mostly small, some large: what fleets have.
            let size = match random.below(10) {
                0 => resources(2048 + random.below(2048), 500 + random.below(1500)),
                1..=3 => resources(512 + random.below(1024), 100 + random.below(400)),
                _ => resources(64 + random.below(256), 10 + random.below(100)),
            };
            let replicas = 1 + random.below(6) as u32;
            mebi += size.memory.0 / (1 << 20) * u64::from(replicas);
            milli += size.cpu.0 * u64::from(replicas);
            let key = world.service(&format!("s{service}"), |spec| {
                spec.resources = size;
                spec.replicas = replicas.into();
            })?;
            let mut placed = 0;
            for _ in 0..20 {
                let plan = world.plan(&key);
                placed += world.execute(&plan);
                if placed == replicas as usize {
                    break;
                }
            }
            ensure!(placed == replicas as usize, "service s{service} was not placed");
        }
        used += world.used() as u64;
        // No packing does with fewer; the best may need more.
        least += mebi.div_ceil(NODE_MEBI).max(milli.div_ceil(NODE_MILLI));
    }
    let ratio = used as f64 / least as f64;
    let what = format!(
        "packing of {WORKLOADS} workloads that come service by service: nodes used against the fewest that could do"
    );
    report.figure("packing", &what, format!("{ratio:.3} ({used} of {least})"), ratio, Some(PACKING_BAR));
    Ok(())
}

fn growth(report: &mut Report) -> Result<()> {
    const NODES: usize = 100;
    const EACH: usize = 55;
    let mut world = World::new(Strategy::Spread)?;
    for number in 0..NODES {
        world.node(number, resources(64 << 10, 64_000));
    }
    for service in 0..NODES * EACH / 10 {
        let at = (0..10).map(|replica| (service * 10 + replica) % NODES);
        world.placed(&format!("s{service}"), resources(256, 100), at)?;
    }
    for number in NODES..NODES + NODES / 10 {
        world.node(number, resources(64 << 10, 64_000));
    }
    world.sync();
    let moves = run_moves(&mut world);
    let again = run_moves(&mut world);
    // What the new nodes have when all are equally full.
    let fewest = NODES * EACH / (NODES + NODES / 10) * (NODES / 10);
    let ratio = moves as f64 / fewest as f64;
    let what = format!("{} nodes more beside {NODES}: moves against the fewest that make all even", NODES / 10);
    report.figure("growth_moves", &what, format!("{ratio:.2} ({moves} of {fewest})"), ratio, Some(GROWTH_BAR));
    let second = Bar { below: 0.5, shown: "1" };
    report.figure("growth_again", "moves of a second run", again.to_string(), again as f64, Some(second));
    Ok(())
}

/// Rebalances until nothing is to move.
fn run_moves(world: &mut World) -> usize {
    let mut all = 0;
    loop {
        let set = rebalance::plan(&world.state, &world.board, Evenness::BY_ITSELF);
        if set.moves.is_empty() {
            return all;
        }
        all += set.moves.len();
        for step in &set.moves {
            world.moved(&step.service, &step.replica.name, &step.to);
        }
        world.sync();
    }
}
