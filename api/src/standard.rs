//! Standard output and standard error on one way, framed as Docker frames them when it attaches a client:
//!
//! ```text
//!   u8   1: standard output, 2: standard error
//!   u8   0, three times
//!   u32  how many bytes follow, big-endian
//!        the bytes
//! ```

use crate::wire::Stream;

/// What an answer of such frames is called.
pub const CONTENT_TYPE: &str = "application/vnd.docker.multiplexed-stream";

const HEAD_BYTES: usize = 8;
/// The most bytes of one frame that is read. Ours are far shorter.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What came is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of standard streams begins with {0:02x?}, as none does")]
pub struct BadFrame([u8; HEAD_BYTES]);

/// One frame. What is longer than a frame may be is cut off; nobody writes so much at once.
pub fn frame(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr | Stream::System => 2,
    };
    let [a, b, c, d] = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = Vec::with_capacity(HEAD_BYTES + bytes.len());
    frame.extend_from_slice(&[number, 0, 0, 0, a, b, c, d]);
    frame.extend_from_slice(bytes);
    frame
}

/// Frames out of pieces of any size.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    pub fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next whole frame, if it is there.
    pub fn next_frame(&mut self) -> Result<Option<(Stream, Vec<u8>)>, BadFrame> {
        let Some(&head) = self.0.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [number, zero, zero_too, zero_again, a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let stream = match number {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return Err(BadFrame(head)),
        };
        if [zero, zero_too, zero_again] != [0; 3] || length > FRAME_BYTES_MAX {
            return Err(BadFrame(head));
        }
        if self.0.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        let rest = self.0.split_off(HEAD_BYTES + length);
        let frame = std::mem::replace(&mut self.0, rest);
        Ok(Some((stream, frame[HEAD_BYTES..].to_vec())))
    }

    /// Whether a frame has begun and not ended.
    pub fn is_cut(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_whole_from_pieces_of_any_size() {
        let said: [(Stream, &[u8]); 4] = [
            (Stream::Stdout, b"name? "),
            (Stream::Stderr, b"\xff\0\n"),
            (Stream::Stdout, b""),
            (Stream::Stdout, b"end"),
        ];
        let sent: Vec<u8> = said.iter().flat_map(|(stream, bytes)| frame(*stream, bytes)).collect();
        for size in 1..sent.len() {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in sent.chunks(size) {
                frames.push(piece);
                while let Some(frame) = frames.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            assert!(!frames.is_cut());
            assert_eq!(got, said.map(|(stream, bytes)| (stream, bytes.to_vec())));
        }
        let mut frames = Frames::default();
        frames.push(&sent[..9]);
        assert!(frames.next_frame().unwrap().is_none() && frames.is_cut());
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bad in [b"HTTP/1.1", &[1, 0, 0, 0, 0xff, 0, 0, 0], &[1, 0, 1, 0, 0, 0, 0, 0], &[0; 8]] {
            let mut frames = Frames::default();
            frames.push(bad);
            assert!(frames.next_frame().is_err(), "{bad:?}");
        }
    }
}
