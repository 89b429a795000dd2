//! The next certificate.

use skiff_api::Code;
use skiff_api::client::{self, Client, ClientOptions};
use skiff_api::wire::join::{RenewAnswer, RenewRequest};
use skiff_link::identity::Identity;
use skiff_link::tls;

use super::address::Address;
use super::credentials::Credentials;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewError {
    #[error("the cluster has removed this node")]
    Removed,
    #[error(transparent)]
    Call(client::Error),
    #[error("failed to use the new certificate")]
    Identity(#[from] skiff_link::Error),
    #[error("the control plane answers with another CA")]
    OtherCa,
}

/// Asks for a certificate of the same key. What comes is not in use yet.
pub(super) async fn renew(server: &Address, credentials: &Credentials) -> Result<Identity, RenewError> {
    let config = credentials.client(&[tls::ALPN_H1])?;
    let client = Client::new(ClientOptions::new(server.to_string(), "").tls(Some(config))).map_err(RenewError::Call)?;
    let old = credentials.identity();
    let key = old.key()?;
    let request = RenewRequest { csr: key.csr()? };
    let RenewAnswer { chain, ca, time } = client.renew(&request).await.map_err(|error| match error.code() {
        Some(Code::NodeRevoked) => RenewError::Removed,
        _ => RenewError::Call(error),
    })?;
    let new = Identity::new(&key, &chain, &ca)?;
    if new.ca_hash() != old.ca_hash() || new.uid() != old.uid() {
        return Err(RenewError::OtherCa);
    }
    credentials.clock().raise(time);
    Ok(new)
}
