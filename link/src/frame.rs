//! Messages as bytes on a connection.
//!
//! ```text
//!   u32  how many bytes follow, big-endian, 2 to 1 MiB
//!   u8   version: 1
//!   u8   flags: 1, the message goes on in the next frame; 2, a heartbeat, which is empty
//!        a message, or a part of one: JSON
//! ```
//! Nothing here does I/O. What a stranger sends is checked before anything is kept for it: an error means that the two do
//! not understand one another, and ends the connection.

use std::io::{self, Write};

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;

/// What a control plane may say at once: the whole desired set of a large node.
pub const TO_NODE_BYTES_MAX: usize = 64 << 20;
/// What a node may say at once.
pub const FROM_NODE_BYTES_MAX: usize = 16 << 20;

const VERSION: u8 = 1;
const MORE: u8 = 1;
const HEARTBEAT: u8 = 2;
const LENGTH_BYTES: usize = 4;
/// Version and flags.
const HEAD_BYTES: usize = 2;
const FRAME_BYTES_MAX: usize = 1 << 20;
/// How long messages are cut. Shorter frames cost little, and whoever reads keeps less of one that is not whole.
const PART_BYTES: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a message is no JSON, or not one that this version knows")]
    Json(#[source] serde_json::Error),
    #[error("a message has more than {max} bytes")]
    TooLong { max: usize },
    #[error("a frame says that it has {bytes} bytes, which none has")]
    BadLength { bytes: u32 },
    #[error("a frame has version {version}, not {VERSION} (hint: run the same version of skiff on both)")]
    BadVersion { version: u8 },
    #[error("a frame has flags {flags:#04x}, which are unknown")]
    BadFlags { flags: u8 },
    #[error("a frame is empty and no heartbeat, or a heartbeat that is not empty")]
    BadContent,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Heartbeat,
    /// A whole message, as JSON.
    Message(Bytes),
}

/// Appends a heartbeat.
pub fn heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&head(0, HEARTBEAT));
}

/// Appends a message. On an error `out` is as it was.
pub fn encode(message: &impl Serialize, message_bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    let mut parts = Parts { out, start, room: message_bytes_max };
    match serde_json::to_writer(&mut parts, message) {
        Ok(()) => {
            parts.close(0);
            Ok(())
        }
        Err(error) => {
            let is_full = error.io_error_kind() == Some(io::ErrorKind::FileTooLarge);
            out.truncate(start);
            Err(if is_full { Error::TooLong { max: message_bytes_max } } else { Error::Json(error) })
        }
    }
}

fn head(payload_bytes: usize, flags: u8) -> [u8; LENGTH_BYTES + HEAD_BYTES] {
    let length = u32::try_from(HEAD_BYTES + payload_bytes).unwrap_or(u32::MAX);
    let [a, b, c, d] = length.to_be_bytes();
    [a, b, c, d, VERSION, flags]
}

/// Cuts what is written into frames.
struct Parts<'a> {
    out: &'a mut Vec<u8>,
    /// Where the frame begins that is being filled; its head is written when it is full.
    start: usize,
    /// How much longer the message may be.
    room: usize,
}

impl Parts<'_> {
    fn filled(&self) -> usize {
        self.out.len().saturating_sub(self.start + LENGTH_BYTES + HEAD_BYTES)
    }

    fn close(&mut self, flags: u8) {
        let head = head(self.filled(), flags);
        if let Some(place) = self.out.get_mut(self.start..self.start + head.len()) {
            place.copy_from_slice(&head);
        }
        self.start = self.out.len();
    }
}

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.room {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.filled() == PART_BYTES {
            self.close(MORE);
        }
        if self.start == self.out.len() {
            self.out.extend_from_slice(&head(0, 0));
        }
        let taken = bytes.len().min(PART_BYTES - self.filled());
        self.out.extend_from_slice(&bytes[..taken]);
        self.room -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts messages together again.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    /// Of a message that goes on.
    parts: BytesMut,
}

impl Decoder {
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, parts: BytesMut::new() }
    }

    /// Takes the next whole thing out of what came; nothing while it is not there yet. Must not be used after an error.
    pub fn take(&mut self, came: &mut BytesMut) -> Result<Option<Frame>, Error> {
        loop {
            let Some((length, _)) = came.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
            let bytes = u32::from_be_bytes(*length);
            let length = usize::try_from(bytes).unwrap_or(usize::MAX);
            if !(HEAD_BYTES..=FRAME_BYTES_MAX).contains(&length) {
                return Err(Error::BadLength { bytes });
            }
            // Also of a frame that is not whole: nothing more is read of one that cannot be used.
            let Some(&[version, flags]) = came.get(LENGTH_BYTES..).and_then(|rest| rest.first_chunk()) else {
                return Ok(None);
            };
            let payload_bytes = length - HEAD_BYTES;
            self.check(version, flags, payload_bytes)?;
            if came.len() < LENGTH_BYTES + length {
                return Ok(None);
            }
            came.advance(LENGTH_BYTES + HEAD_BYTES);
            let payload = came.split_to(payload_bytes);
            match flags {
                HEARTBEAT => return Ok(Some(Frame::Heartbeat)),
                MORE => self.parts.extend_from_slice(&payload),
                _ if self.parts.is_empty() => return Ok(Some(Frame::Message(payload.freeze()))),
                _ => {
                    self.parts.extend_from_slice(&payload);
                    return Ok(Some(Frame::Message(std::mem::take(&mut self.parts).freeze())));
                }
            }
        }
    }

    fn check(&self, version: u8, flags: u8, payload_bytes: usize) -> Result<(), Error> {
        if version != VERSION {
            return Err(Error::BadVersion { version });
        }
        match (flags, payload_bytes) {
            (HEARTBEAT, 0) => Ok(()),
            (HEARTBEAT, _) | (0 | MORE, 0) => Err(Error::BadContent),
            (0 | MORE, _) if self.parts.len() + payload_bytes > self.message_bytes_max => {
                Err(Error::TooLong { max: self.message_bytes_max })
            }
            (0 | MORE, _) => Ok(()),
            (flags, _) => Err(Error::BadFlags { flags }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 4 << 20;

    fn encoded(message: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&message, MAX, &mut out).unwrap();
        out
    }

    fn raw(length: u32, version: u8, flags: u8, payload: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::from(&length.to_be_bytes()[..]);
        bytes.extend_from_slice(&[version, flags]);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn take(bytes: &[u8]) -> Result<Option<Frame>, Error> {
        Decoder::new(MAX).take(&mut BytesMut::from(bytes))
    }

    #[test]
    fn a_frame_is_what_the_page_says() {
        assert_eq!(encoded("a"), [0, 0, 0, 5, 1, 0, b'"', b'a', b'"']);
        let mut out = Vec::new();
        heartbeat(&mut out);
        assert_eq!(out, [0, 0, 0, 2, 1, 2]);
    }

    #[test]
    fn a_long_message_is_cut_and_put_together() {
        for length in [PART_BYTES - 3, PART_BYTES - 2, PART_BYTES - 1, 2 * PART_BYTES - 2, 3 * PART_BYTES] {
            let message = "x".repeat(length);
            let bytes = encoded(&message);
            let frames = (length + 2).div_ceil(PART_BYTES);
            assert_eq!(bytes.len(), length + 2 + frames * 6, "{length}");
            let Some(Frame::Message(whole)) = take(&bytes).unwrap() else { panic!("{length}") };
            assert_eq!(serde_json::from_slice::<String>(&whole).unwrap(), message);
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_neither_sent_nor_taken() {
        let mut out = vec![7];
        let error = encode(&"x".repeat(999), 1000, &mut out).unwrap_err();
        assert!(matches!(error, Error::TooLong { max: 1000 }) && out == [7], "{error}");
        encode(&"x".repeat(998), 1000, &mut out).unwrap();
        let mut decoder = Decoder::new(999);
        assert!(matches!(decoder.take(&mut BytesMut::from(&out[1..])), Err(Error::TooLong { max: 999 })));
        // In parts, of which each is short enough: the last one is refused by its head alone.
        let (mut decoder, part) = (Decoder::new(10), raw(8, 1, MORE, b"123456"));
        assert_eq!(decoder.take(&mut part.clone()).unwrap(), None);
        assert!(matches!(decoder.take(&mut raw(8, 1, 0, b"")), Err(Error::TooLong { .. })));
        assert!(decoder.parts.len() <= 10);
    }

    #[test]
    fn what_cannot_be_used_is_refused_before_it_is_whole() {
        assert!(matches!(take(&raw(1, 1, 0, b"")), Err(Error::BadLength { bytes: 1 })));
        assert!(matches!(take(&0u32.to_be_bytes()), Err(Error::BadLength { bytes: 0 })));
        assert!(matches!(take(&raw((1 << 20) + 1, 1, 0, b"")), Err(Error::BadLength { .. })));
        assert!(matches!(take(b"GET / HTTP/1.1\r\n"), Err(Error::BadLength { .. })));
        assert!(matches!(take(&raw(100, 2, 0, b"")), Err(Error::BadVersion { version: 2 })));
        for flags in [3, 4, 128, 255] {
            assert!(matches!(take(&raw(100, 1, flags, b"")), Err(Error::BadFlags { .. })), "{flags}");
        }
        for (length, flags) in [(2, 0), (2, MORE), (3, HEARTBEAT)] {
            assert!(matches!(take(&raw(length, 1, flags, b"")), Err(Error::BadContent)), "{flags}");
        }
    }

    #[test]
    fn heartbeats_come_also_between_the_parts_of_a_message() {
        let mut bytes = raw(3, 1, MORE, b"1");
        let mut beat = Vec::new();
        heartbeat(&mut beat);
        bytes.extend_from_slice(&beat);
        bytes.extend_from_slice(&raw(3, 1, 0, b"2"));
        let mut decoder = Decoder::new(MAX);
        assert_eq!(decoder.take(&mut bytes).unwrap(), Some(Frame::Heartbeat));
        assert_eq!(decoder.take(&mut bytes).unwrap(), Some(Frame::Message(Bytes::from_static(b"12"))));
        assert_eq!(decoder.take(&mut bytes).unwrap(), None);
    }

    proptest! {
        #[test]
        fn messages_arrive_however_the_connection_cuts_them(
            messages in prop::collection::vec(".{0,40}", 1..6),
            step in 1usize..50,
        ) {
            let mut bytes = Vec::new();
            for message in &messages {
                encode(message, MAX, &mut bytes).unwrap();
                heartbeat(&mut bytes);
            }
            let (mut decoder, mut buffer, mut came) = (Decoder::new(MAX), BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = decoder.take(&mut buffer).unwrap() {
                    if let Frame::Message(json) = frame {
                        came.push(serde_json::from_slice::<String>(&json).unwrap());
                    }
                }
            }
            prop_assert_eq!(came, messages);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn nothing_that_comes_makes_it_panic_or_keep_more_than_it_may(bytes in prop::collection::vec(0u8..8, 0..400)) {
            let (mut decoder, mut buffer) = (Decoder::new(64), BytesMut::from(&bytes[..]));
            while let Ok(Some(_)) = decoder.take(&mut buffer) {}
            prop_assert!(decoder.parts.len() <= 64);
        }
    }
}
