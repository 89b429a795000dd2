//! A command that says what it was given and ends with the status it was asked for: `core [ARG…] [exit=N]`.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    println!("core ran with {args:?}");
    let asked: Option<u8> = args.iter().find_map(|arg| arg.strip_prefix("exit=")?.parse().ok());
    asked.map_or(ExitCode::SUCCESS, ExitCode::from)
}
