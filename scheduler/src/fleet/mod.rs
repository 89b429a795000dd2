//! Which machines may be nodes: the tokens that they join with, their certificates, and who is let in no more.
//!
//! ```text
//!   token ── join ──> Node object, certificate ── link, pulls ──> ... ── renew ──> certificate
//!                          └── remove ──> revoked for ever, links end at once
//! ```
//! A machine is named after its key, so asking twice with one key makes one node. A name belongs to the machine that joined
//! with it until it is removed. Whether a certificate is good is decided in two places: TLS says that this cluster's
//! authority issued it, the [`Gate`] that its machine was not removed.

mod buckets;
mod gate;
mod join;
mod renew;
mod routes;
mod tokens;
mod tunnels;

use std::sync::Arc;

use skiff_api::{Code, Problem};
use skiff_link::{Authority, Clock, Peer};

pub use buckets::BucketRequest;
pub use gate::{Gate, Refusal};
pub use routes::router;

use crate::FleetOptions;
use crate::objects::Objects;
use crate::store;

/// What joining stands on. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    authority: Arc<Authority>,
    clock: Arc<Clock>,
    gate: Gate,
}

impl Fleet {
    /// Reads who was removed.
    pub async fn open(objects: &Objects, options: FleetOptions) -> Result<Self, store::Error> {
        let FleetOptions { authority, clock } = options;
        let gate = Gate::load(&**objects.store()).await?;
        Ok(Self { authority, clock, gate })
    }

    /// Whose connection it is, if a node's that is let in.
    fn admitted<'a>(&self, peer: Option<&'a Peer>) -> Result<&'a Peer, Problem> {
        let Some(peer) = peer else {
            return Err(Problem::new(Code::Unauthorized, "the connection shows no certificate of a node"));
        };
        let admitted = self.gate.admit(peer, self.clock.now());
        admitted.map_err(|why| Problem::new(Code::NodeRevoked, why.to_string()))?;
        Ok(peer)
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}
