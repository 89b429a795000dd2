//! The logs of several replicas as one, in the order of their times.
//!
//! Each source is in order by itself, so the next line of all is the earliest of their next lines. A source that is
//! silent would hold up all others; so it is waited for only so long, and what it says later comes later.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use skiff_api::Problem;
use skiff_api::wire::LogLine;
use tokio::time::{Instant, Sleep, sleep_until};

/// What a replica's log has next: a line, or why no more come.
pub(super) type Said = Result<LogLine, Problem>;

pub(super) type Lines = BoxStream<'static, Said>;

/// Sources that are merged.
pub(super) struct Merge {
    sources: Vec<Source>,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
}

struct Source {
    replica: String,
    lines: Lines,
    /// What it says next, and when it said so, once it is there.
    head: Option<(Timestamp, Said)>,
    silent_since: Option<Instant>,
    is_over: bool,
}

impl Merge {
    /// `patience`: how long a silent source holds up the others.
    pub(super) fn new(patience: Duration) -> Self {
        Self { sources: Vec::new(), patience, timer: Box::pin(sleep_until(Instant::now())) }
    }

    pub(super) fn add(&mut self, replica: String, lines: Lines) {
        self.sources.push(Source { replica, lines, head: None, silent_since: None, is_over: false });
    }

    /// What is said next, and by which replica; `None` when all sources are over. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<(String, Said)> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<(String, Said)>> {
        self.sources.iter_mut().for_each(|source| source.poll(context));
        self.sources.retain(|source| source.head.is_some() || !source.is_over);
        if self.sources.is_empty() {
            return Poll::Ready(None);
        }
        let silent = self.sources.iter().filter_map(|source| source.silent_since).max();
        let Some(earliest) = self.earliest() else { return Poll::Pending };
        if let Some(since) = silent {
            self.timer.as_mut().reset(since + self.patience);
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        let source = &mut self.sources[earliest];
        Poll::Ready(source.head.take().map(|(_, said)| (source.replica.clone(), said)))
    }

    fn earliest(&self) -> Option<usize> {
        let heads = self.sources.iter().enumerate();
        heads.filter_map(|(i, source)| Some((source.head.as_ref()?.0, i))).min().map(|(_, i)| i)
    }
}

impl Source {
    fn poll(&mut self, context: &mut Context<'_>) {
        if self.head.is_some() || self.is_over {
            return;
        }
        match self.lines.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(line))) => self.head = Some((line.time, Ok(line))),
            Poll::Ready(Some(Err(problem))) => {
                self.is_over = true;
                self.head = Some((Timestamp::now(), Err(problem)));
            }
            Poll::Ready(None) => self.is_over = true,
            Poll::Pending => {
                self.silent_since.get_or_insert_with(Instant::now);
                return;
            }
        }
        self.silent_since = None;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use skiff_api::Code;
    use skiff_api::wire::Stream;

    use super::*;

    fn line(second: i64) -> Result<LogLine, Problem> {
        let time = Timestamp::from_second(second).unwrap();
        Ok(LogLine { time, stream: Stream::Stdout, text: second.to_string() })
    }

    fn lines(seconds: &[i64]) -> Lines {
        stream::iter(seconds.iter().map(|s| line(*s)).collect::<Vec<_>>()).boxed()
    }

    async fn texts(mut merge: Merge) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some((replica, said)) = merge.next().await {
            texts.push(format!("{replica} {}", said.map_or_else(|problem| problem.to_string(), |line| line.text)));
        }
        texts
    }

    #[tokio::test(start_paused = true)]
    async fn merges_by_time() {
        let mut merge = Merge::new(Duration::from_secs(1));
        merge.add("a".into(), lines(&[1, 4, 5]));
        merge.add("b".into(), lines(&[2, 4]));
        merge.add("c".into(), lines(&[]));
        assert_eq!(texts(merge).await, ["a 1", "b 2", "a 4", "b 4", "a 5"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_source_holds_up_the_others_once() {
        let mut merge = Merge::new(Duration::from_secs(1));
        merge.add("a".into(), lines(&[1, 2, 3]));
        merge.add("quiet".into(), stream::pending().boxed());
        let start = Instant::now();
        for second in 1..=3 {
            assert_eq!(merge.next().await.unwrap().1.unwrap().text, second.to_string());
        }
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_the_last_that_a_replica_says() {
        let mut merge = Merge::new(Duration::from_secs(1));
        let gone = Problem::new(Code::Unavailable, "node edge-1 is not connected");
        merge.add("a".into(), stream::iter([line(1), Err(gone), line(2)]).boxed());
        assert_eq!(texts(merge).await, ["a 1", "a node edge-1 is not connected"]);
    }
}
