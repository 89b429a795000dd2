//! What a replica's instances may use together: memory and processor time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, at_once, get, request};
use crate::world::World;

/// What the service `bombs` may have together, and what the process may grow by beyond it meanwhile.
const MEMORY_BYTES: u64 = 256 << 20;
const SLACK_BYTES: u64 = 192 << 20;
/// How long the processor is measured.
const MEASURED: Duration = Duration::from_secs(10);

pub(crate) fn cases() -> Vec<Case> {
    let cases = [
        case("many instances of one replica that take all memory", bombs(), "within the replica's limit")
            .twin(at_once(4, "bombs", "/hold?mb=20&ms=200"), "4 x 200"),
        case("a replica that takes more processor time than it has", saturated(), "a tenth of a processor")
            // What was saved up is enough for it.
            .twin(get("throttled", "/"), "200")
            .within(120),
    ];
    cases.into_iter().map(|case| case.lane(Lane::Alone)).collect()
}

/// Thirty-two at once that each want 60 MiB, of the 256 that they have together.
fn bombs() -> Attack {
    Box::new(|world| {
        let (before, most, done) = (world.resident_bytes(), AtomicU64::new(0), AtomicBool::new(false));
        let came = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    most.fetch_max(world.resident_bytes(), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let came = at_once(32, "bombs", "/hold?mb=60&ms=300")(world);
            done.store(true, Ordering::Relaxed);
            came
        });
        match most.into_inner().saturating_sub(before) {
            grew if grew <= MEMORY_BYTES + SLACK_BYTES => "within the replica's limit".to_owned(),
            grew => format!("{} MiB more: {came}", grew >> 20),
        }
    })
}

/// Four clients that ask all the time; the process's own figure of the replica's processor time, over ten seconds.
fn saturated() -> Attack {
    Box::new(|world: &World| {
        let done = AtomicBool::new(false);
        let used = thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        ask(world, &request("GET", "throttled", "/work?ms=20", "", b""));
                    }
                });
            }
            // What was saved up is used first.
            thread::sleep(Duration::from_secs(1));
            let seconds = || world.figures().seconds("skiff_replica_cpu_seconds_total", &["service=\"throttled\""]);
            let (start, before) = (Instant::now(), seconds());
            thread::sleep(MEASURED);
            let used = (seconds() - before) / start.elapsed().as_secs_f64() * 10.0;
            done.store(true, Ordering::Relaxed);
            used
        });
        match used {
            used if (0.9..=1.1).contains(&used) => "a tenth of a processor".to_owned(),
            used => format!("{used:.3} s in ten"),
        }
    })
}
