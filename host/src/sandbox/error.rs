//! What can go wrong before a guest gets its first request.

use std::io;
use std::path::{Path, PathBuf};

use tokio::task::JoinError;

use crate::sandbox::Failure;

/// Why the sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to set up the WebAssembly engine")]
    Engine(#[source] wasmtime::Error),
    #[error("failed to define what guests may import")]
    Linker(#[source] wasmtime::Error),
    #[error("failed to start the thread that interrupts guests")]
    Ticker(#[source] io::Error),
    #[error("failed to start the threads for guests that compute")]
    Lanes(#[source] io::Error),
}

/// Why compiled code was not loaded. Compiling the artifact again mends every variant.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("failed to read compiled code {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("compiled code {} is damaged: {why} (hint: delete the file; it is compiled again)", path.display())]
    Damaged { path: PathBuf, why: &'static str },
    #[error("compiled code {} does not fit this engine (hint: delete the file; it is compiled again)", path.display())]
    Incompatible {
        path: PathBuf,
        #[source]
        source: wasmtime::Error,
    },
}

impl LoadError {
    /// The thread that was to load it did not come back.
    pub(super) fn thread(path: &Path, error: JoinError) -> Self {
        Self::Read { path: path.to_owned(), source: io::Error::other(error) }
    }
}

/// Why a component cannot serve requests, or run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The same code would load where there is no pool: what is wrong is in the component.
    #[error(
        "the component has more in it than a node runs (hint: docs/limits.md says how much of what a component may have)"
    )]
    TooLarge(#[source] wasmtime::Error),
    #[error(
        "the component imports {}, which this node does not offer (hint: it offers {offered})",
        imports.join(", ")
    )]
    UnknownImports { imports: Vec<String>, offered: &'static str },
    #[error("the component's imports do not fit what this node offers")]
    IncompatibleImports(#[source] wasmtime::Error),
    #[error(
        "the component exports neither wasi:http/incoming-handler@0.2 nor wasi:cli/run@0.2, it exports {} (hint: build it \
         for the world wasi:http/proxy, or as a command)",
        list(exports)
    )]
    NoHandler { exports: Vec<String> },
    #[error(
        "the component's export does not have the type that wasi:http/incoming-handler@0.2 or wasi:cli/run@0.2 has"
    )]
    IncompatibleHandler(#[source] wasmtime::Error),
    /// The first instance did not start.
    #[error("failed to start a first instance")]
    Start(#[source] Failure),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
