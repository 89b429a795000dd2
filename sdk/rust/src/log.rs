//! Log lines: information on standard output, trouble on standard error, where Skiff collects them per replica.
//!
//! `println!` and `eprintln!` work too; these write a whole line in one call to the host, with its level in front.

use std::{
    fmt::{Arguments, Write as _},
    io::Write as _,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// Logs what the service does: `info!("sold {count} boats")`.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Info, ::std::format_args!($($arg)*)) };
}

/// Logs what someone should look at some day.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Warn, ::std::format_args!($($arg)*)) };
}

/// Logs what went wrong.
#[macro_export]
macro_rules! error {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Error, ::std::format_args!($($arg)*)) };
}

/// Writes one line. A log that the host does not take is lost: a service does not fail because of its log.
pub fn write(level: Level, text: Arguments<'_>) {
    let label = match level {
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    };
    let mut line = String::from(label);
    if writeln!(line, " {text}").is_err() {
        return;
    }
    let _ = match level {
        Level::Info => std::io::stdout().write_all(line.as_bytes()),
        Level::Warn | Level::Error => std::io::stderr().write_all(line.as_bytes()),
    };
}
