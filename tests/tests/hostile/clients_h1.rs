//! Clients of HTTP/1.1 that are slow, silent, many, or gone.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use skiff_tests::http::connect;

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, open, read, request, tally};
use crate::world::World;

/// The gateway gives a head 30 s; a loaded machine gets some more.
const HEAD_TIMEOUT_MAX: Duration = Duration::from_secs(45);
/// What the gateway gives a client that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a head that comes byte by byte", slow_heads(32), "32 x closed").lane(Lane::Waiting).within(60),
        case("a thousand connections that say nothing", silent(1000), "1000 x closed, innocent 200")
            .lane(Lane::Waiting)
            .within(60),
        case("a client that reads nothing", reads_nothing(), "closed").lane(Lane::Waiting).within(90),
        case("connections that are reset amid a request", reset(40), "40 x reset, innocent 200"),
        case("requests that are given up at once", given_up(40), "40 x gone, innocent 200"),
        case(
            "a client that speaks first of TLS",
            first_bytes(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
            "400, closed",
        ),
        case("a client that sends zeros", first_bytes(&[0; 4096]), "400, closed"),
        case("a client that sends line feeds for ever", endless_lines(), "ended"),
    ]
}

/// Heads of which a byte comes each second, so that no single wait is long.
fn slow_heads(count: usize) -> Attack {
    Box::new(move |world| {
        let start = Instant::now();
        let mut slow: Vec<_> = (0..count).map(|_| open(world)).collect();
        let head = format!("GET / HTTP/1.1\r\nhost: plain.default.localhost\r\nx: {}", "y".repeat(100));
        let mut bytes = head.bytes();
        while start.elapsed() < HEAD_TIMEOUT_MAX {
            let byte = [bytes.next().unwrap_or(b'y')];
            // Those that were closed take no more.
            let open = slow.iter_mut().filter(|stream| stream.get_ref().write_all(&byte).is_ok()).count();
            if open == 0 {
                break;
            }
            thread::sleep(Duration::from_secs(1));
        }
        tally(slow.iter_mut().map(|stream| read(world, stream).0.replace("408", "closed")))
    })
}

/// Many connections, held open until they are ended, while an innocent service is asked.
fn silent(count: usize) -> Attack {
    Box::new(move |world| {
        let mut idle: Vec<_> = (0..count).map(|_| connect(world.cluster.gateway_addr()).unwrap()).collect();
        let innocent = ask(world, &request("GET", "innocent", "/", "", b"")).0;
        let ended = idle.iter_mut().map(|stream| {
            stream.set_read_timeout(Some(HEAD_TIMEOUT_MAX)).unwrap();
            match stream.read(&mut [0; 16]) {
                Ok(0) => "closed".to_owned(),
                other => format!("{other:?}"),
            }
        });
        format!("{}, innocent {innocent}", tally(ended))
    })
}

/// Asks for a body without end, and reads nothing of it until it must be over: then there is an end.
fn reads_nothing() -> Attack {
    Box::new(|world| {
        let mut connection = open(world);
        connection.get_mut().write_all(&request("GET", "patient", "/endless", "", b"")).unwrap();
        thread::sleep(WRITE_TIMEOUT + Duration::from_secs(5));
        // What was on its way is some megabytes.
        let mut left = (&mut connection).take(64 << 20);
        match std::io::copy(&mut left, &mut std::io::sink()) {
            Ok(bytes) if bytes == 64 << 20 => "still sent".to_owned(),
            _ => "closed".to_owned(),
        }
    })
}

/// Connections that end with a reset instead of a goodbye, while their guest sleeps.
fn reset(count: usize) -> Attack {
    Box::new(move |world| {
        let ended = (0..count).map(|_| {
            let mut stream = connect(world.cluster.gateway_addr()).unwrap();
            stream.write_all(&request("GET", "deserted", "/sleep?ms=3600000", "", b"")).unwrap();
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            "reset".to_owned()
        });
        let ended = tally(ended);
        format!("{ended}, innocent {}", ask(world, &request("GET", "innocent", "/", "", b"")).0)
    })
}

/// Requests whose client is gone before its guest has begun.
fn given_up(count: usize) -> Attack {
    Box::new(move |world: &World| {
        let ended = (0..count).map(|_| {
            let mut stream = connect(world.cluster.gateway_addr()).unwrap();
            stream.write_all(&request("GET", "deserted", "/spin", "", b"")).unwrap();
            "gone".to_owned()
        });
        let ended = tally(ended);
        format!("{ended}, innocent {}", ask(world, &request("GET", "innocent", "/", "", b"")).0)
    })
}

fn first_bytes(bytes: &'static [u8]) -> Attack {
    crate::client::raw(bytes)
}

/// Empty lines before a request may be skipped, but not without end.
fn endless_lines() -> Attack {
    Box::new(|world| {
        let mut connection = open(world);
        let lines = [b'\n'; 1 << 16];
        let start = Instant::now();
        while start.elapsed() < HEAD_TIMEOUT_MAX {
            if connection.get_mut().write_all(&lines).is_err() {
                return "ended".to_owned();
            }
        }
        "still taken".to_owned()
    })
}
