//! One finished command, and what it said.

use std::process::Output;

use serde_json::Value;

/// What a command printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The arguments, for messages.
    pub command: String,
    pub stdout: String,
    pub stderr: String,
    /// The exit code; None when a signal ended it.
    pub code: Option<i32>,
}

impl Run {
    pub(crate) fn new(command: String, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { command, stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code() }
    }

    /// The same, once it is sure that the command succeeded.
    ///
    /// # Panics
    /// When it did not, with all that it printed.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.fails_with(0)
    }

    /// The same, once it is sure that the command ended with this exit code.
    ///
    /// # Panics
    /// When it did not, with all that it printed.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "the exit code of {self}");
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        write!(f, "`skiff {}` [{code}]\n--- stdout\n{}--- stderr\n{}", self.command, self.stdout, self.stderr)
    }
}
