//! `skiff scale`

use std::process::ExitCode;

use crate::Outcome;
use crate::args::ScaleArgs;
use crate::context::Context;

pub(super) async fn run(context: &Context, args: ScaleArgs) -> Outcome {
    let name = args.service.0;
    context.client()?.scale(&args.namespace.namespace, name.as_str(), args.replicas).await?;
    println!("service/{name} scaled");
    Ok(ExitCode::SUCCESS)
}
