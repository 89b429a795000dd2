//! What compiled code depends on, besides the component.

use std::hash::{DefaultHasher, Hash, Hasher};

use wasmtime::Engine;

use crate::compile::CompileError;
use crate::sandbox::{WASMTIME_VERSION, base_config};

/// A name, safe as a file name, for this build's compiler on this machine: files that were compiled under another one do
/// not fit. It covers wasmtime's version, the engine's configuration and the processor's features.
pub fn key() -> Result<String, CompileError> {
    let config = base_config().map_err(CompileError::Engine)?;
    let engine = Engine::new(&config).map_err(CompileError::Engine)?;
    // Stable from run to run; another release of the standard library may change it, which costs a compilation.
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Ok(format!("wasmtime-{WASMTIME_VERSION}-{}-{:016x}", std::env::consts::ARCH, hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_same_each_time_and_a_file_name() {
        let one = key().unwrap();
        assert_eq!(one, key().unwrap());
        assert!(one.starts_with("wasmtime-48."), "{one}");
        assert!(one.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)), "{one}");
    }
}
