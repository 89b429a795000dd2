//! Bodies as they come and go: of a request or an answer that is read, and of an answer that is written.

use std::io::{self, Read, Write};

use wasip2::http::types::{IncomingBody, OutgoingBody};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// How much of a body is asked of the host at once: a read copies, so larger ones only need a larger buffer.
const READ_BYTES: u64 = 64 << 10;

/// A body that is read as it comes: nothing of it is in memory but what was asked for.
#[derive(Debug)]
pub struct Body {
    // Dropped before the body that it is of, which is what the host asks for.
    stream: InputStream,
    _body: IncomingBody,
}

/// Why a body was not read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than were to be read.
    TooLarge { bytes_max: usize },
    /// The other side is gone, or broke the protocol.
    Cut,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge { bytes_max } => write!(f, "the body is larger than {bytes_max} bytes"),
            Self::Cut => f.write_str("the body ended early"),
        }
    }
}

impl std::error::Error for BodyError {}

impl Body {
    /// `None` if its stream was taken before.
    pub(crate) fn new(body: IncomingBody) -> Option<Self> {
        let stream = body.stream().ok()?;
        Some(Self { stream, _body: body })
    }

    /// The next piece, of any size; `None` at the end.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        match self.stream.blocking_read(READ_BYTES) {
            Ok(chunk) => Ok(Some(chunk)),
            Err(StreamError::Closed) => Ok(None),
            Err(StreamError::LastOperationFailed(_)) => Err(BodyError::Cut),
        }
    }

    /// All that is left of it.
    pub fn bytes_up_to(mut self, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk()? {
            if chunk.len() > bytes_max - bytes.len() {
                return Err(BodyError::TooLarge { bytes_max });
            }
            match bytes.is_empty() {
                true => bytes = chunk,
                false => bytes.extend_from_slice(&chunk),
            }
        }
        Ok(bytes)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut self.stream, buffer)
    }
}

/// Where the body of a streamed answer is written, piece by piece. Writing waits while the caller reads nothing.
pub struct BodyWriter {
    stream: OutputStream,
}

impl BodyWriter {
    /// Sends an event of `text/event-stream`, at once. Each line of the data becomes a line of the event.
    pub fn event(&mut self, name: &str, data: &str) -> io::Result<()> {
        self.event_with_id("", name, data)
    }

    /// The same with an id: a browser that lost the connection sends the last one as `last-event-id` when it comes again.
    pub fn event_with_id(&mut self, id: &str, name: &str, data: &str) -> io::Result<()> {
        let mut text = String::with_capacity(id.len() + name.len() + data.len() + 24);
        for (field, value) in [("id", id), ("event", name)] {
            // A line break would begin another field.
            if !value.is_empty() && !value.contains(['\n', '\r']) {
                text.extend([field, ": ", value, "\n"]);
            }
        }
        for line in data.split('\n') {
            text.push_str("data: ");
            text.push_str(line.trim_end_matches('\r'));
            text.push('\n');
        }
        text.push('\n');
        self.write_all(text.as_bytes())?;
        self.flush()
    }
}

impl Write for BodyWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Write::write(&mut self.stream, buffer)
    }

    /// Hands what was written to the host, which sends it at once.
    fn flush(&mut self) -> io::Result<()> {
        Write::flush(&mut self.stream)
    }
}

/// Writes a body and closes it. A caller that has gone is no error: there is nobody to tell.
pub(crate) fn send(body: OutgoingBody, write: impl FnOnce(&mut BodyWriter) -> io::Result<()>) {
    if let Ok(stream) = body.write() {
        let mut writer = BodyWriter { stream };
        if write(&mut writer).is_err() {
            // Dropped unfinished, so that the host does not pass a cut body off as a whole one.
            return;
        }
    }
    // Fails when the body is not as long as a content-length that the handler set.
    if let Err(error) = OutgoingBody::finish(body, None) {
        crate::error!("failed to finish the body: {error}");
    }
}
