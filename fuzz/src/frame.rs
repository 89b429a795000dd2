//! Frames between machines: however what comes is cut into pieces, the same messages come out of it, and none is too long.

use bytes::BytesMut;
use skiff_link::frame::{Decoder, Frame};

/// Small enough to be reached.
const MESSAGE_BYTES_MAX: usize = 64;

pub fn check(data: &[u8]) {
    let whole = taken(data, data.len().max(1));
    for piece in [1, 3, 7] {
        assert_eq!(taken(data, piece), whole, "in pieces of {piece}");
    }
}

/// What is taken from pieces of that size: messages, and whether it ended with an error.
fn taken(data: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let (mut decoder, mut came, mut frames) = (Decoder::new(MESSAGE_BYTES_MAX), BytesMut::new(), Vec::new());
    for piece in data.chunks(piece) {
        came.extend_from_slice(piece);
        loop {
            match decoder.take(&mut came) {
                Ok(Some(frame)) => {
                    if let Frame::Message(message) = &frame {
                        assert!(message.len() <= MESSAGE_BYTES_MAX && !message.is_empty());
                    }
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}
