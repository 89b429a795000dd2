//! Requests at a steady pace, while a test breaks something.
//!
//! The pace is open: a request is due when it is due, whether the one before has been answered or not, so an answer that
//! comes late makes no other late. Each request has a connection of its own, and each is counted: answered well, answered
//! otherwise, or not at all.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::fleet::Fleet;
use crate::http::read_response;

/// How long an answer may take before it counts as none.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What became of the requests.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub answered: usize,
    /// When, of which gateway, and what came instead.
    pub failed: Vec<(Duration, SocketAddr, String)>,
    pub slowest: Duration,
}

/// Requests that are being sent.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    report: Arc<Mutex<Report>>,
}

impl Load {
    /// Asks these nodes in turn for `path` of `host`, so often a second.
    ///
    /// # Panics
    /// When a thread cannot be started.
    pub fn start(fleet: &Fleet, nodes: &[&str], (host, path): (&str, &str), per_second: u32) -> Self {
        let gateways = nodes.iter().map(|node| fleet.gateway(node)).collect();
        Self::begin(gateways, (host, path), per_second, |run| fleet.as_client(|| thread::spawn(run)))
    }

    /// Asks a gateway of this machine.
    ///
    /// # Panics
    /// When a thread cannot be started.
    pub fn at(gateway: SocketAddr, (host, path): (&str, &str), per_second: u32) -> Self {
        Self::begin(vec![gateway], (host, path), per_second, thread::spawn)
    }

    fn begin(
        gateways: Vec<SocketAddr>,
        (host, path): (&str, &str),
        per_second: u32,
        spawn: impl Fn(Box<dyn FnOnce() + Send>) -> JoinHandle<()>,
    ) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let (stop, report) = (Arc::new(AtomicBool::new(false)), Arc::default());
        // Enough that none is late while answers take a tenth of a second, and a few wait much longer.
        let count = (per_second / 10).clamp(8, 64);
        let began = Instant::now();
        let worker = |number: u32| {
            let (stop, report, request) = (Arc::clone(&stop), Arc::clone(&report), request.clone());
            let gateways = gateways.clone();
            let run = move || {
                let mut turn = number;
                loop {
                    let due = began + Duration::from_secs_f64(f64::from(turn) / f64::from(per_second));
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let gateway = gateways[turn as usize % gateways.len()];
                    let (at, asked) = (began.elapsed(), Instant::now());
                    let answer = ask(gateway, request.as_bytes());
                    note(&report, (at, gateway, answer), asked.elapsed());
                    turn += count;
                }
            };
            spawn(Box::new(run))
        };
        let workers = (0..count).map(worker).collect();
        Self { stop, workers, report }
    }

    /// What became of those that are done by now.
    ///
    /// # Panics
    /// When a thread of it has.
    pub fn so_far(&self) -> Report {
        self.report.lock().expect("nobody panics with it").clone()
    }

    /// Stops, and waits for the last answers.
    ///
    /// # Panics
    /// When a thread of it has.
    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.join().expect("a worker only asks");
        }
        self.report.lock().expect("nobody panics with it").clone()
    }
}

fn note(report: &Mutex<Report>, (at, gateway, answer): (Duration, SocketAddr, Result<(), String>), took: Duration) {
    let mut report = report.lock().expect("nobody panics with it");
    match answer {
        Ok(()) => report.answered += 1,
        Err(why) => report.failed.push((at, gateway, why)),
    }
    report.slowest = report.slowest.max(took);
}

fn ask(gateway: SocketAddr, request: &[u8]) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&gateway, ANSWER_MAX).map_err(text)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(text)?;
    stream.write_all(request).map_err(text)?;
    let response = read_response(&mut BufReader::new(stream)).map_err(text)?;
    match response.status {
        200 => Ok(()),
        status => Err(format!("{status} {}", response.text())),
    }
}
