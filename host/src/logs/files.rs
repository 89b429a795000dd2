//! The stored part of a replica's log: two files of bounded size, one JSON line for each line.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use skiff_api::wire::LogLine;
use skiff_disk::{Disk, Mode};

/// A file that has grown beyond this becomes the previous one. Two of them are some 50,000 lines, which is more than
/// anybody scrolls through, and with ten thousand replicas still fits on a disk where few of them are noisy.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What a file may have when it is read: one flush may exceed the size at which it is rotated.
const READ_BYTES_MAX: u64 = 2 * FILE_BYTES_MAX;

const CURRENT: &str = "current.ndjson";
const PREVIOUS: &str = "previous.ndjson";

/// Nothing is open between two calls: ten thousand replicas have no ten thousand file descriptors.
#[derive(Debug)]
pub(super) struct Files {
    disk: Disk,
    /// `[logs, namespace, service, replica]`, of which the later ones are made with the first line.
    dirs: [PathBuf; 4],
    failing: bool,
}

impl Files {
    pub(super) fn new(disk: Disk, dirs: [PathBuf; 4]) -> Self {
        Self { disk, dirs, failing: false }
    }

    /// Loses the lines, and says so once, when the disk does not take them.
    pub(super) fn append(&mut self, lines: &[LogLine]) {
        if lines.is_empty() {
            return;
        }
        match self.try_append(lines) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(dir = %self.dirs[3].display(), %error, "failed to write logs; lines are lost until it works again");
            }
            Err(_) => {}
        }
    }

    fn try_append(&self, lines: &[LogLine]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        let current = self.dirs[3].join(CURRENT);
        let file = match self.disk.open(&current, Mode::Create) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.dirs.iter().try_for_each(|dir| self.disk.create_dir(dir))?;
                self.disk.open(&current, Mode::Create)?
            }
            Err(e) => return Err(e),
        };
        let bytes = file.bytes()?;
        let mut last = [b'\n'];
        if bytes > 0 {
            file.read_at(&mut last, bytes - 1)?;
        }
        if last != *b"\n" {
            // A crash tore the last line: the next one must not be glued to it.
            text.insert(0, b'\n');
        }
        file.write_at(&text, bytes)?;
        if bytes + text.len() as u64 > FILE_BYTES_MAX {
            self.disk.rename(&current, self.dirs[3].join(PREVIOUS))?;
        }
        Ok(())
    }

    /// Everything, oldest first; what is no line is skipped.
    pub(super) fn read(&self) -> Vec<LogLine> {
        let mut lines = VecDeque::new();
        for name in [PREVIOUS, CURRENT] {
            let Ok(text) = self.disk.read(self.dirs[3].join(name), READ_BYTES_MAX) else { continue };
            let parsed = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
            lines.extend(parsed);
        }
        lines.into()
    }

    /// Removes the files and what folders are empty then.
    pub(super) fn remove(&self) {
        for name in [PREVIOUS, CURRENT] {
            self.ignore_missing(self.disk.remove_file(self.dirs[3].join(name)));
        }
        for dir in self.dirs[1..].iter().rev() {
            if self.disk.remove_dir(dir).is_err() {
                break;
            }
        }
    }

    fn ignore_missing(&self, result: io::Result<()>) {
        if let Err(error) = result
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dirs[3].display(), %error, "failed to remove logs");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;
    use skiff_api::wire::Stream;

    use super::*;

    fn files(dir: &Path) -> Files {
        let at = |path: &str| dir.join(path);
        Files::new(
            Disk::real(),
            [at("logs"), at("logs/default"), at("logs/default/cart"), at("logs/default/cart/cart-1-a")],
        )
    }

    fn line(text: &str) -> LogLine {
        LogLine { time: Timestamp::now(), stream: Stream::Stdout, text: text.to_owned() }
    }

    fn texts(files: &Files) -> Vec<String> {
        files.read().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn what_is_written_is_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files(dir.path());
        files.append(&[line("a"), line("b\nc")]);
        files.append(&[line("d")]);
        assert_eq!(texts(&files), ["a", "b\nc", "d"]);
        files.remove();
        assert!(dir.path().join("logs").exists() && !dir.path().join("logs/default").exists());
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files(dir.path());
        files.append(&[line("a"), line("b")]);
        let path = dir.path().join("logs/default/cart/cart-1-a").join(CURRENT);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        files.append(&[line("c")]);
        assert_eq!(texts(&files), ["a", "c"]);
    }

    #[test]
    fn the_size_is_bounded_and_the_newest_lines_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files(dir.path());
        let long = "x".repeat(10_000);
        for number in 0..2000 {
            files.append(&[line(&format!("{number} {long}"))]);
        }
        let texts = texts(&files);
        assert!(texts.len() > 400 && texts.last().unwrap().starts_with("1999 "), "{}", texts.len());
        let dir = dir.path().join("logs/default/cart/cart-1-a");
        let bytes: u64 = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 2 * FILE_BYTES_MAX + 20_000, "{bytes}");
    }
}
