//! From WebAssembly to native code, in a process of its own.
//!
//! ```text
//! node:   FILE.wasm --stdin--> [skiff compile-component] --stdout--> FILE.cwasm.tmp --seal, sync, rename--> FILE.cwasm
//! ```
//!
//! A compiler is a large program that reads what strangers send: a component can be made that takes hours or all memory
//! to compile, and wasmtime does not count that as a fault. So it happens in a child that has bounds on memory, time and
//! output, opens no file, and whose death is one replica's message and nothing more. Only the parent writes to the disk.
//!
//! The file's end carries a checksum ([`Seal`]), because the sandbox maps it as native code: a torn file is found before.
//! [`key()`] names everything that compiled code depends on besides the component: a node keeps compiled files in a folder
//! of that name, so an update of Skiff or another processor makes it compile afresh, and nothing is mistaken.

mod child;
mod compiler;
mod error;
mod key;
mod seal;

pub use child::child_main;
pub use compiler::{Compiler, Limits, VERB};
pub use error::CompileError;
pub use key::key;
pub(crate) use seal::{CheckError, Seal, check};
