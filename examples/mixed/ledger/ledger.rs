//! A ledger of lines, as a program from before: one file, one thread, no framework, and a disk that it needs.
//!
//! `GET /entries` answers with all lines, `POST /entries` adds the body as one and answers once it is on the disk. It is
//! native code: `rustc` alone makes a static binary of it, and an image needs nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const FILE: &str = "/data/entries";
const LINE_BYTES_MAX: usize = 4096;
const HEAD_BYTES_MAX: u64 = 16 << 10;

fn main() -> io::Result<()> {
    // The first process of a container has no one else who ends it.
    unsafe { signal(SIGTERM, end) };
    let mut file = OpenOptions::new().create(true).append(true).open(FILE)?;
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    println!("{} entries, listening on port 8080", fs::read_to_string(FILE)?.lines().count());
    for stream in listener.incoming() {
        if let Err(error) = stream.and_then(|stream| serve(stream, &mut file)) {
            eprintln!("a request failed: {error}");
        }
    }
    Ok(())
}

const SIGTERM: i32 = 15;

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(code: i32) -> !;
}

/// Whatever was answered is on the disk.
extern "C" fn end(_: i32) {
    unsafe { _exit(0) }
}

fn serve(stream: TcpStream, file: &mut File) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new((&stream).take(HEAD_BYTES_MAX + LINE_BYTES_MAX as u64));
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(());
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            length = value.trim().parse().unwrap_or(usize::MAX);
        }
    }
    let mut words = first.split(' ');
    let (status, body) = match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
        ("GET", "/entries") => ("200 OK", fs::read_to_string(FILE)?),
        ("POST", "/entries") if length > LINE_BYTES_MAX => ("413 Content Too Large", "a line is shorter\n".to_owned()),
        ("POST", "/entries") => {
            let mut line = vec![0; length];
            reader.read_exact(&mut line)?;
            match line.contains(&b'\n') {
                true => ("400 Bad Request", "a line has no end within\n".to_owned()),
                false => {
                    line.push(b'\n');
                    file.write_all(&line)?;
                    file.sync_data()?;
                    ("201 Created", String::new())
                }
            }
        }
        ("GET", "/healthz") => ("200 OK", "well\n".to_owned()),
        _ => ("404 Not Found", "there is /entries\n".to_owned()),
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(body.as_bytes())
}
