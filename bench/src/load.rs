//! The load generator: a fixed number of connections that stay open, each with one request under way at a time.
//!
//! It is written by hand, because on a small machine it shares the cores with what it measures: it writes prepared bytes
//! and reads an answer in one pass, on one thread. It is strict instead of general: an answer that is not a 200 with
//! exactly the expected body, by its length or in chunks, fails the run. So a server cannot be fast by being wrong.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What an answer may have at most, head and body.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// What is asked, and what must come back.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// `HOST:PORT` to connect to.
    pub(crate) address: String,
    /// The `host` header.
    pub(crate) host: String,
    pub(crate) path: Cow<'static, str>,
    pub(crate) body: &'static str,
}

impl Target {
    /// The hello example, or what answers as it does.
    pub(crate) fn hello(address: &str) -> Self {
        Self { address: address.to_owned(), host: address.to_owned(), path: "/".into(), body: "Hello from Skiff!\n" }
    }
}

/// When a run ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// So many answers on all connections together; rounded up to a multiple of the connections.
    Answers(usize),
    Elapsed(Duration),
}

/// What a run measured.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// One for each answer, in no order.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) took: Duration,
}

impl Load {
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }
}

/// Keeps `connections` busy with `target`.
pub(crate) fn run(target: &Target, connections: usize, until: Until) -> Result<Load> {
    runtime()?.block_on(async {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(Connection::open(target).await?);
        }
        // From here on: connecting is not what is measured.
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for connection in open {
            tasks.spawn(connection.run(until, connections, start));
        }
        let mut load = Load::default();
        while let Some(latencies) = tasks.join_next().await {
            load.latencies.extend(latencies.context("a connection of the load generator failed")??);
        }
        load.took = start.elapsed();
        Ok(load)
    })
}

/// Sends `rate` requests a second by the clock, spread over `connections`; each answer counts from when its request was due.
pub(crate) fn open_loop(target: &Target, connections: usize, rate: f64, time: Duration) -> Result<Load> {
    runtime()?.block_on(async {
        let every = Duration::from_secs_f64(connections as f64 / rate);
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(Connection::open(target).await?);
        }
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for (number, connection) in open.into_iter().enumerate() {
            let first = every.mul_f64(number as f64 / connections as f64);
            tasks.spawn(connection.run_by_clock(start + first, every, start + time));
        }
        let mut load = Load::default();
        while let Some(latencies) = tasks.join_next().await {
            load.latencies.extend(latencies.context("a connection of the load generator failed")??);
        }
        load.took = start.elapsed();
        Ok(load)
    })
}

/// One request on a connection of its own.
pub(crate) fn ask(target: &Target) -> Result<()> {
    runtime()?.block_on(async { Connection::open(target).await?.ask().await })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("failed to start the load generator")
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    body: &'static str,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(target: &Target) -> Result<Self> {
        let failed = || format!("failed to connect to {}", target.address);
        let stream = TcpStream::connect(&target.address).await.with_context(failed)?;
        stream.set_nodelay(true).with_context(failed)?;
        let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", target.path, target.host).into_bytes();
        Ok(Self { stream, request, body: target.body, buffer: vec![0; ANSWER_BYTES_MAX] })
    }

    async fn run(mut self, until: Until, connections: usize, start: Instant) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        loop {
            let is_over = match until {
                Until::Answers(answers) => latencies.len() >= answers.div_ceil(connections),
                Until::Elapsed(time) => start.elapsed() >= time,
            };
            if is_over {
                return Ok(latencies);
            }
            let asked = Instant::now();
            self.ask().await?;
            latencies.push(asked.elapsed());
        }
    }

    /// Asks every so often; when an answer was late, at once. Tokio's timer adds up to a millisecond to each.
    async fn run_by_clock(mut self, mut due: Instant, every: Duration, end: Instant) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while due < end {
            tokio::time::sleep_until(due.into()).await;
            self.ask().await?;
            latencies.push(due.elapsed());
            due += every;
        }
        Ok(latencies)
    }

    async fn ask(&mut self) -> Result<()> {
        self.stream.write_all(&self.request).await.context("failed to send a request")?;
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(room).await.context("failed to read an answer")?;
            if read == 0 {
                bail!("an answer ended early, or is too long: {:?}", shown(&self.buffer[..filled]));
            }
            filled += read;
            if let Some(body) = whole(&self.buffer[..filled])? {
                if *body != *self.body.as_bytes() {
                    bail!("a wrong answer: {:?}", shown(&self.buffer[..filled]));
                }
                return Ok(());
            }
        }
    }
}

/// The body of an answer, once all of it is there.
fn whole(answer: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
    let Some((head, body)) = split_after(answer, b"\r\n\r\n") else { return Ok(None) };
    if !head.starts_with(b"HTTP/1.1 200 ") {
        bail!("not a 200: {:?}", shown(answer));
    }
    let Some(length) = content_length(head) else {
        return unchunked(body).with_context(|| format!("neither a length nor chunks: {:?}", shown(answer)));
    };
    if body.len() > length {
        bail!("an answer is longer than it says: {:?}", shown(answer));
    }
    Ok((body.len() == length).then_some(Cow::Borrowed(body)))
}

/// The body that chunks make up, once the last one is there.
fn unchunked(mut chunks: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
    let mut body = Vec::new();
    loop {
        let Some((size, rest)) = split_after(chunks, b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(size).context("a chunk has no size")?;
        let size = usize::from_str_radix(size.trim_end(), 16).context("a chunk has no size")?;
        let Some(chunk) = rest.get(..size.saturating_add(2)) else { return Ok(None) };
        let Some(chunk) = chunk.strip_suffix(b"\r\n") else { bail!("a chunk is longer than it says") };
        body.extend_from_slice(chunk);
        chunks = rest.get(size.saturating_add(2)..).unwrap_or_default();
        match (size, chunks) {
            (0, []) => return Ok(Some(Cow::Owned(body))),
            (0, _) => bail!("something follows the last chunk"),
            _ => {}
        }
    }
}

/// `bytes` up to the end of the first `separator`, and the rest.
fn split_after<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let start = bytes.windows(separator.len()).position(|window| window == separator)?;
    bytes.split_at_checked(start + separator.len())
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    std::str::from_utf8(line.get(NAME.len()..)?).ok()?.trim().parse().ok()
}

fn shown(answer: &[u8]) -> String {
    const SHOWN_BYTES: usize = 300;
    String::from_utf8_lossy(answer.get(..SHOWN_BYTES).unwrap_or(answer)).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Serves one connection with each of `answers` in turn.
    fn server(answers: Vec<&'static str>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap() == 0 {
                        return;
                    }
                    request.push(byte[0]);
                }
                // In two parts, as a network may.
                let (first, second) = answer.split_at(answer.len() / 2);
                stream.write_all(first.as_bytes()).unwrap();
                stream.flush().unwrap();
                stream.write_all(second.as_bytes()).unwrap();
            }
        });
        Target { host: "h".into(), path: "/".into(), body: "hello", address }
    }

    const RIGHT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn right_answers_are_counted() {
        let load = run(&server(vec![RIGHT; 3]), 1, Until::Answers(3)).unwrap();
        assert_eq!(load.latencies.len(), 3);
        assert!(load.per_second() > 0.0);
    }

    #[test]
    fn chunks_are_put_together() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
        let load = run(&server(vec![chunked, RIGHT]), 1, Until::Answers(2)).unwrap();
        assert_eq!(load.latencies.len(), 2);
    }

    #[test]
    fn a_late_answer_counts_from_when_its_request_was_due() {
        // 20 requests a second for a quarter of one: at 0, 50, 100, 150 and 200 ms.
        let load = open_loop(&server(vec![RIGHT; 9]), 1, 20.0, Duration::from_millis(250)).unwrap();
        assert_eq!(load.latencies.len(), 5);
        assert!(load.took >= Duration::from_millis(200), "{:?}", load.took);
    }

    #[test]
    fn one_wrong_answer_fails_the_run() {
        for (wrong, why) in [
            ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nhello", "not a 200"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhallo", "a wrong answer"),
            ("HTTP/1.1 200 OK\r\n\r\nhello\r\n", "neither a length nor chunks"),
            ("HTTP/1.1 200 OK\r\n\r\n4\r\nhall\r\n0\r\n\r\n", "a wrong answer"),
            ("HTTP/1.1 200 OK\r\n\r\n5\r\nhello\r\n", "ended early"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", "ended early"),
        ] {
            let error = run(&server(vec![RIGHT, wrong]), 1, Until::Answers(2)).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
