//! Carries messages both ways over a connection, and notices when the other side is gone.
//!
//! ```text
//!   outbox ──> encode ──> write ──>  connection  ──> read ──> decode ──> inbox
//!              or a heartbeat, when idle             or silence: the link ends
//! ```
//! Both directions run beside one another: whoever takes nothing out of the inbox for a while stops the reading, which the
//! other side feels, but not the heartbeats. A machine that lost its power says nothing, and neither does one that stands
//! still: both are noticed by the silence. One that goes on speaking and reads nothing is noticed when it has taken nothing
//! of what is written for it.

use std::fmt;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;

use crate::frame::{self, Decoder, FROM_NODE_BYTES_MAX, Frame, TO_NODE_BYTES_MAX};

/// Small messages are written together up to this.
const BATCH_BYTES: usize = 64 << 10;
/// What is read at once.
const READ_BYTES: usize = 16 << 10;
/// A buffer that once was larger is given back.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// What is longer is decoded by a thread that may take its time. Some milliseconds of work are less.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// How a link behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The longest message that is sent.
    pub send_bytes_max: usize,
    /// The longest message that is taken.
    pub receive_bytes_max: usize,
    /// How long it is silent at most. A third of what the other side waits.
    pub heartbeat: Duration,
    /// How long the other side may be silent.
    pub silence: Duration,
    /// How long the other side may take nothing of what is written for it.
    pub stall: Duration,
}

impl Options {
    const HEARTBEAT: Duration = Duration::from_millis(300);
    const SILENCE: Duration = Duration::from_secs(1);
    const STALL: Duration = Duration::from_secs(5);

    pub fn of_node() -> Self {
        Self {
            send_bytes_max: FROM_NODE_BYTES_MAX,
            receive_bytes_max: TO_NODE_BYTES_MAX,
            heartbeat: Self::HEARTBEAT,
            silence: Self::SILENCE,
            stall: Self::STALL,
        }
    }

    pub fn of_control_plane() -> Self {
        let Self { send_bytes_max, receive_bytes_max, .. } = Self::of_node();
        Self { send_bytes_max: receive_bytes_max, receive_bytes_max: send_bytes_max, ..Self::of_node() }
    }
}

/// Why a link ended.
#[must_use]
#[derive(Debug)]
pub enum End {
    /// Nobody has anything to send any more. All that was sent has been written.
    OutboxClosed,
    /// Nobody wants what comes any more.
    InboxClosed,
    /// The other side closed the connection.
    PeerClosed,
    /// Nothing was heard.
    Silent,
    /// The other side does not read.
    Stalled,
    Broken(io::Error),
    /// The other side, or a message of ours, is not as it must be.
    Malformed(frame::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutboxClosed | Self::InboxClosed => f.write_str("this side ended it"),
            Self::PeerClosed => f.write_str("the other side closed it"),
            Self::Silent => f.write_str("the other side is silent"),
            Self::Stalled => f.write_str("the other side does not read"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Malformed(error) => match std::error::Error::source(error) {
                Some(cause) => write!(f, "{error}: {cause}"),
                None => error.fmt(f),
            },
        }
    }
}

/// Carries messages until one side ends it. The connection is closed when this returns, or is dropped. What was put into the
/// outbox before either end was dropped is written, and what the other side said last is taken in: it mostly is the reason.
pub async fn run<S, T, U>(stream: S, outbox: mpsc::Receiver<T>, inbox: mpsc::Sender<U>, options: Options) -> End
where
    S: AsyncRead + AsyncWrite + Send,
    T: Serialize + Send + 'static,
    U: DeserializeOwned + Send + 'static,
{
    let (mut read, write) = tokio::io::split(stream);
    let closing = Notify::new();
    let end = {
        let mut receiving = pin!(receive(&mut read, inbox, options));
        let mut sending = pin!(send(write, outbox, &closing, options));
        let first = tokio::select! {
            end = &mut receiving => Side::Receiving(end),
            end = &mut sending => Side::Sending(end),
        };
        match first {
            Side::Receiving(End::InboxClosed) => {
                closing.notify_one();
                let _ = tokio::time::timeout(options.stall, sending).await;
                End::InboxClosed
            }
            Side::Sending(End::Broken(error)) => {
                let _ = tokio::time::timeout(options.silence, receiving).await;
                End::Broken(error)
            }
            Side::Receiving(end) | Side::Sending(end) => end,
        }
    };
    if matches!(end, End::InboxClosed | End::OutboxClosed) {
        // A system throws away what it has sent last when a connection is closed on which something came in the meantime.
        let mut rest = [0; 1024];
        let gone = async { while read.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
        let _ = tokio::time::timeout(options.silence, gone).await;
    }
    end
}

/// Which direction ended first.
enum Side {
    Receiving(End),
    Sending(End),
}

async fn receive<U: DeserializeOwned + Send + 'static>(
    read: &mut (impl AsyncRead + Unpin),
    inbox: mpsc::Sender<U>,
    options: Options,
) -> End {
    let mut decoder = Decoder::new(options.receive_bytes_max);
    let mut came = BytesMut::new();
    loop {
        loop {
            match decoder.take(&mut came) {
                Err(error) => return End::Malformed(error),
                Ok(None) => break,
                Ok(Some(Frame::Heartbeat)) => {}
                Ok(Some(Frame::Message(json))) => {
                    let message = match decode(json).await {
                        Ok(message) => message,
                        Err(error) => return End::Malformed(frame::Error::Json(error)),
                    };
                    if inbox.send(message).await.is_err() {
                        return End::InboxClosed;
                    }
                }
            }
        }
        if came.is_empty() && came.capacity() > KEPT_BYTES_MAX {
            came = BytesMut::new();
        }
        came.reserve(READ_BYTES);
        let heard = tokio::select! {
            heard = tokio::time::timeout(options.silence, read.read_buf(&mut came)) => heard,
            () = inbox.closed() => return End::InboxClosed,
        };
        match heard {
            Err(_) => return End::Silent,
            Ok(Err(error)) => return End::Broken(error),
            Ok(Ok(0)) => return End::PeerClosed,
            Ok(Ok(_)) => {}
        }
    }
}

async fn decode<U: DeserializeOwned + Send + 'static>(json: Bytes) -> Result<U, serde_json::Error> {
    if json.len() <= INLINE_BYTES_MAX {
        return serde_json::from_slice(&json);
    }
    match spawn_blocking(move || serde_json::from_slice(&json)).await {
        Ok(decoded) => decoded,
        Err(error) => Err(serde::de::Error::custom(error)),
    }
}

async fn send<T: Serialize + Send + 'static>(
    mut write: impl AsyncWrite + Unpin,
    mut outbox: mpsc::Receiver<T>,
    closing: &Notify,
    options: Options,
) -> End {
    let mut bytes = Vec::new();
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(options.heartbeat, outbox.recv()) => next,
            () = closing.notified() => {
                outbox.close();
                continue;
            }
        };
        match next {
            Err(_) => frame::heartbeat(&mut bytes),
            Ok(None) => {
                // The other side may be gone; there is nobody to tell.
                let _ = tokio::time::timeout(options.stall, write.shutdown()).await;
                return End::OutboxClosed;
            }
            Ok(Some(mut message)) => loop {
                if let Err(error) = frame::encode(&message, options.send_bytes_max, &mut bytes) {
                    return End::Malformed(error);
                }
                match outbox.try_recv() {
                    Ok(next) if bytes.len() < BATCH_BYTES => message = next,
                    // It comes first in the next batch.
                    Ok(next) => {
                        if let Err(end) = write_all(&mut write, &bytes, options.stall).await {
                            return end;
                        }
                        bytes.clear();
                        message = next;
                    }
                    Err(_) => break,
                }
            },
        }
        if let Err(end) = write_all(&mut write, &bytes, options.stall).await {
            return end;
        }
        bytes.clear();
        bytes.shrink_to(KEPT_BYTES_MAX);
    }
}

/// Writes as long as there is progress.
async fn write_all(write: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], stall: Duration) -> Result<(), End> {
    while !bytes.is_empty() {
        // Small steps, so that progress on a slow line is seen.
        let step = bytes.len().min(READ_BYTES);
        match tokio::time::timeout(stall, write.write(&bytes[..step])).await {
            Err(_) => return Err(End::Stalled),
            Ok(Err(error)) => return Err(End::Broken(error)),
            Ok(Ok(0)) => return Err(End::Broken(io::ErrorKind::WriteZero.into())),
            Ok(Ok(written)) => bytes = &bytes[written..],
        }
    }
    match tokio::time::timeout(stall, write.flush()).await {
        Err(_) => Err(End::Stalled),
        Ok(flushed) => flushed.map_err(End::Broken),
    }
}

#[cfg(test)]
mod tests;
