//! Where guests run: a fresh sandbox for each request, unless a service asks for instances that serve several; or one for
//! a component that runs on its own ([`worker`]).
//!
//! ```text
//!  .cwasm file --load--> Code --prepare--> Runner --call(request)--> response head, then Body
//!                        (shared by         (a replica)               |
//!                         replicas)                                    '- drives the guest while it is read
//! ```
//!
//! The guest is polled in the task of its caller, never in one of its own, so that dropping the call or the body stops
//! the guest, and a quick answer costs no hand-over between threads. A guest that computes for more than a moment moves to
//! threads of low priority ([`lane`]), so that it keeps nobody waiting. Everything a guest can use up has a limit
//! ([`limits`]), and every limit ends in a [`Failure`] with a stable code: nothing that a guest does ends the process.

mod account;
mod bindings;
mod body;
mod budget;
mod code;
mod conduct;
mod config;
mod console;
mod engine;
mod error;
mod failure;
mod guest;
mod idle;
mod keyvalue;
mod lane;
mod limits;
mod linker;
mod machine;
mod meter;
mod pipe;
mod runner;
mod shard;
mod shelf;
mod sockets;
mod start;
mod state;
mod stdio;
mod ticker;
mod usage;
mod worker;

pub use body::Body;
pub use code::Code;
pub use console::{Client, Console, Keyboard};
pub(crate) use engine::{WASMTIME_VERSION, base_config};
pub use error::{Error, LoadError, PrepareError};
pub use failure::Failure;
pub use runner::{Runner, RunnerOptions};
pub use start::{CodeFigures, Sandbox, SandboxOptions};
pub use usage::Usage;
pub use worker::{Exit, Report, Worker};
