//! Runs the table: in lanes, each case against its deadline, and keeps the books.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use skiff_tests::wait::within;

use crate::case::{Attack, Case, Lane, Trace, matches};
use crate::world::World;

/// Busy cases at a time: a few more than the cores of a small machine, as some of them wait a little.
const BUSY: usize = 4;
/// One compiles while the next is pushed.
const COMPILING: usize = 2;

/// For a log to be flushed and an event to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// What went wrong.
pub(crate) type Faults = Mutex<Vec<String>>;

/// What the cases must have moved.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Bodies that broke off.
    pub(crate) cut_off: u64,
    /// Traps by kind.
    pub(crate) traps: BTreeMap<&'static str, u64>,
    /// Other figures, by name and label.
    pub(crate) others: BTreeMap<(&'static str, &'static str), u64>,
}

impl Counted {
    fn add(&mut self, case: &Case) {
        for trace in &case.traces {
            match trace {
                Trace::CutOff => self.cut_off += 1,
                Trace::Trap(kind) => *self.traps.entry(kind).or_default() += 1,
                Trace::Counts { name, label, by } => *self.others.entry((name, label)).or_default() += by,
                Trace::Log { .. } | Trace::Event { .. } => {}
            }
        }
    }
}

/// Runs all cases; those that take minutes only with `SKIFF_LONG`. `SKIFF_HOSTILE=WORD` runs those with that word in their
/// names.
pub(crate) fn run(world: &World, cases: Vec<Case>, faults: &Faults) -> Counted {
    let mut counted = Counted::default();
    let only = std::env::var("SKIFF_HOSTILE").unwrap_or_default();
    let all = !only.is_empty() || std::env::var_os("SKIFF_LONG").is_some();
    let (mut busy, mut compiling) = (VecDeque::new(), VecDeque::new());
    let (mut waiting, mut alone) = (Vec::new(), Vec::new());
    for case in cases.into_iter().filter(|case| case.name.contains(&only) && (all || !case.is_long)) {
        if case.twin.is_none() {
            faults.lock().unwrap().push(format!("{}: nothing shows that the limit is where it should be", case.name));
        }
        counted.add(&case);
        match case.lane {
            Lane::Busy => busy.push_back(case),
            Lane::Compiling => compiling.push_back(case),
            Lane::Waiting => waiting.push(case),
            Lane::Alone => alone.push(case),
        }
    }
    let (busy, compiling) = (Mutex::new(busy), Mutex::new(compiling));
    thread::scope(|scope| {
        for case in &waiting {
            scope.spawn(|| check(world, case, faults));
        }
        for queue in [vec![&busy; BUSY], vec![&compiling; COMPILING]].concat() {
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some(case) = next else { return };
                    check(world, &case, faults);
                }
            });
        }
    });
    alone.iter().for_each(|case| check(world, case, faults));
    counted
}

fn check(world: &World, case: &Case, faults: &Faults) {
    let start = Instant::now();
    let mut wrong = Vec::new();
    let mut compare = |what: &str, attack: &Attack, expected: &str| {
        // A case that panics is one that failed; the others go on.
        let came = catch_unwind(AssertUnwindSafe(|| attack(world)));
        let came = came.unwrap_or_else(|panic| format!("panic: {}", message(&*panic)));
        if !matches(&came, expected) {
            wrong.push(format!("the {what} came to {came:?}, not to {expected:?}"));
        }
        came
    };
    let came = compare("attack", &case.attack, &case.expected);
    if let Some((twin, expected)) = &case.twin {
        compare("twin", twin, expected);
    }
    let took = start.elapsed();
    if took > case.deadline {
        wrong.push(format!("it took {took:?}, more than {:?}", case.deadline));
    }
    for trace in &case.traces {
        wrong.extend(catch_unwind(AssertUnwindSafe(|| look(world, trace))).err().map(|panic| message(&*panic)));
    }
    eprintln!("{:>7} ms  {:<60} {came}", took.as_millis(), case.name);
    faults.lock().unwrap().extend(wrong.into_iter().map(|wrong| format!("{}: {wrong}", case.name)));
}

/// Waits for a trace; a body's count is looked at when all are done.
fn look(world: &World, trace: &Trace) {
    match trace {
        Trace::Log { service, says } => {
            within(PATIENCE, &format!("the log of {service} says {says:?}"), || {
                world.log(service).contains(says).then_some(())
            });
        }
        Trace::Event { service, reason, says } => {
            within(PATIENCE, &format!("an event of {service} is {reason}: {says:?}"), || {
                let is_it = |event: &String| event.starts_with(&format!("{reason} ")) && event.contains(says);
                world.events(service).iter().any(is_it).then_some(())
            });
        }
        Trace::CutOff | Trace::Trap(_) | Trace::Counts { .. } => {}
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
