//! The process that compiles a component for a node, and does nothing else.

use std::process::ExitCode;

use crate::args::CompileArgs;

pub(crate) fn run(args: &CompileArgs) -> ExitCode {
    skiff_host::compile::child_main(args.args.iter().cloned())
}
