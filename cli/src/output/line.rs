//! Printing on standard output, under the names that everybody knows.
//!
//! The standard library's `println!` panics when whoever reads has left, as `skiff get services | head -1` does. Here that
//! ends the program: what was asked for has been seen. A disk that is full is said, with its exit code.

use std::io::{self, ErrorKind, Write};
use std::process;

use crate::exit::Exit;

macro_rules! print {
    ($($text:tt)*) => { $crate::output::line::print(&format!($($text)*)) };
}

macro_rules! println {
    ($($text:tt)*) => { $crate::output::line::print(&format!("{}\n", format_args!($($text)*))) };
}

pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) else { return };
    let exit = match error.kind() {
        ErrorKind::BrokenPipe => process::exit(0),
        ErrorKind::StorageFull => Exit::StorageFull,
        _ => Exit::Invalid,
    };
    eprintln!("error: failed to write the output: {error}");
    process::exit(exit as i32)
}
