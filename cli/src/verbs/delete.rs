//! `skiff delete`

use std::process::ExitCode;

use crate::args::{DeleteArgs, FileArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::{Outcome, manifests};

pub(super) async fn run(context: &Context, args: DeleteArgs) -> Outcome {
    let client = context.client()?;
    let namespace = args.namespace.namespace.clone();
    let mut targets = Vec::new();
    match (args.kind, args.name) {
        (Some(kind), Some(name)) => targets.push((kind, namespace, name)),
        _ => {
            let files = FileArgs { files: args.files, namespace: args.namespace };
            // The reverse of the order in which they are applied: a namespace goes last.
            for document in manifests::load(&files)?.into_iter().rev() {
                let of = document.namespace.unwrap_or_else(|| namespace.clone());
                targets.push((document.kind, of, document.name.as_str().to_owned()));
            }
        }
    }
    let mut missing = None;
    for (kind, namespace, name) in targets {
        match client.delete(kind, &namespace, &name).await {
            Ok(_) => println!("{}/{name} deleted", kind.singular()),
            // The others of the file still go; the exit code says that one was not there.
            Err(error) if error.is_not_found() => {
                let failure = Failure::from(error);
                if let Some(earlier) = missing.replace(failure) {
                    earlier.report();
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    match missing {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => Err(failure),
    }
}
