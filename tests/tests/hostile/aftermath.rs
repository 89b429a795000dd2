//! How the process was before, how the innocent fared meanwhile, and whether everything is as it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use skiff_tests::{Cluster, Request, eventually, guest};

use crate::client::{at_once, get};
use crate::suite::{Counted, Faults};
use crate::world::{Figures, NAMES, World};

/// How often the innocent service is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How much slower the process may be than one that nobody attacked: more than chance, and less than anything that was left
/// running would cost.
const LATENCY_FACTOR_MAX: u32 = 3;
/// Requests whose median is the usual latency.
const SAMPLES: usize = 200;
/// For connections to end and for what is idle to be given back.
const REST: Duration = Duration::from_secs(60);
/// A node gives back what its guests used some seconds after the last of them.
const RESTS_AFTER: Duration = Duration::from_secs(10);
const ERRORS: &str = "skiff_gateway_errors_total";
const TRAPS: &str = "skiff_replica_traps_total";
const CUT_OFF: &str = "skiff_gateway_bodies_cut_off_total";

/// The process before it was attacked, warm.
pub(crate) struct Before {
    pid: u32,
    figures: Figures,
    own_bytes: u64,
}

impl Before {
    pub(crate) fn measure(world: &World) -> Self {
        for service in NAMES {
            assert_eq!(get(service, "/")(world), "200", "{service}");
            // Where fewer are served at once, some of them are refused.
            at_once(32, service, "/")(world);
        }
        world.forget();
        let own_bytes = at_rest(world);
        Self { pid: world.cluster.pid(), figures: world.figures(), own_bytes }
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
        for ((name, label), expected) in &counted.others {
            let counts = grew(name, &[label]);
            if counts != *expected {
                wrong(format!("{name} of {label} grew by {counts}, and there were {expected}"));
            }
        }
        let (attacked, fresh) = latencies(&world.cluster);
        eprintln!("innocent: {attacked:?} in the attacked process, {fresh:?} in a fresh one");
        if attacked > fresh * LATENCY_FACTOR_MAX {
            wrong(format!("the innocent service takes {attacked:?}, and {fresh:?} in a process that nobody attacked"));
        }
        let (before, after) = (self.own_bytes >> 10, at_rest(world) >> 10);
        eprintln!("memory of its own at rest: {before} KiB before, {after} KiB after\n{}", world.largest_mappings());
    }
}

/// Memory of the process once it has given back what it does not use: when it has not become less for a while.
fn at_rest(world: &World) -> u64 {
    let (mut least, mut since, start) = (u64::MAX, Instant::now(), Instant::now());
    while since.elapsed() < RESTS_AFTER && start.elapsed() < REST {
        let bytes = world.own_bytes();
        if bytes < least / 100 * 99 {
            (least, since) = (bytes, Instant::now());
        }
        thread::sleep(Duration::from_millis(200));
    }
    least
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

/// The medians over new connections, of this process and of one that nobody attacked: asked in turns, so that whatever else
/// the machine does happens to both.
fn latencies(attacked: &Cluster) -> (Duration, Duration) {
    let fresh = Cluster::start();
    fresh.skiff(&["push", "hello", guest("hello").to_str().unwrap()]).ok();
    fresh.skiff(&["run", "hello", "--name", "innocent"]).ok();
    eventually("the peer answers", || (innocent(fresh.gateway_addr()) == Ok(200)).then_some(()));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..SAMPLES {
        for (times, cluster) in times.iter_mut().zip([attacked, &fresh]) {
            let start = Instant::now();
            assert_eq!(innocent(cluster.gateway_addr()), Ok(200));
            times.push(start.elapsed());
        }
    }
    let [attacked, fresh] = times.map(|mut times| {
        times.sort();
        times[SAMPLES / 2]
    });
    (attacked, fresh)
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
