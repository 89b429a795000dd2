//! The embedded registry: the OCI distribution specification 1.1, on the API's port.
//!
//! - [`route`], [`range`]: what a request asks for, from its path and headers (pure).
//! - [`mod@router`]: rights, then dispatch; [`rights`]: what somebody may do to which repositories (pure).
//! - [`blobs`], [`uploads`], [`manifests`], [`lists`]: the endpoints, by noun.
//! - [`tokens`]: tokens for clients that have to fetch one.
//! - [`error`]: the specification's errors.
//!
//! Content streams through: a push or pull holds a few hundred kilobytes whatever its size. What blocks runs on tokio's
//! blocking threads.

mod auth;
mod blobs;
mod error;
mod lists;
mod manifests;
mod range;
mod rights;
mod route;
mod router;
mod tokens;
mod uploads;

pub use auth::{Action, Authorizer, Decision, token_of};
pub use rights::{InvalidPattern, Pattern, Rights};
pub use route::repository_of;
pub use router::{router, router_with};
pub use tokens::ANONYMOUS;
