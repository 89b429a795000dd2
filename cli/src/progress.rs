//! Progress: a bar in a terminal, plain lines elsewhere.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress of one transfer, on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `bytes` are those of the whole, where they are known before it begins.
    pub(crate) fn new(what: &str, bytes: Option<u64>) -> Self {
        if !stderr().is_terminal() {
            match bytes {
                Some(bytes) => eprintln!("{what} ({bytes} bytes)"),
                None => eprintln!("{what}"),
            }
            return Self { bar: None };
        }
        let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr());
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what.to_owned());
        Self { bar: Some(bar) }
    }

    pub(crate) fn set(&self, bytes: u64, of: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(of);
            bar.set_position(bytes);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
