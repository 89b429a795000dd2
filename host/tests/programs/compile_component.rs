//! The compiling process alone, for tests: in a node it is the `skiff` binary, with a verb before the limits.

use std::process::ExitCode;

fn main() -> ExitCode {
    skiff_host::compile::child_main(std::env::args_os().skip(1))
}
