//! Tunnels to whoever asked the control plane, over the network: each is a request of its own.

use std::io;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use skiff_api::client::Client;

use super::address::Address;
use super::credentials::Credentials;
use super::{CallsError, client};
use crate::tunnel::{Flow, Tunnels};

/// Takes tunnels up at the control plane that a node belongs to.
#[derive(Debug)]
pub struct RemoteTunnels(Client);

impl RemoteTunnels {
    pub fn new(server: &Address, credentials: &Credentials) -> Result<Self, CallsError> {
        client(server, credentials).map(Self)
    }
}

impl Tunnels for RemoteTunnels {
    fn take_up(&self, id: u64, output: Flow) -> BoxFuture<'_, Result<Flow, String>> {
        async move {
            let input = self.0.take_up_tunnel(id, output).await.map_err(|error| error.to_string())?;
            Ok(input.map_err(io::Error::other).boxed())
        }
        .boxed()
    }
}
