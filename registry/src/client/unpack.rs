//! What a layer is, by its first bytes, and what is in it once it is unpacked.
//!
//! Types lie: oras calls files tars, and tools differ on what they call compressed. So gzip and zstd are known by their
//! first bytes, as containerd does it, and what comes out is a component or module, or a tar, or of no use.
//!
//! A few kilobytes can unpack to terabytes. Everything that comes out is counted against a [`Budget`], nothing is held
//! but a window: gzip's is 32 KiB, zstd's is bounded here.

use std::io::{self, BufReader, Cursor, Read};

/// What zstd may ask for to unpack: 2^25 bytes, 32 MiB. `zstd -19` needs 8; what needs more was made with `--ultra` or
/// `--long`, which docker and podman do not.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// The bytes of a tar's header, which is the most that is needed to know a layer.
const HEAD_BYTES: usize = 512;

/// How many bytes may still come out.
#[derive(Debug)]
pub(super) struct Budget(pub(super) u64);

/// More came out than may.
#[derive(Debug, thiserror::Error)]
#[error("its layers unpack to more than is allowed")]
pub(super) struct Exhausted;

/// A layer, unpacked.
pub(super) enum Content<'a> {
    /// A component or a core module.
    Wasm(Box<dyn Read + 'a>),
    Tar(Box<dyn Read + 'a>),
    /// Neither: its first bytes.
    Other(Vec<u8>),
}

/// Looks at a layer's first bytes, unpacks it as they say, and looks again.
pub(super) fn open<'a>(layer: impl Read + 'a, budget: &'a mut Budget) -> io::Result<Content<'a>> {
    let (head, layer) = peeked(Box::new(layer))?;
    let unpacked: Box<dyn Read + 'a> = match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(layer))),
        // A frame, or one to skip, which some tools put before the first.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::new(layer)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        _ => layer,
    };
    let (head, unpacked) = peeked(Box::new(Counted { inner: unpacked, budget }))?;
    Ok(match () {
        () if head.starts_with(b"\0asm") => Content::Wasm(unpacked),
        () if is_tar(&head) => Content::Tar(unpacked),
        () => Content::Other(head),
    })
}

/// The first bytes of what a reader gives, and a reader that gives all of it.
fn peeked<'a>(mut reader: Box<dyn Read + 'a>) -> io::Result<(Vec<u8>, Box<dyn Read + 'a>)> {
    let mut head = Vec::new();
    reader.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(reader))))
}

/// A header whose sum is right, or the zeros that an empty tar is made of.
fn is_tar(head: &[u8]) -> bool {
    if head.len() < HEAD_BYTES {
        return false;
    }
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let is_empty = head.iter().all(|byte| *byte == 0);
    // The sum is made with blanks in its own place.
    let expected = sum(&head[..148]) + 8 * u32::from(b' ') + sum(&head[156..]);
    is_empty || tar::Header::from_byte_slice(head).cksum().is_ok_and(|sum| sum == expected)
}

struct Counted<'a, R> {
    inner: R,
    budget: &'a mut Budget,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        match self.budget.0.checked_sub(count as u64) {
            Some(left) => self.budget.0 = left,
            None => return Err(io::Error::other(Exhausted)),
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// What a layer is, and all that is in it.
    fn opened(layer: &[u8], budget: u64) -> io::Result<(&'static str, Vec<u8>)> {
        let mut budget = Budget(budget);
        let mut all = Vec::new();
        Ok(match open(layer, &mut budget)? {
            Content::Wasm(mut reader) => (reader.read_to_end(&mut all).map(|_| "wasm")?, all),
            Content::Tar(mut reader) => (reader.read_to_end(&mut all).map(|_| "tar")?, all),
            Content::Other(head) => ("other", head),
        })
    }

    #[test]
    fn the_bytes_say_what_a_layer_is() {
        let wasm = [b"\0asm\x0d\0\x01\0".as_slice(), &[7; 5000]].concat();
        let mut header = tar::Header::new_gnu();
        header.set_size(5000);
        header.set_cksum();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_data(&mut header, "a", [7; 5000].as_slice()).unwrap();
        let tar = tar.into_inner().unwrap();
        let empty_tar = vec![0; 1024];
        for (kind, bytes) in [("wasm", &wasm), ("tar", &tar), ("tar", &empty_tar)] {
            // In two frames, as zstd:chunked writes it, and with one to skip before them.
            let half = bytes.len() / 2;
            let frames = [&bytes[..half], &bytes[half..]].map(|part| zstd::encode_all(part, 3).unwrap()).concat();
            let skipped = [b"\x50\x2a\x4d\x18\x03\0\0\0abc".as_slice(), &frames].concat();
            for layer in [bytes.clone(), gzip(bytes), frames, skipped] {
                assert_eq!(opened(&layer, 1 << 20).unwrap(), (kind, bytes.clone()));
            }
        }
        assert_eq!(opened(b"#!/bin/sh", 100).unwrap(), ("other", b"#!/bin/sh".to_vec()));
        assert_eq!(opened(b"", 100).unwrap().0, "other");
        assert_eq!(opened(&gzip(&gzip(&wasm)), 1 << 20).unwrap().0, "other", "once is enough");
        assert!(opened(&gzip(&wasm)[..40], 1 << 20).is_err());
    }

    #[test]
    fn what_unpacks_to_more_than_is_allowed_ends_there() {
        let zeros = vec![0; 64 << 20];
        for bomb in [gzip(&zeros), zstd::encode_all(zeros.as_slice(), 3).unwrap()] {
            assert!(bomb.len() < 500_000, "{}", bomb.len());
            let error = opened(&bomb, 1 << 20).unwrap_err();
            assert!(error.get_ref().is_some_and(|inner| inner.is::<Exhausted>()), "{error}");
        }
    }

    #[test]
    fn a_window_larger_than_any_tool_uses_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&vec![1; 1000]).unwrap();
        // What is known to be small when it is finished gets a small window: this is not known.
        encoder.flush().unwrap();
        encoder.write_all(b"\0asm").unwrap();
        assert!(opened(&encoder.finish().unwrap(), 1 << 20).is_err());
    }
}
