//! Skiff services in Rust: a function from [`Request`] to a response, compiled to a component that exports wasi:http.
//!
//! ```no_run
//! use skiff_sdk::{Error, Request, Response};
//!
//! #[skiff_sdk::handler]
//! fn handle(mut request: Request) -> Result<Response, Error> {
//!     match (request.method(), request.path()) {
//!         ("GET", "/") => Ok(Response::text("Hello\n")),
//!         ("POST", "/shout") => {
//!             let text = String::from_utf8(request.body()?).map_err(|_| Error::new(400, "this is not UTF-8"))?;
//!             skiff_sdk::info!("shouting {} characters", text.len());
//!             Ok(Response::text(text.to_uppercase()))
//!         }
//!         (_, path) => Err(Error::new(404, format!("no such path: {path}"))),
//!     }
//! }
//! ```
//!
//! The crate is a `cdylib` for `wasm32-wasip2`; `examples/hello` in Skiff's repository is one to copy.
//!
//! # Why this design
//! Skiff gives every request a fresh instance, so a handler has no neighbours: nothing to share, nothing to await. It is
//! a plain function that may block, and what it leaves in memory is gone with it. Therefore this crate sits directly on
//! the `wasip2` crate, the WASI project's own bindings to wasi:http 0.2: no executor, no `http` or `serde` types, little
//! code to compile and few pages to touch. An async crate such as `wstd` makes a component about twice as large
//! before the first line of the service; use it, or `wasip2` itself, for a service that does several things at once: Skiff
//! runs any component that exports `wasi:http/incoming-handler`.
//!
//! # Also here
//! The feature `config` for what Configs and Secrets say, `keyvalue` for values that outlive a request. [`Router`] for many paths, [`client`] for calls to others, [`Response::with_stream`], [`Response::events`] and
//! [`Request::reader`] for bodies that are not held in memory, and with the feature `json` `Json`, `Request::json`,
//! `Answer::json`. Components that run on their own, with a `main`, have all of it but the handler, and [`worker`].
//!
//! # Edge cases
//! - A handler that panics traps: its caller gets a 500 from the host, and the message is in the service's log.
//! - The body is read when asked for; a handler that never asks never pays for it.
//! - When the caller has gone, writing the response stops silently: nobody is there to be told.

mod body;
pub mod client;
#[cfg(feature = "config")]
pub mod config;
mod error;
mod export;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "keyvalue")]
pub mod keyvalue;
pub mod log;
mod request;
mod response;
mod router;
pub mod worker;

pub use body::{Body, BodyError, BodyWriter};
pub use error::Error;
#[cfg(feature = "json")]
pub use json::Json;
pub use request::{BODY_BYTES_MAX, Request};
pub use response::{IntoResponse, Response};
pub use router::Router;
/// Makes a function this component's HTTP handler, as [`http!`] does.
///
/// ```no_run
/// #[skiff_sdk::handler]
/// fn hello(_request: skiff_sdk::Request) -> &'static str {
///     "Hello"
/// }
/// ```
pub use skiff_sdk_macros::handler;

#[cfg(any(feature = "config", feature = "keyvalue"))]
mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "skiff:service/imports", generate_all });
}

/// What [`http!`] expands to; not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::export::answer;
    pub use wasip2;
}
