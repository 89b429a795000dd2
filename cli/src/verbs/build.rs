//! `skiff build`: the component of the service in a folder.

use std::process::ExitCode;
use std::time::Instant;

use crate::Outcome;
use crate::args::BuildArgs;
use crate::exit::Failure;
use crate::project::Project;

pub(super) fn run(args: &BuildArgs) -> Outcome {
    let project = Project::find(&args.folder)?;
    let started = Instant::now();
    let mut file = project.build()?;
    if let Some(output) = &args.output {
        std::fs::copy(&file, output).map_err(|error| Failure::io("write", output, error))?;
        file.clone_from(output);
    }
    let bytes = std::fs::metadata(&file).map_err(|error| Failure::io("read", &file, error))?.len();
    println!("built {} ({} KiB) in {:.1}s", file.display(), bytes.div_ceil(1024), started.elapsed().as_secs_f32());
    Ok(ExitCode::SUCCESS)
}
