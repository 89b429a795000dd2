//! Where a guest writes.

use std::sync::{Arc, Mutex, PoisonError};

use skiff_api::wire::Stream;

use super::journal::Journal;
use super::lines::Partial;

/// The log of one replica, as one of its writers sees it. Clones write to the same lines; [`Sink::for_request`] makes a
/// writer of its own, so that the lines of concurrent requests do not mix. A line that was not ended is passed on when
/// the last clone is dropped: it ends with its request.
#[derive(Debug, Clone)]
pub struct Sink(Arc<Writer>);

#[derive(Debug)]
struct Writer {
    journal: Arc<Journal>,
    partial: Mutex<Partials>,
}

#[derive(Debug, Default)]
struct Partials {
    stdout: Partial,
    stderr: Partial,
    system: Partial,
}

impl Sink {
    pub fn new(journal: Arc<Journal>) -> Self {
        Self(Arc::new(Writer { journal, partial: Mutex::default() }))
    }

    /// A writer to the same log with lines of its own.
    #[must_use]
    pub fn for_request(&self) -> Self {
        Self::new(self.0.journal.clone())
    }

    /// Ends lines that were not ended: what comes next is another request's.
    pub fn end_lines(&self) {
        self.0.partial.lock().unwrap_or_else(PoisonError::into_inner).finish(&self.0.journal);
    }

    /// Never waits for a disk or a reader: what is beyond the replica's rate is dropped, and counted.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut partials = self.0.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let partial = match stream {
            Stream::Stdout => &mut partials.stdout,
            Stream::Stderr => &mut partials.stderr,
            Stream::System => &mut partials.system,
        };
        partial.push(bytes, |line| self.0.journal.append(stream, line));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let partials = self.partial.get_mut().unwrap_or_else(PoisonError::into_inner);
        partials.finish(&self.journal);
    }
}

impl Partials {
    fn finish(&mut self, journal: &Journal) {
        for (stream, partial) in
            [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr), (Stream::System, &mut self.system)]
        {
            if let Some(line) = partial.finish() {
                journal.append(stream, line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_its_request() {
        let journal = Journal::in_memory();
        let writer = Sink::new(journal.clone()).for_request();
        writer.write(Stream::Stdout, b"first");
        writer.end_lines();
        writer.write(Stream::Stdout, b"second\n");
        let lines: Vec<_> = journal.pending().into_iter().map(|line| line.text).collect();
        assert_eq!(lines, ["first", "second"]);
    }

    #[test]
    fn lines_of_concurrent_requests_do_not_mix() {
        let journal = Journal::in_memory();
        let replica = Sink::new(journal.clone());
        let (one, two) = (replica.for_request(), replica.for_request());
        one.write(Stream::Stdout, b"one ");
        two.write(Stream::Stdout, b"two ");
        one.write(Stream::Stderr, b"error\n");
        one.write(Stream::Stdout, b"one\n");
        let clone = two.clone();
        drop(two);
        assert_eq!(journal.pending().len(), 2);
        drop(clone);
        let lines: Vec<_> = journal.pending().into_iter().map(|line| (line.stream, line.text)).collect();
        let expected = [(Stream::Stderr, "error"), (Stream::Stdout, "one one"), (Stream::Stdout, "two ")];
        assert_eq!(lines, expected.map(|(stream, text)| (stream, text.to_owned())));
    }
}
