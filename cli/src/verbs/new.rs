//! `skiff new`: a service to start from.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::NewArgs;
use crate::{Outcome, project};

pub(super) fn run(args: &NewArgs) -> Outcome {
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(args.name.as_str()));
    project::write(&folder, &args.name, args.lang, args.template)?;
    let shown = folder.display();
    println!("made {shown}");
    println!("next: cd {shown} && skiff dev       # or: skiff build, skiff deploy");
    Ok(ExitCode::SUCCESS)
}
