//! Clients of HTTP/1.1: what they send, and in a few words what they get.
//!
//! | words | meaning |
//! |---|---|
//! | `200`, `500 guest-trap` | a whole answer, with the gateway's code if it is its own |
//! | `200 cut` | an answer whose body broke off |
//! | `closed` | the connection ended without an answer |
//! | `silence` | nothing came, and the connection stays |

use std::collections::BTreeMap;
use std::io::{self, BufReader, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use skiff_tests::Response;
use skiff_tests::http::{connect, read_body, read_head};

use crate::case::Attack;
use crate::world::World;

/// Ten seconds of processor time on a machine that others use as well.
const LONG: Duration = Duration::from_secs(450);
/// How long a connection is watched after an answer: for a second one, or its end.
const AFTERMATH: Duration = Duration::from_secs(2);

/// `GET path` of a service.
pub(crate) fn get(service: &'static str, path: &'static str) -> Attack {
    Box::new(move |world| ask(world, &request("GET", service, path, "", b"")).0)
}

/// The same, for an answer that takes longer than a connection usually waits.
pub(crate) fn get_patiently(service: &'static str, path: &'static str) -> Attack {
    Box::new(move |world| {
        let mut connection = open(world);
        connection.get_mut().write_all(&request("GET", service, path, "", b"")).unwrap();
        connection.get_ref().set_read_timeout(Some(LONG)).unwrap();
        read(world, &mut connection).0
    })
}

/// The same, with the body's text after the words.
pub(crate) fn text(service: &'static str, path: &'static str) -> Attack {
    Box::new(move |world| {
        let (words, response) = ask(world, &request("GET", service, path, "", b""));
        let text = response.map(|response| response.text()).unwrap_or_default();
        format!("{words}: {}", text.trim_end().replace('\n', "; "))
    })
}

/// `POST path` with so many bytes.
pub(crate) fn post(service: &'static str, path: &'static str, bytes: usize) -> Attack {
    Box::new(move |world| ask(world, &request("POST", service, path, "", &vec![b'x'; bytes])).0)
}

/// So many at once: how many came to what, `3 x 200, 1 x 503 queue-full`.
pub(crate) fn at_once(count: usize, service: &'static str, path: &'static str) -> Attack {
    Box::new(move |world| {
        let words = thread::scope(|scope| {
            let one = || ask(world, &request("GET", service, path, "", b"")).0;
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        tally(words)
    })
}

/// `3 x 200, 1 x closed`.
pub(crate) fn tally(words: impl IntoIterator<Item = String>) -> String {
    let mut counts = BTreeMap::<String, u64>::new();
    words.into_iter().for_each(|words| *counts.entry(words).or_default() += 1);
    counts.iter().map(|(words, count)| format!("{count} x {words}")).collect::<Vec<_>>().join(", ")
}

/// These very bytes; then every answer that comes, and whether the connection is `closed` or left `open`.
pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Attack {
    let bytes = bytes.into();
    Box::new(move |world| {
        let mut connection = open(world);
        // Whoever is refused early may be cut off early.
        drop(connection.get_mut().write_all(&bytes));
        answers(world, &mut connection)
    })
}

/// Every answer that comes, and what becomes of the connection.
pub(crate) fn answers(world: &World, connection: &mut BufReader<TcpStream>) -> String {
    let mut words = Vec::new();
    loop {
        let (came, _) = read(world, connection);
        if came == "silence" && !words.is_empty() {
            words.push("open".to_owned());
            return words.join(", ");
        }
        let is_end = ["silence", "closed"].contains(&came.as_str()) || came.ends_with("cut");
        words.push(came);
        if is_end {
            return words.join(", ");
        }
        connection.get_ref().set_read_timeout(Some(AFTERMATH)).unwrap();
    }
}

/// A connection to the gateway.
pub(crate) fn open(world: &World) -> BufReader<TcpStream> {
    BufReader::new(connect(world.cluster.gateway_addr()).unwrap())
}

/// A whole request that ends its connection. `headers` are whole lines.
pub(crate) fn request(method: &str, service: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let host = World::host(service);
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}{length}connection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Sends bytes on a connection of their own, and reads one answer.
pub(crate) fn ask(world: &World, bytes: &[u8]) -> (String, Option<Response>) {
    let mut connection = open(world);
    drop(connection.get_mut().write_all(bytes));
    read(world, &mut connection)
}

/// Reads one answer.
pub(crate) fn read(world: &World, connection: &mut BufReader<TcpStream>) -> (String, Option<Response>) {
    let mut response = match read_head(connection) {
        Ok(response) => response,
        Err(error) => return (ended(&error).to_owned(), None),
    };
    if response.status == 100 {
        return read(world, connection);
    }
    let words = world.words(&response);
    match read_body(connection, &mut response) {
        Ok(()) => (words, Some(response)),
        Err(_) => (format!("{words} cut"), Some(response)),
    }
}

fn ended(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "silence",
        ErrorKind::InvalidData => "garbage",
        _ => "closed",
    }
}

/// Says that nothing more will be sent, and goes on listening.
pub(crate) fn half_close(connection: &BufReader<TcpStream>) {
    connection.get_ref().shutdown(Shutdown::Write).unwrap();
}
