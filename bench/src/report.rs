//! Results: a table for people, as markdown that a document can quote, and one line of JSON for programs.

use std::fs;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::stats::Summary;

/// What a figure must stay below.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    pub(crate) below: f64,
    pub(crate) shown: &'static str,
}

/// A result in the making.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<[String; 3]>,
    missed: Vec<String>,
    values: serde_json::Map<String, Value>,
}

impl Report {
    /// Adds a figure: `shown` for people, `value` for programs under `key`, which is what `bar` is for.
    pub(crate) fn figure(&mut self, key: &str, what: &str, shown: String, value: f64, bar: Option<Bar>) {
        let verdict = match bar {
            None => String::new(),
            Some(bar) if value < bar.below => format!("below {}: yes", bar.shown),
            Some(bar) => {
                self.missed.push(format!("{what}: {shown} is not below {}", bar.shown));
                format!("below {}: **no**", bar.shown)
            }
        };
        self.rows.push([what.to_owned(), shown, verdict]);
        self.values.insert(key.to_owned(), value.into());
    }

    /// Adds a ratio to a peer: `must` is the least that is accepted.
    pub(crate) fn ratio(&mut self, key: &str, what: &str, ratio: Summary, must: Option<f64>) {
        let Summary { median, min, max } = ratio;
        let shown = format!("{median:.2} ({min:.2} to {max:.2})");
        let verdict = match must {
            None => String::new(),
            Some(must) if median >= must => format!("at least {must}: yes"),
            Some(must) => {
                self.missed.push(format!("{what}: {median:.2} is not {must} or more"));
                format!("at least {must}: **no**")
            }
        };
        self.rows.push([what.to_owned(), shown, verdict]);
        self.values.insert(key.to_owned(), median.into());
    }

    /// Prints everything on standard output; a missed bar is an error.
    pub(crate) fn print(self, name: &str) -> Result<()> {
        println!("\n{}\n\n| what | measured | bar |\n|---|---|---|", machine());
        for [what, shown, verdict] in &self.rows {
            println!("| {what} | {shown} | {verdict} |");
        }
        println!("\nresult {name} {}", Value::Object(self.values));
        match self.missed.is_empty() {
            true => Ok(()),
            false => bail!("missed {} of the bars\n{}", self.missed.len(), self.missed.join("\n")),
        }
    }
}

/// `median (min to max)`.
pub(crate) fn spread(summary: Summary, decimals: usize, unit: &str) -> String {
    let Summary { median, min, max } = summary;
    format!("{median:.decimals$} {unit} ({min:.decimals$} to {max:.decimals$})")
}

/// In units of a million bytes.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// What the figures were measured on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("Measured on {cores} cores of {model}, Linux {}, at a load of {load}.", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bar_is_an_error_that_names_it() {
        let bar = Some(Bar { below: 2.0, shown: "2 s" });
        let mut report = Report::default();
        report.figure("a", "fast", "1.0 s".into(), 1.0, bar);
        report.print("test").unwrap();
        let mut report = Report::default();
        report.figure("a", "slow", "2.0 s".into(), 2.0, bar);
        let error = report.print("test").unwrap_err().to_string();
        assert!(error.ends_with("slow: 2.0 s is not below 2 s"), "{error}");
        let mut report = Report::default();
        report.ratio("r", "fast", Summary { median: 0.4, min: 0.1, max: 0.5 }, Some(0.4));
        report.ratio("r", "no bar", Summary { median: 0.4, min: 0.1, max: 0.5 }, None);
        report.ratio("s", "slow", Summary { median: 0.39, min: 0.1, max: 0.5 }, Some(0.4));
        let error = report.print("test").unwrap_err().to_string();
        assert!(error.contains("missed 1 ") && error.ends_with("slow: 0.39 is not 0.4 or more"), "{error}");
    }
}
