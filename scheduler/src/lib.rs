//! The control plane.

pub mod api;
pub mod backup;
mod control_plane;
pub mod controllers;
pub mod fleet;
pub mod link;
pub mod link_api;
pub mod metrics;
pub mod objects;
pub mod plan;
pub mod store;
mod vault;

pub use vault::{SealError, Vault};

pub use control_plane::{ControlPlane, ControlPlaneOptions, FleetOptions, StartError};
