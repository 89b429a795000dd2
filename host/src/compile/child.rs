//! The compiling process: a component on standard input, native code on standard output, words on standard error.
//!
//! It limits itself before it reads a byte, which needs no unsafe hook between fork and exec in the parent. It opens no
//! file. Should its parent die, it ends at its first write, or when its processor time is used up.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use skiff_registry::client::{NESTING_MAX, is_too_deep};
use wasmtime::Engine;

use crate::sandbox::base_config;

/// Exit status for a component that cannot be compiled: the words on standard error are for its author.
pub(super) const EXIT_INVALID: u8 = 2;

/// How far compiling stands behind serving on a busy machine: as far as possible without starving.
const NICENESS: i32 = 10;

/// How every WebAssembly file begins.
const MAGIC: &[u8] = b"\0asm";

/// The two bytes after the version in a component's header, where a core module has zeros.
const COMPONENT_LAYER: &[u8] = &[1, 0];

/// What the parent passes on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChildLimits {
    pub(super) memory_bytes: u64,
    pub(super) cpu_secs: u64,
}

impl ChildLimits {
    pub(super) fn args(self) -> [String; 2] {
        [self.memory_bytes.to_string(), self.cpu_secs.to_string()]
    }

    fn parse(args: &[OsString]) -> Option<Self> {
        let [memory_bytes, cpu_secs] = args else { return None };
        Some(Self { memory_bytes: memory_bytes.to_str()?.parse().ok()?, cpu_secs: cpu_secs.to_str()?.parse().ok()? })
    }
}

/// The whole life of a compiling process. `args` are those after the hidden verb.
pub fn child_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let Some(limits) = ChildLimits::parse(&args) else {
        eprintln!("this verb is how Skiff calls itself (hint: components are compiled when they are placed)");
        return ExitCode::FAILURE;
    };
    if let Err(e) = confine(limits) {
        eprintln!("failed to limit the compiler: {e}");
        return ExitCode::FAILURE;
    }
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Invalid(message)) => {
            eprintln!("{message}");
            ExitCode::from(EXIT_INVALID)
        }
        Err(Failed::Other(message)) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

enum Failed {
    Invalid(String),
    Other(String),
}

fn confine(limits: ChildLimits) -> io::Result<()> {
    // No limit may exceed what the node itself was given.
    let limit = |resource, wanted: u64, hard: u64| {
        let given = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        setrlimit(resource, Rlimit { current: Some(wanted.min(given)), maximum: Some(hard.min(given)) })
    };
    limit(Resource::As, limits.memory_bytes, limits.memory_bytes)?;
    // At the soft limit there is a signal that says which limit it was; at the hard one it looks as if somebody killed it.
    limit(Resource::Cpu, limits.cpu_secs, limits.cpu_secs + 1)?;
    limit(Resource::Core, 0, 0)?;
    // It writes to pipes only.
    limit(Resource::Fsize, 0, 0)?;
    nice(NICENESS)?;
    Ok(())
}

fn compile() -> Result<(), Failed> {
    let other = |what: &str, e: &dyn std::fmt::Display| Failed::Other(format!("failed to {what}: {e:#}"));
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm).map_err(|e| other("read the component", &e))?;
    check_header(&wasm).map_err(|why| Failed::Invalid(why.to_owned()))?;
    if is_too_deep(&wasm) {
        return Err(Failed::Invalid(format!("components or modules lie in one another more than {NESTING_MAX} deep")));
    }
    let config = base_config().map_err(|e| other("set up the compiler", &e))?;
    let engine = Engine::new(&config).map_err(|e| other("set up the compiler", &e))?;
    // This validates all of it first; the error names the offset.
    let code = engine.precompile_component(&wasm).map_err(|e| Failed::Invalid(format!("{e:#}")))?;
    io::stdout().lock().write_all(&code).map_err(|e| other("hand over the code", &e))
}

fn check_header(wasm: &[u8]) -> Result<(), &'static str> {
    match (wasm.get(..4), wasm.get(6..8)) {
        (Some(MAGIC), Some(COMPONENT_LAYER)) => Ok(()),
        (Some(MAGIC), Some(_)) => {
            Err("it is a core WebAssembly module, not a component (hint: push it with skiff, which makes it one)")
        }
        _ => Err("it is not WebAssembly: its first bytes, at offset 0, are not those of a component"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_survive_the_command_line() {
        let limits = ChildLimits { memory_bytes: 1 << 31, cpu_secs: 120 };
        let args: Vec<OsString> = limits.args().into_iter().map(OsString::from).collect();
        assert_eq!(ChildLimits::parse(&args), Some(limits));
        assert_eq!(ChildLimits::parse(&args[..1]), None);
        assert_eq!(ChildLimits::parse(&["a".into(), "b".into()]), None);
    }

    #[test]
    fn modules_and_other_files_are_told_from_components() {
        assert_eq!(check_header(b"\0asm\x0d\0\x01\0"), Ok(()));
        assert!(check_header(b"\0asm\x01\0\0\0").unwrap_err().contains("core WebAssembly module"));
        assert!(check_header(b"\0asm").unwrap_err().contains("offset 0"));
        assert!(check_header(b"#!/bin/sh").is_err());
    }
}
