//! `skiff why` and `skiff rebalance`: what the scheduler decides, and why.

use std::process::ExitCode;

use skiff_api::client::Run;

use crate::Outcome;
use crate::args::{RebalanceArgs, WhyArgs};
use crate::context::Context;
use crate::output::table;

pub(super) async fn why(context: &Context, args: WhyArgs) -> Outcome {
    let why = context.client()?.why(&args.namespace.namespace, args.service.0.as_str()).await?;
    if why.replicas.is_empty() {
        println!("there are no replicas");
    }
    for replica in &why.replicas {
        let place = replica.node.as_ref().map_or("no node".to_owned(), |node| format!("on {node}"));
        println!("{}: {place}, {}", replica.name, replica.phase.name());
        replica.because.iter().for_each(|reason| println!("  - {reason}"));
    }
    println!("{} of {} nodes would take another replica", why.fitting, why.nodes);
    if !why.filters.is_empty() {
        let row = |filter: &skiff_api::why::WhyFilter| {
            vec![filter.filter.clone(), filter.refused.to_string(), filter.alone.to_string()]
        };
        print!("{}", table::render(&["FILTER", "REFUSES", "ALONE"], why.filters.iter().map(row).collect()));
    }
    why.help.iter().for_each(|help| println!("what would help: {help}"));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rebalance(context: &Context, args: RebalanceArgs) -> Outcome {
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    let set = context.client()?.rebalance(run).await?;
    let percent = |[low, high]: [u64; 2]| format!("{}.{}% to {}.{}%", low / 10, low % 10, high / 10, high % 10);
    if set.moves.is_empty() {
        println!("nothing to move: nodes are {} reserved", percent(set.before));
        return Ok(ExitCode::SUCCESS);
    }
    let row =
        |step: &skiff_api::why::RebalanceMove| vec![step.replica.clone(), step.from.to_string(), step.to.to_string()];
    print!("{}", table::render(&["REPLICA", "FROM", "TO"], set.moves.iter().map(row).collect()));
    let verb = if args.dry_run { "would move" } else { "move, one after another" };
    println!(
        "{} replicas {verb}: nodes from {} to {} reserved",
        set.moves.len(),
        percent(set.before),
        percent(set.after)
    );
    Ok(ExitCode::SUCCESS)
}
