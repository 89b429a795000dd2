//! A file of a [`Disk`](skiff_disk::Disk), read or written from its beginning on.

use std::io::{self, Read};
use std::sync::Arc;

use skiff_disk::File;

use super::search::Sink;

/// Reads a file as a stream.
#[derive(Debug)]
pub struct FileReader {
    file: Arc<File>,
    at: u64,
}

impl FileReader {
    pub fn new(file: impl Into<Arc<File>>) -> Self {
        Self { file: file.into(), at: 0 }
    }
}

impl Read for FileReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buf, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A file that a component is written to.
#[derive(Debug)]
pub(super) struct FileSink {
    pub(super) file: File,
    pub(super) bytes: u64,
}

impl Sink for FileSink {
    fn restart(&mut self) -> io::Result<()> {
        self.bytes = 0;
        self.file.set_bytes(0)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
