//! `POST /v1/renew`: a node's next certificate, for the machine that shows the one before. It may have expired, so that a
//! machine that was away for long comes back without help; it may not have been removed.

use skiff_api::wire::join::{RenewAnswer, RenewRequest};
use skiff_api::{Code, Problem};
use skiff_link::Peer;

use super::Fleet;
use super::join::revoked;

impl Fleet {
    pub(super) fn renew(&self, peer: Option<&Peer>, request: &RenewRequest) -> Result<RenewAnswer, Problem> {
        let Some(peer) = peer else {
            let problem = Problem::new(Code::Unauthorized, "the connection shows no certificate of a node");
            return Err(problem.hint("join first"));
        };
        if self.gate.is_revoked(&peer.uid) {
            return Err(revoked());
        }
        let now = self.clock.now();
        let chain = self.authority.issue_node(&request.csr, &peer.uid, now);
        let chain = chain.map_err(|error| Problem::new(Code::Invalid, error.to_string()))?;
        tracing::info!(uid = %peer.uid, "renewed a node's certificate");
        Ok(RenewAnswer { chain, ca: self.authority.ca_pem(), time: now })
    }
}
