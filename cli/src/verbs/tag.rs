//! `skiff tag`: another name for an image.

use std::process::ExitCode;

use skiff_api::ImageRef;

use crate::Outcome;
use crate::args::TagArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub(super) async fn run(context: &Context, args: TagArgs) -> Outcome {
    let namespace = args.namespace.namespace.as_str();
    if args.target.digest().is_some() {
        let text = format!("failed to tag {}: a digest is no name to give (hint: write NAME[:TAG])", args.target);
        return Err(Failure::message(Exit::Invalid, text));
    }
    let own = |image: &ImageRef| match image.registry() {
        Some(registry) if !context.is_own(registry) => {
            let text = format!(
                "failed to tag {image}: {registry} is not this cluster's registry (hint: `skiff pull` it, then `skiff push` it)"
            );
            Err(Failure::message(Exit::Invalid, text))
        }
        _ => Ok(image.without_registry().repository_in(namespace)),
    };
    let (from, to) = (own(&args.source)?, own(&args.target)?);
    let registry = context.registry()?;
    let digest = match args.source.digest() {
        Some(digest) => digest.clone(),
        None => registry.resolve(&from, args.source.tag_or_latest()).await?,
    };
    registry.link(&from, &digest, &to, args.target.tag_or_latest()).await?;
    println!("{to}:{} {digest}", args.target.tag_or_latest());
    Ok(ExitCode::SUCCESS)
}
