//! Golden output: what was said, compared as a whole with what a person once read and found good.
//!
//! A file holds the cases of one group: what was done, behind `>`; how it ended; what was said. What differs from run to
//! run stands there as a placeholder, such as `<api>` or `<digest>`. `SKIFF_BLESS=1` writes the files anew: read the
//! difference as a user would, before it is committed.

use std::fs;
use std::path::{Path, PathBuf};

use similar::TextDiff;
use skiff_tests::{Cluster, Response, Run};

/// The cases of one group, as they come.
pub(super) struct Golden {
    path: PathBuf,
    text: String,
    cases: usize,
    /// What to write instead of what differs from run to run, longest first.
    variable: Vec<(String, &'static str)>,
}

impl Golden {
    pub(super) fn new(group: &str, cluster: &Cluster) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/golden").join(format!("{group}.txt"));
        let mut golden = Self { path, text: String::new(), cases: 0, variable: Vec::new() };
        golden.varies(cluster.token(), "<token>");
        golden.varies(cluster.api_addr().to_string(), "<api>");
        golden.varies(cluster.gateway_addr().to_string(), "<gateway>");
        golden.varies(format!("process {}", cluster.pid()), "process <pid>");
        // Logged errors and commands name files both as they were given and in full.
        golden.varies(format!("{}/", cluster.path("").display().to_string().trim_end_matches('/')), "<dir>/");
        golden
    }

    /// From here on, this text is written as that placeholder.
    pub(super) fn varies(&mut self, text: impl Into<String>, placeholder: &'static str) {
        self.variable.push((text.into(), placeholder));
        self.variable.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// A command that was run, with the file that it was about.
    pub(super) fn run(&mut self, name: &str, input: &str, run: &Run) {
        let code = run.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        let mut said = format!("exit {code}\n");
        for (stream, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
            if !text.is_empty() {
                said.push_str(&format!("{stream}:\n{}\n", text.trim_end_matches('\n')));
            }
        }
        self.case(name, &format!("{input}skiff {}", run.command), &said);
    }

    /// A request that was answered.
    pub(super) fn response(&mut self, name: &str, request: &str, response: &Response) {
        let mut said = format!("HTTP {}\n", response.status);
        for (header, value) in &response.headers {
            // The date is the moment's, and the length the body's.
            if !["date", "content-length"].contains(&header.as_str()) {
                said.push_str(&format!("{header}: {value}\n"));
            }
        }
        self.case(name, request, &format!("{said}\n{}", response.text()));
    }

    pub(super) fn case(&mut self, name: &str, done: &str, said: &str) {
        let mut text = format!("=== {name}\n");
        for line in done.replace('\0', "\\0").lines() {
            text.push_str(format!("> {line}").trim_end());
            text.push('\n');
        }
        text.push_str(&said.trim_end().replace('\0', "\\0"));
        for (variable, placeholder) in &self.variable {
            text = text.replace(variable, placeholder);
        }
        self.text.push_str(&without_ids(&text));
        self.text.push_str("\n\n");
        self.cases += 1;
    }

    /// Compares everything with the file.
    #[track_caller]
    pub(super) fn check(self, cases: usize) {
        assert_eq!(self.cases, cases, "cases of {}: one more or less is a decision", self.path.display());
        if std::env::var_os("SKIFF_BLESS").is_some() {
            fs::write(&self.path, &self.text).unwrap();
            return;
        }
        let golden = fs::read_to_string(&self.path).unwrap_or_default();
        if golden != self.text {
            let diff = TextDiff::from_lines(&golden, &self.text);
            let diff = diff.unified_diff().context_radius(8).header("golden", "now").to_string();
            panic!("{} (hint: if this is meant, SKIFF_BLESS=1 writes it anew):\n{diff}", self.path.display());
        }
    }
}

/// Digests and ids of this run as placeholders: hexadecimal runs of their length, but for those that a case made up, which
/// repeat one digit.
fn without_ids(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() && !c.is_ascii_uppercase() {
            run.push(c);
            continue;
        }
        let made_up = run.chars().all(|digit| run.starts_with(digit));
        match run.len() {
            64 if !made_up => out.push_str("<digest>"),
            32 if !made_up => out.push_str("<id>"),
            _ => out.push_str(&run),
        }
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}

#[test]
fn ids_become_placeholders_and_made_up_ones_stay() {
    let digest = "0123456789abcdef".repeat(4);
    let zeros = "0".repeat(64);
    let text = format!("a sha256:{digest} b {} c sha256:{zeros} d dead", &digest[..32]);
    assert_eq!(without_ids(&text), format!("a sha256:<digest> b <id> c sha256:{zeros} d dead"));
}
