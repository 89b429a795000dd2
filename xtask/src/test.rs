//! `cargo xtask test`: everything that must hold before a change is merged, in one command.
//!
//! The steps run in order, the quick ones first as far as they can: a step is a name, what it checks, and a function. The
//! first one that fails ends the run, and the last line names it and how to run just that one again. A step that needs
//! what a machine may not have (a nightly toolchain, cargo-deny) is skipped, and the last line says so: a short run never
//! looks like a full one.
//!
//! `--all` makes every step take its time. Tests that take minutes are `#[ignore = "long: …"]`, and it runs them too; those
//! that can do more of the same look for `SKIFF_LONG=1`, which it sets.

mod fuzz;
mod steps;

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also what takes long: the ignored tests, and a minute for each fuzz target
    #[arg(long)]
    all: bool,
    /// Run this step only; may be given several times
    #[arg(long, value_name = "STEP", value_parser = clap::builder::PossibleValuesParser::new(steps::STEPS.map(|step| step.name)))]
    only: Vec<String>,
}

/// How much time a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Short,
    Long,
}

struct Step {
    name: &'static str,
    /// What the heading says after the name.
    checks: &'static str,
    run: fn(Depth) -> Result<Outcome>,
}

/// How a step ended that did not fail.
#[derive(Debug)]
enum Outcome {
    /// With what the last line says of it; mostly nothing.
    Passed(String),
    /// With what is missing and how to get it.
    Skipped(String),
}

impl Outcome {
    fn passed() -> Self {
        Self::Passed(String::new())
    }
}

/// What the last line is made of.
#[derive(Default)]
struct Summary {
    passed: Vec<String>,
    skipped: Vec<String>,
    took: Duration,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let depth = if options.all { Depth::Long } else { Depth::Short };
    let chosen: Vec<&Step> = steps::STEPS
        .iter()
        .filter(|step| options.only.is_empty() || options.only.iter().any(|o| o == step.name))
        .collect();
    run_steps(&chosen, depth)
}

fn run_steps(steps: &[&Step], depth: Depth) -> Result<()> {
    let start = Instant::now();
    let mut summary = Summary::default();
    for (index, step) in steps.iter().enumerate() {
        println!("\n== {} ({} of {}): {}", step.name, index + 1, steps.len(), step.checks);
        let started = Instant::now();
        let outcome = (step.run)(depth);
        let seconds = started.elapsed().as_secs_f64();
        summary.took = start.elapsed();
        match outcome {
            Ok(Outcome::Passed(note)) => {
                let note = if note.is_empty() { note } else { format!(" ({note})") };
                println!("== {}: passed in {seconds:.1} s{note}", step.name);
                summary.passed.push(format!("{}{note}", step.name));
            }
            Ok(Outcome::Skipped(why)) => {
                println!("== {}: SKIPPED, {why}", step.name);
                summary.skipped.push(format!("{}: {why}", step.name));
            }
            Err(error) => {
                println!("== {}: FAILED after {seconds:.1} s: {error:#}", step.name);
                let rest: Vec<&str> = steps.iter().skip(index + 1).map(|step| step.name).collect();
                bail!("{}", summary.failed(step.name, &rest, depth));
            }
        }
    }
    println!("\n{}", summary.passed());
    Ok(())
}

impl Summary {
    fn passed(&self) -> String {
        let mut line = match self.passed.as_slice() {
            [] => "cargo xtask test: nothing was checked".to_owned(),
            passed => format!("cargo xtask test: PASSED in {}: {}", shown(self.took), passed.join(", ")),
        };
        if !self.skipped.is_empty() {
            let _ = write!(line, "; SKIPPED {}", self.skipped.join("; "));
        }
        line
    }

    fn failed(&self, step: &str, rest: &[&str], depth: Depth) -> String {
        let all = if depth == Depth::Long { " --all" } else { "" };
        let mut line = format!("cargo xtask test: FAILED in {step} after {}", shown(self.took));
        if !rest.is_empty() {
            let _ = write!(line, "; not run: {}", rest.join(", "));
        }
        let _ = write!(line, " (hint: just that step: `cargo xtask test{all} --only {step}`)");
        line
    }
}

fn shown(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds < 60 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Step = Step { name: "good", checks: "", run: |_| Ok(Outcome::Passed("3 tests".into())) };
    const ABSENT: Step = Step { name: "absent", checks: "", run: |_| Ok(Outcome::Skipped("no tool".into())) };
    const BAD: Step = Step { name: "bad", checks: "", run: |_| bail!("it broke") };

    #[test]
    fn the_first_failure_ends_the_run_and_says_how_to_repeat_it() {
        let error = run_steps(&[&GOOD, &BAD, &ABSENT], Depth::Long).unwrap_err().to_string();
        assert!(error.contains("FAILED in bad after"), "{error}");
        assert!(error.contains("not run: absent"), "{error}");
        assert!(error.ends_with("(hint: just that step: `cargo xtask test --all --only bad`)"), "{error}");
    }

    #[test]
    fn a_run_with_skipped_steps_says_so() {
        run_steps(&[&GOOD, &ABSENT], Depth::Short).unwrap();
        let summary = Summary {
            passed: vec!["good (3 tests)".into()],
            skipped: vec!["absent: no tool".into()],
            took: Duration::from_secs(61),
        };
        assert_eq!(summary.passed(), "cargo xtask test: PASSED in 1 min 1 s: good (3 tests); SKIPPED absent: no tool");
        let nothing = Summary { passed: vec![], ..summary };
        assert_eq!(nothing.passed(), "cargo xtask test: nothing was checked; SKIPPED absent: no tool");
    }

    #[test]
    fn steps_have_names_of_their_own() {
        let mut names = steps::STEPS.map(|step| step.name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), steps::STEPS.len());
    }
}
