//! How the process was before, how the innocent fared meanwhile, and whether everything is as it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use skiff_tests::{Cluster, Request};

use crate::client::{at_once, get};
use crate::suite::{Counted, Faults};
use crate::world::{Figures, NAMES, World};

/// How often the innocent service is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Requests whose median is the usual latency.
const SAMPLES: usize = 200;
/// For connections to end and for what is idle to be given back.
const REST: Duration = Duration::from_secs(60);
const ERRORS: &str = "skiff_gateway_errors_total";
const TRAPS: &str = "skiff_replica_traps_total";
const CUT_OFF: &str = "skiff_gateway_bodies_cut_off_total";

/// The process before it was attacked, warm.
pub(crate) struct Before {
    pid: u32,
    figures: Figures,
    latency: Duration,
    resident_bytes: u64,
}

impl Before {
    pub(crate) fn measure(world: &World) -> Self {
        for service in NAMES {
            assert_eq!(get(service, "/")(world), "200", "{service}");
            at_once(32, service, "/")(world);
        }
        let latency = latency(&world.cluster);
        Self { pid: world.cluster.pid(), figures: world.figures(), latency, resident_bytes: world.resident_bytes() }
    }

    /// Compares the same process when all is over.
    pub(crate) fn compare(&self, world: &World, counted: &Counted, faults: &Faults) {
        let wrong = |what: String| faults.lock().unwrap().push(format!("afterwards: {what}"));
        if world.cluster.pid() != self.pid {
            wrong("it is another process".to_owned());
        }
        if world.cluster.log().contains("panicked") {
            wrong(format!("the node panicked:\n{}", world.cluster.log()));
        }
        for gauge in ["skiff_gateway_requests_in_flight", "skiff_gateway_requests_queued", "skiff_gateway_connections"]
        {
            if let Err(value) = settles(|| world.figures().sum(gauge, &[]), |value| value == 0) {
                wrong(format!("{gauge} is {value}"));
            }
        }
        let figures = world.figures();
        let grew = |name: &str, labels: &[&str]| figures.sum(name, labels) - self.figures.sum(name, labels);
        let noted = world.noted();
        for code in figures.values(ERRORS, "code") {
            let (counts, saw) = (grew(ERRORS, &[&format!("code=\"{code}\"")]), noted.get(&code).copied().unwrap_or(0));
            if counts != saw {
                wrong(format!("{ERRORS} of {code} grew by {counts}, and clients saw {saw}"));
            }
        }
        if let Some(code) = noted.keys().find(|code| !figures.values(ERRORS, "code").contains(code)) {
            wrong(format!("no figure counts {code}"));
        }
        if grew(CUT_OFF, &[]) != counted.cut_off {
            wrong(format!("{CUT_OFF} grew by {}, and {} bodies broke off", grew(CUT_OFF, &[]), counted.cut_off));
        }
        for kind in figures.values(TRAPS, "kind") {
            let label = format!("kind=\"{kind}\"");
            let (counts, saw) = (grew(TRAPS, &[&label]), counted.traps.get(kind.as_str()).copied().unwrap_or(0));
            if counts != saw {
                wrong(format!("{TRAPS} of {kind} grew by {counts}, and {saw} guests trapped so"));
            }
        }
        let now = latency(&world.cluster);
        eprintln!("innocent: {:?} before, {now:?} after", self.latency);
        if now > self.latency * 3 + Duration::from_millis(3) {
            wrong(format!("the innocent service takes {now:?}, and took {:?}", self.latency));
        }
        eprintln!("resident: {} KiB before, {} KiB after", self.resident_bytes >> 10, world.resident_bytes() >> 10);
    }
}

/// Waits until a value is as it should be; else the last one.
fn settles(read: impl Fn() -> u64, settled: impl Fn(u64) -> bool) -> Result<(), u64> {
    let start = Instant::now();
    loop {
        let value = read();
        if settled(value) {
            return Ok(());
        }
        if start.elapsed() > REST {
            return Err(value);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// The median over new connections.
fn latency(cluster: &Cluster) -> Duration {
    let mut times: Vec<Duration> = (0..SAMPLES)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(innocent(cluster.gateway_addr()), Ok(200));
            start.elapsed()
        })
        .collect();
    times.sort();
    times[SAMPLES / 2]
}

fn innocent(gateway: SocketAddr) -> Result<u16, String> {
    let sent = Request::new(gateway, "GET", "/").host(&World::host("innocent")).send();
    sent.map(|response| response.status).map_err(|error| error.to_string())
}

/// Asks the innocent service all the while.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Duration>, Vec<String>)>,
}

impl Watch {
    pub(crate) fn start(world: &World) -> Self {
        let (stop, gateway) = (Arc::new(AtomicBool::new(false)), world.cluster.gateway_addr());
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut times, mut wrong) = (Vec::new(), Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                match innocent(gateway) {
                    Ok(200) => times.push(start.elapsed()),
                    other => wrong.push(format!("{other:?}")),
                }
                thread::sleep(ASK_EVERY);
            }
            times.sort();
            (times, wrong)
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self, faults: &Faults) {
        self.stop.store(true, Ordering::Relaxed);
        let (times, wrong) = self.thread.join().unwrap();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        eprintln!(
            "innocent meanwhile: {} answers, p50 {:?}, p99 {:?}, worst {:?}",
            times.len(),
            at(50),
            at(99),
            times.last()
        );
        if !wrong.is_empty() || times.is_empty() {
            let count = wrong.len();
            faults
                .lock()
                .unwrap()
                .push(format!("meanwhile: the innocent service failed {count} times: {:?}", wrong.first()));
        }
    }
}
