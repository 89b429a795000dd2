//! `wasi:config`: what the Configs and Secrets of a service say.
//!
//! Every component may import it. What a service does not name is not there, and each read sees the newest values.

use wasmtime::component::{HasSelf, Linker};

use crate::sandbox::bindings::wasi::config::store::{self, Error};
use crate::sandbox::state::State;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl store::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        Ok(Ok(self.settings().get(&key).map(str::to_owned)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        let settings = self.settings();
        Ok(Ok(settings.all().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
    }
}
