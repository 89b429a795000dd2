//! The API server: HTTP and JSON under `/v1`.
//!
//! ```text
//! request -> metrics -> token -> time limit -> [routes]: one path each -> handler -> Objects -> store
//! ```
//! One table ([`endpoints`]) makes both the router and the OpenAPI document, so that neither can say what the other does
//! not. Every answer that is not a success is a problem with a stable code. Watches and logs are newline-delimited JSON.

mod apply;
mod attach;
mod auth;
pub(crate) mod body;
mod decisions;
mod endpoints;
mod failure;
mod grants;
mod images;
mod info;
mod list;
mod log_merge;
mod logs;
mod merge;
mod nodes;
mod openapi;
mod policies;
mod reach;
mod remove;
mod role;
mod rollout;
mod router;
mod scale;
mod selection;
mod settings;
mod state;
mod target;
mod tokens;
mod watch;
mod write;

pub use auth::Token;
pub(crate) use failure::Result as Answered;
pub use images::{Artifact, Images};
pub use logs::ReplicaLine;
pub use router::router;
pub use scale::Scale;
pub use state::{ApiOptions, ApiState};
pub(crate) use write::ATTEMPTS;
