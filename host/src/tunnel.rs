//! The node's end of tunnels: bytes both ways between something here and whoever asked the control plane for it.

use std::io;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio_util::io::ReaderStream;

use crate::sandbox::{Client, Keyboard};

/// One direction. It ends with an error where it broke.
pub type Flow = BoxStream<'static, io::Result<Bytes>>;

/// Where tunnels are taken up.
pub trait Tunnels: Send + Sync + 'static {
    /// Sends `output` into the tunnel of that number, and answers with what comes out of it. An error says in words why
    /// nobody is there any more.
    fn take_up(&self, id: u64, output: Flow) -> BoxFuture<'_, Result<Flow, String>>;
}

/// Where what comes out of a tunnel goes.
pub(crate) trait Input: Send + 'static {
    /// Takes it, and says whether more is wanted.
    fn take(&mut self, bytes: Bytes) -> BoxFuture<'_, bool>;
    /// Nothing comes any more.
    fn end(&mut self) -> BoxFuture<'_, ()>;
}

/// Connects whoever asked with what is here, until either has gone.
pub(crate) async fn connect(tunnels: &dyn Tunnels, id: u64, output: Flow, mut input: impl Input) {
    let mut comes = match tunnels.take_up(id, output).await {
        Ok(comes) => comes,
        Err(why) => {
            tracing::warn!(id, why, "whoever asked for a tunnel has gone");
            return;
        }
    };
    while let Some(Ok(bytes)) = comes.next().await {
        if !input.take(bytes).await {
            break;
        }
    }
    input.end().await;
    // Whoever sends on is not told to stop: it sees the end of what it reads.
    while let Some(Ok(_)) = comes.next().await {}
}

/// What a task writes.
pub(crate) fn output_of(client: Client) -> Flow {
    let output = stream::unfold(client, |client| async move {
        let bytes = client.output().await?;
        Some((Ok(bytes), client))
    });
    output.boxed()
}

impl Input for Keyboard {
    fn take(&mut self, bytes: Bytes) -> BoxFuture<'_, bool> {
        async {
            self.write(bytes).await;
            true
        }
        .boxed()
    }

    /// Its drop is the end.
    fn end(&mut self) -> BoxFuture<'_, ()> {
        future::ready(()).boxed()
    }
}

/// Bytes as they come, into something that is written to.
pub(crate) struct Written<W>(pub(crate) W);

impl<W: AsyncWrite + Send + Unpin + 'static> Input for Written<W> {
    fn take(&mut self, bytes: Bytes) -> BoxFuture<'_, bool> {
        async move { self.0.write_all(&bytes).await.is_ok() && self.0.flush().await.is_ok() }.boxed()
    }

    fn end(&mut self) -> BoxFuture<'_, ()> {
        async { drop(self.0.shutdown().await) }.boxed()
    }
}

/// Both directions of something that is read and written, as a tunnel has them.
pub(crate) fn halves<S>(stream: S) -> (Flow, Written<WriteHalf<S>>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    (ReaderStream::new(read).boxed(), Written(write))
}
