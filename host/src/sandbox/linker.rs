//! What guests may import, and whether a component fits it.
//!
//! The ambient interfaces are linked for every component, because language runtimes import them whether they use them
//! or not; what they could reach is denied at the call. Whatever else a component imports, it does not start: an import
//! that traps when it is called would turn a missing grant into a surprise at night.

use wasmtime::Engine;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::sandbox::code::Code;
use crate::sandbox::state::State;
use crate::sandbox::{Error, PrepareError};

/// The packages that every component may import.
const AMBIENT: [&str; 7] =
    ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:http", "wasi:io", "wasi:random", "wasi:sockets"];

/// The same for people.
const AMBIENT_TEXT: &str = "wasi:cli, wasi:clocks, wasi:filesystem, wasi:http, wasi:io, wasi:random and wasi:sockets";

/// What a component must export, up to the patch version: wasi:http 0.2 is compatible within itself.
const HANDLER: &str = "wasi:http/incoming-handler@0.2.";

pub(super) fn ambient(engine: &Engine) -> Result<Linker<State>, Error> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(Error::Linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).map_err(Error::Linker)?;
    Ok(linker)
}

/// Checks a component against the linker, and links it as far as possible without an instance.
pub(super) fn link(linker: &Linker<State>, code: &Code) -> Result<ProxyPre<State>, PrepareError> {
    let engine = linker.engine();
    let component = code.component();
    let types = component.component_type();
    let unknown: Vec<String> =
        types.imports(engine).map(|(name, _)| name.to_owned()).filter(|name| !is_ambient(name)).collect();
    if !unknown.is_empty() {
        return Err(PrepareError::UnknownImports { imports: unknown, offered: AMBIENT_TEXT });
    }
    let exports: Vec<String> = types.exports(engine).map(|(name, _)| name.to_owned()).collect();
    if !exports.iter().any(|name| name.starts_with(HANDLER)) {
        return Err(PrepareError::NoHandler { exports });
    }
    let pre = linker.instantiate_pre(component).map_err(PrepareError::IncompatibleImports)?;
    ProxyPre::new(pre).map_err(PrepareError::IncompatibleHandler)
}

fn is_ambient(import: &str) -> bool {
    import.split_once('/').is_some_and(|(package, _)| AMBIENT.contains(&package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_package_names_are_ambient() {
        assert!(is_ambient("wasi:http/types@0.2.12"));
        assert!(!is_ambient("wasi:keyvalue/store@0.2.0"));
        assert!(!is_ambient("wasi:httpx/types@0.2.0"));
        assert!(!is_ambient("wasi:http"));
        assert!(!is_ambient("log"));
    }

    #[test]
    fn the_text_names_every_ambient_package() {
        for package in AMBIENT {
            assert!(AMBIENT_TEXT.contains(package), "{package}");
        }
    }
}
