//! From a token to a membership.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skiff_api::client::{self, Client, ClientOptions};
use skiff_api::id::NodeName;
use skiff_api::wire::join::{JoinAnswer, JoinRequest};
use skiff_link::Clock;
use skiff_link::identity::{Identity, Key};
use skiff_link::tls::{self, Expect, Trust};
use skiff_link::token::JoinToken;
use tokio::time::Instant;

use super::address::Address;
use super::member::Member;
use super::pause::{Pause, chance};

/// How long a control plane that cannot be reached is tried: machines that are switched on together come up within this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who wants to join, and with what.
#[derive(Debug)]
pub struct JoinOptions {
    pub server: Address,
    pub token: JoinToken,
    pub name: NodeName,
    /// What the operator says of the node.
    pub labels: BTreeMap<String, String>,
    /// The node's, which is on its disk: with the same one again, the answer is the same.
    pub key: Key,
    /// Raised by what the control plane says.
    pub clock: Arc<Clock>,
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "failed to join {server}: it is not the control plane that the token is for: {why} (hint: check --join, and copy the token as a whole)"
    )]
    OtherCluster { server: Address, why: String },
    #[error("failed to join {server}")]
    Call {
        server: Address,
        #[source]
        source: client::Error,
    },
    #[error("failed to make the node's key and certificate")]
    Identity(#[source] skiff_link::Error),
}

/// Joins. The answer is a membership that is yet to be kept.
pub async fn join(options: JoinOptions) -> Result<Member, JoinError> {
    let JoinOptions { server, token, name, labels, key, clock } = options;
    let trust = Trust::Hash(token.ca_hash.clone());
    let config = tls::client(&trust, Expect::ControlPlane, None, &[tls::ALPN_H1], &clock);
    let config = config.map_err(JoinError::Identity)?;
    let failed = |source| match source {
        client::Error::Untrusted { why, .. } => JoinError::OtherCluster { server: server.clone(), why },
        source => JoinError::Call { server: server.clone(), source },
    };
    let client = Client::new(ClientOptions::new(server.to_string(), "").tls(Some(config))).map_err(failed)?;
    let csr = key.csr().map_err(JoinError::Identity)?;
    let secret = token.secret.reveal().to_owned();
    let request = JoinRequest { id: token.id.to_string(), secret, csr, name: name.clone(), labels };
    let answer = asked(&client, &request).await.map_err(failed)?;
    let JoinAnswer { chain, ca, labels, time, .. } = answer;
    let identity = Identity::new(&key, &chain, &ca).map_err(JoinError::Identity)?;
    if identity.ca_hash() != token.ca_hash {
        let why = "it answers with another CA".to_owned();
        return Err(JoinError::OtherCluster { server, why });
    }
    clock.raise(time);
    Ok(Member { server, name, labels, identity, removed: false })
}

/// Asks again as long as nobody answers: the same key gets the same answer, and uses the token once.
async fn asked(client: &Client, request: &JoinRequest) -> Result<JoinAnswer, client::Error> {
    let (began, mut pause) = (Instant::now(), Pause::new());
    loop {
        match client.join(request).await {
            Err(client::Error::Unreachable { .. } | client::Error::Broken { .. }) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(pause.take(chance())).await;
            }
            answer => return answer,
        }
    }
}
