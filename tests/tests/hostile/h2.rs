//! HTTP/2 by hand: frames as they are on the wire, right or wrong (RFC 9113), and headers without compression (RFC 7541).

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use skiff_tests::http::connect;

use crate::world::World;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The names of error codes, by number.
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A connection after its preface.
pub(crate) struct Connection<'a> {
    world: &'a World,
    stream: TcpStream,
    came: Vec<u8>,
    mute: bool,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl<'a> Connection<'a> {
    /// With these settings, each its number and value.
    pub(crate) fn open(world: &'a World, settings: &[(u16, u32)]) -> Self {
        let stream = connect(world.cluster.gateway_addr()).unwrap();
        let mut connection = Self { world, stream, came: Vec::new(), mute: false };
        connection.send(PREFACE);
        connection.send(&frame(SETTINGS, 0, 0, &settings_of(settings)));
        connection
    }

    /// Answers nothing from now on, not even pings.
    pub(crate) fn mute(&mut self) {
        self.mute = true;
    }

    /// Sends bytes, if anybody still takes them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends bytes and reads nothing, for as long as they are taken without a wait of so long, at most so often.
    pub(crate) fn flood(&mut self, bytes: &[u8], times: usize) {
        self.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        for _ in 0..times {
            if !self.send(bytes) {
                return;
            }
        }
    }

    /// What becomes of a stream: `200`, `504 first-byte-timeout`, `200 cut CANCEL`, `reset REFUSED_STREAM`; or of the
    /// connection: `goaway ENHANCE_YOUR_CALM`, `closed`; or nothing in that time: `silence`. Pings and settings of the
    /// other side are answered.
    pub(crate) fn outcome(&mut self, stream: u32, patience: Duration) -> String {
        let start = Instant::now();
        let (mut status, mut body) = (None::<u16>, Vec::new());
        while start.elapsed() < patience {
            let Some(frame) = self.read(patience.saturating_sub(start.elapsed())) else {
                return if self.is_closed() { "closed".to_owned() } else { "silence".to_owned() };
            };
            let of_stream = frame.stream == stream;
            match frame.kind {
                GOAWAY => return format!("goaway {}", error_name(&frame.payload[4..])),
                RESET if of_stream => match status {
                    Some(status) => return format!("{status} cut {}", error_name(&frame.payload)),
                    None => return format!("reset {}", error_name(&frame.payload)),
                },
                HEADERS if of_stream && status.is_none() => status = Some(status_of(&frame.payload)),
                DATA if of_stream => {
                    body.extend_from_slice(&frame.payload);
                    self.give_back(stream, frame.payload.len());
                }
                PING | SETTINGS if frame.flags & ACK == 0 => self.acknowledge(&frame),
                _ => {}
            }
            if of_stream && [HEADERS, DATA].contains(&frame.kind) && frame.flags & END_STREAM != 0 {
                return self.words(status.unwrap_or_default(), &body);
            }
        }
        "silence".to_owned()
    }

    fn acknowledge(&mut self, asked: &Frame) {
        if !self.mute {
            let payload = if asked.kind == PING { asked.payload.as_slice() } else { &[] };
            self.send(&frame(asked.kind, ACK, 0, payload));
        }
    }

    /// Room for what was read, so that it goes on.
    fn give_back(&mut self, stream: u32, bytes: usize) {
        if bytes > 0 {
            let bytes = u32::try_from(bytes).unwrap().to_be_bytes();
            self.send(&frame(WINDOW_UPDATE, 0, 0, &bytes));
            self.send(&frame(WINDOW_UPDATE, 0, stream, &bytes));
        }
    }

    /// The gateway's own answers say their code in the body, too, where no compression is in the way.
    fn words(&self, status: u16, body: &[u8]) -> String {
        let problem = serde_json::from_slice::<serde_json::Value>(body).ok();
        match problem.as_ref().and_then(|problem| problem["code"].as_str()) {
            Some(code) => {
                self.world.note(code);
                format!("{status} {code}")
            }
            None => status.to_string(),
        }
    }

    fn read(&mut self, patience: Duration) -> Option<Frame> {
        let head = self.read_bytes(9, patience)?;
        let bytes = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.read_bytes(bytes, patience)?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    fn read_bytes(&mut self, count: usize, patience: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + patience.max(Duration::from_millis(1));
        while self.came.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut part = [0; 16 << 10];
            match self.stream.read(&mut part) {
                Ok(0) => return None,
                Ok(read) => self.came.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(self.came.drain(..count).collect())
    }

    fn is_closed(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// A frame as it is on the wire.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The payload of a settings frame.
pub(crate) fn settings_of(settings: &[(u16, u32)]) -> Vec<u8> {
    settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect()
}

/// Headers, none of them compressed.
pub(crate) fn headers_of(headers: &[(&str, &str)]) -> Vec<u8> {
    headers.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect()
}

/// The headers of a `GET path` of a service.
pub(crate) fn get_of(service: &str, path: &str) -> Vec<u8> {
    request_of("GET", service, path, &[])
}

/// The headers of a request.
pub(crate) fn request_of(method: &str, service: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let host = World::host(service);
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", &host), (":path", path)];
    headers_of(&[&pseudo[..], more].concat())
}

/// A header that is not to be remembered.
pub(crate) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

/// A header that is to be remembered, so that one byte means it from then on.
pub(crate) fn remembered(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0x40][..], &string(name), &string(value)].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [integer(bytes.len()), bytes.to_vec()].concat()
}

/// With a prefix of seven bits.
fn integer(value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![value as u8];
    }
    let (mut bytes, mut left) = (vec![127], value - 127);
    while left >= 128 {
        bytes.push((left % 128) as u8 | 128);
        left /= 128;
    }
    bytes.push(left as u8);
    bytes
}

/// The status in a block of headers, where it comes first: one byte, or the name's number and three digits.
fn status_of(block: &[u8]) -> u16 {
    // A change of the table's size may stand before it.
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [byte @ 0x88..=0x8e, ..] => INDEXED[usize::from(byte - 0x88)],
        [0x08 | 0x18 | 0x48, length, rest @ ..] if length & 0x80 != 0 => {
            digits(&rest[..usize::from(length & 0x7f)]).unwrap_or_default()
        }
        [0x08 | 0x18 | 0x48, 3, rest @ ..] => {
            std::str::from_utf8(&rest[..3]).ok().and_then(|digits| digits.parse().ok()).unwrap_or_default()
        }
        _ => 0,
    }
}

/// Three digits in Huffman's code: those below three have five bits, the others six.
fn digits(bytes: &[u8]) -> Option<u16> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0u16, |number, bit| number << 1 | u16::from(*bit));
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let digit = match number(bits.get(at..at + 5)?) {
            digit @ 0..=2 => {
                at += 5;
                digit
            }
            _ => {
                let digit = number(bits.get(at..at + 6)?).checked_sub(22)?;
                at += 6;
                digit
            }
        };
        value = value * 10 + digit;
    }
    Some(value)
}

fn error_name(code: &[u8]) -> String {
    let code = code.get(..4).map_or(u32::MAX, |code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
    ERRORS.get(code as usize).map_or_else(|| code.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_however_they_are_written() {
        assert_eq!(status_of(&[0x88, 0x5f]), 200);
        assert_eq!(status_of(&[0x20, 0x8d]), 404);
        // 504: 011011 00000 011010, then ones up to the byte's end.
        assert_eq!(status_of(&[0x48, 0x83, 0b0110_1100, 0b0000_1101, 0b0111_1111]), 504);
        assert_eq!(status_of(b"\x08\x03503"), 503);
    }

    #[test]
    fn frames_and_lengths_are_as_the_standard_has_them() {
        assert_eq!(frame(PING, ACK, 0, b"12345678"), b"\0\0\x08\x06\x01\0\0\0\x0012345678");
        assert_eq!(integer(1337), [127, 0xba, 0x09]);
        assert_eq!(literal(b"a", b"b"), b"\0\x01a\x01b");
    }
}
