//! Who may use the registry: whoever has the cluster's token.

use skiff_registry::{Action, Authorizer, Decision};
use skiff_scheduler::api::Token;

/// One token, which may do everything.
pub(super) struct OneToken(pub Token);

impl Authorizer for OneToken {
    fn authorize(&self, authorization_header: Option<&str>, _action: Action, _repository: Option<&str>) -> Decision {
        match self.0.admits(authorization_header) {
            true => Decision::Allowed,
            false => Decision::Unauthenticated,
        }
    }
}
