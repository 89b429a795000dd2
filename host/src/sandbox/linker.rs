//! What guests may import, and whether a component fits it.
//!
//! The ambient interfaces are linked for every component, because language runtimes import them whether they use them
//! or not; what they could reach is denied at the call. Whatever else a component imports, it does not start: an import
//! that traps when it is called would turn a missing grant into a surprise at night.

use skiff_api::capability;
use wasmtime::component::{Component, HasData, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};

use crate::sandbox::state::State;
use crate::sandbox::{Error, PrepareError, config, keyvalue, sockets};

pub(super) fn ambient(engine: &Engine) -> Result<Linker<State>, Error> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(Error::Linker)?;
    streams(&mut linker).map_err(Error::Linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).map_err(Error::Linker)?;
    config::link(&mut linker).map_err(Error::Linker)?;
    keyvalue::link(&mut linker).map_err(Error::Linker)?;
    sockets::link(&mut linker).map_err(Error::Linker)?;
    Ok(linker)
}

/// Links streams to the table that they are in. As they come they are reached by way of the whole WASI context, which most
/// guests never need and which is only made for those that do.
fn streams(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use wasmtime_wasi_io::bindings::wasi::io::{error, poll, streams};

    struct Table;

    impl HasData for Table {
        type Data<'a> = &'a mut ResourceTable;
    }

    linker.allow_shadowing(true);
    error::add_to_linker::<State, Table>(linker, State::table)?;
    poll::add_to_linker::<State, Table>(linker, State::table)?;
    streams::add_to_linker::<State, Table>(linker, State::table)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A component that is linked, by what it exports.
pub(super) enum Linked {
    /// It answers requests.
    Handler(ProxyPre<State>),
    /// It runs on its own.
    Command(CommandPre<State>),
}

impl Linked {
    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::Handler(pre) => pre.engine(),
            Self::Command(pre) => pre.engine(),
        }
    }

    /// An instance that answers requests.
    pub(super) async fn handler(&self, store: &mut Store<State>) -> wasmtime::Result<Proxy> {
        match self {
            Self::Handler(pre) => pre.instantiate_async(store).await,
            Self::Command(_) => Err(wasmtime::format_err!("the component answers no requests")),
        }
    }

    /// Runs an instance to its end, and says with what status it ended.
    pub(super) async fn run(&self, store: &mut Store<State>) -> wasmtime::Result<I32Exit> {
        let Self::Command(pre) = self else { return Err(wasmtime::format_err!("the component does not run alone")) };
        let command = pre.instantiate_async(&mut *store).await?;
        let ended = command.wasi_cli_run().call_run(store).await?;
        Ok(I32Exit(i32::from(ended.is_err())))
    }
}

/// Checks a component against the linker, and links it as far as possible without an instance.
pub(super) fn link(linker: &Linker<State>, component: &Component) -> Result<Linked, PrepareError> {
    let engine = linker.engine();
    let types = component.component_type();
    let imports: Vec<String> = types.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let unknown: Vec<String> =
        imports.into_iter().filter(|name| capability::refused([name.as_str()]).is_some()).collect();
    if !unknown.is_empty() {
        return Err(PrepareError::UnknownImports { imports: unknown, offered: capability::AMBIENT_TEXT });
    }
    let exports: Vec<String> = types.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let names = exports.iter().map(String::as_str);
    let (answers, runs) = (capability::answers_requests(names.clone()), capability::runs_alone(names));
    if !answers && !runs {
        return Err(PrepareError::NoHandler { exports });
    }
    let pre = linker.instantiate_pre(component).map_err(PrepareError::IncompatibleImports)?;
    let linked = match runs {
        false => ProxyPre::new(pre).map(Linked::Handler),
        true => CommandPre::new(pre).map(Linked::Command),
    };
    linked.map_err(PrepareError::IncompatibleHandler)
}
