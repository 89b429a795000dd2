//! The node's end of tunnels: bytes both ways between something here and whoever asked the control plane for it.

use std::io;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::sandbox::Client;

/// One direction. It ends with an error where it broke.
pub type Flow = BoxStream<'static, io::Result<Bytes>>;

/// Where tunnels are taken up.
pub trait Tunnels: Send + Sync + 'static {
    /// Sends `output` into the tunnel of that number, and answers with what comes out of it. An error says in words why
    /// nobody is there any more.
    fn take_up(&self, id: u64, output: Flow) -> BoxFuture<'_, Result<Flow, String>>;
}

/// Connects whoever asked with a task, until either has gone.
pub(crate) async fn connect(tunnels: &dyn Tunnels, id: u64, client: Client) {
    let keyboard = client.keyboard();
    let output = stream::unfold(client, |client| async move {
        let bytes = client.output().await?;
        Some((Ok(bytes), client))
    });
    let mut input = match tunnels.take_up(id, output.boxed()).await {
        Ok(input) => input,
        Err(why) => {
            tracing::warn!(id, why, "whoever wanted to attach to a task has gone");
            return;
        }
    };
    while let Some(Ok(bytes)) = input.next().await {
        keyboard.write(bytes).await;
    }
}
