//! Several flows of bytes on one way, framed as Docker frames them when it attaches a client:
//!
//! ```text
//!   u8   0: standard input, 1: standard output, 2: standard error, 3: how it ended, 4: the terminal's size
//!   u8   0, three times
//!   u32  how many bytes follow, big-endian
//!        the bytes; of 3 an [`End`], of 4 a [`Size`], as JSON
//! ```
//! The last two are Kubernetes' numbers for the same.

use serde::{Deserialize, Serialize};

use crate::wire::Stream;

/// What an answer of such frames is called.
pub const CONTENT_TYPE: &str = "application/vnd.docker.multiplexed-stream";

const HEAD_BYTES: usize = 8;
/// The most bytes of one frame that is read. Ours are far shorter.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Input,
    Output,
    Error,
    /// Its bytes are an [`End`].
    End,
    /// Its bytes are a [`Size`].
    Size,
}

impl Channel {
    const ALL: [Self; 5] = [Self::Input, Self::Output, Self::Error, Self::End, Self::Size];

    fn number(self) -> u8 {
        match self {
            Self::Input => 0,
            Self::Output => 1,
            Self::Error => 2,
            Self::End => 3,
            Self::Size => 4,
        }
    }
}

impl From<Stream> for Channel {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Output,
            Stream::Stderr | Stream::System => Self::Error,
        }
    }
}

/// How a command ended: by itself, or because nothing is known of it any more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
}

/// What came is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of standard streams begins with {0:02x?}, as none does")]
pub struct BadFrame([u8; HEAD_BYTES]);

/// One frame. What is longer than a frame may be is cut off; nobody writes so much at once.
pub fn frame(channel: Channel, bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
    let [a, b, c, d] = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = Vec::with_capacity(HEAD_BYTES + bytes.len());
    frame.extend_from_slice(&[channel.number(), 0, 0, 0, a, b, c, d]);
    frame.extend_from_slice(bytes);
    frame
}

/// One whose bytes are JSON.
pub fn json_frame(channel: Channel, value: &impl Serialize) -> Vec<u8> {
    // Plain structs always have a JSON form.
    frame(channel, &serde_json::to_vec(value).unwrap_or_default())
}

/// Frames out of pieces of any size.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    pub fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next whole frame, if it is there.
    pub fn next_frame(&mut self) -> Result<Option<(Channel, Vec<u8>)>, BadFrame> {
        let Some(&head) = self.0.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [number, zeros @ .., a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let channel = Channel::ALL.into_iter().find(|channel| channel.number() == number);
        let Some(channel) = channel.filter(|_| zeros == [0; 3] && length <= FRAME_BYTES_MAX) else {
            return Err(BadFrame(head));
        };
        if self.0.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        let rest = self.0.split_off(HEAD_BYTES + length);
        let frame = std::mem::replace(&mut self.0, rest);
        Ok(Some((channel, frame[HEAD_BYTES..].to_vec())))
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
        let said: [(Channel, &[u8]); 5] = [
            (Channel::Output, b"name? "),
            (Channel::Error, b"\xff\0\n"),
            (Channel::Input, b""),
            (Channel::Size, b"{\"columns\":80,\"rows\":24}"),
            (Channel::End, b"{\"exitCode\":3}"),
        ];
        let sent: Vec<u8> = said.iter().flat_map(|(channel, bytes)| frame(*channel, bytes)).collect();
        for size in 1..sent.len() {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in sent.chunks(size) {
                frames.push(piece);
                while let Some(frame) = frames.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            assert!(!frames.is_cut());
            assert_eq!(got, said.map(|(channel, bytes)| (channel, bytes.to_vec())));
        }
        let mut frames = Frames::default();
        frames.push(&sent[..9]);
        assert!(frames.next_frame().unwrap().is_none() && frames.is_cut());
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bad in [b"HTTP/1.1", &[1, 0, 0, 0, 0xff, 0, 0, 0], &[1, 0, 1, 0, 0, 0, 0, 0], &[5, 0, 0, 0, 0, 0, 0, 0]] {
            let mut frames = Frames::default();
            frames.push(bad);
            assert!(frames.next_frame().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_end_and_a_size_are_json() {
        let end = End { exit_code: Some(3), ..End::default() };
        assert_eq!(json_frame(Channel::End, &end)[HEAD_BYTES..], *b"{\"exitCode\":3}");
        assert_eq!(
            json_frame(Channel::Size, &Size { columns: 80, rows: 24 })[HEAD_BYTES..],
            *b"{\"columns\":80,\"rows\":24}"
        );
    }
}
