//! Clients of HTTP/1.1 that are slow, silent, many, or gone.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use skiff_tests::http::connect;

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, get, half_close, open, raw, read, request, tally};
use crate::world::World;

/// The gateway gives a head 30 s; a loaded machine gets some more.
const HEAD_TIMEOUT_MAX: Duration = Duration::from_secs(45);
/// What the gateway gives a client that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a head that comes byte by byte", slow_heads(32), "32 x closed")
            .twin(get("plain", "/"), "200")
            .lane(Lane::Waiting),
        case("a thousand connections that say nothing", silent(1000), "1000 x closed, innocent 200")
            .twin(get("plain", "/"), "200")
            .lane(Lane::Waiting),
        case("half of HTTP/2's preface", raw(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"[..]), "closed")
            .twin(get("plain", "/"), "200")
            .lane(Lane::Waiting),
        case("a client that reads nothing", reads_nothing(), "closed")
            .twin(get("patient", "/bytes?n=5000000"), "200")
            .lane(Lane::Waiting)
            .long(),
        // It may be gone, for all that TCP says: its guest would sleep for an hour for nobody.
        case("a client that has said all, and waits", says_all("deserted", "/sleep?ms=3600000"), "closed")
            .twin(says_all("deserted", "/sleep?ms=200"), "200")
            .lane(Lane::Waiting),
        case("a client that has said half a head", half_said(40), "40 x closed, innocent 200")
            .twin(says_all("plain", "/"), "200")
            .lane(Lane::Waiting),
        case("connections that are reset amid a request", reset(40), "40 x reset, innocent 200")
            .twin(get("deserted", "/"), "200"),
        case("requests that are given up at once", given_up(40), "40 x gone, innocent 200")
            .twin(get("deserted", "/"), "200"),
        case("a client that speaks first of TLS", raw(*b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"), "400, closed")
            .twin(get("plain", "/"), "200"),
        case("a client that sends zeros", raw([0; 4096]), "400, closed").twin(get("plain", "/"), "200"),
        case("a client that sends line feeds for ever", endless_lines(), "ended").twin(get("plain", "/"), "200"),
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

/// A whole request, and the end of all that is sent.
fn says_all(service: &'static str, path: &'static str) -> Attack {
    Box::new(move |world| {
        let mut connection = open(world);
        connection.get_mut().write_all(&request("GET", service, path, "", b"")).unwrap();
        half_close(&connection);
        read(world, &mut connection).0
    })
}

/// Sockets that are half closed before there is a request.
fn half_said(count: usize) -> Attack {
    Box::new(move |world| {
        let mut streams: Vec<_> = (0..count).map(|_| open(world)).collect();
        for (number, stream) in streams.iter_mut().enumerate() {
            let head = &b"GET / HTTP/1.1\r\nhost: plain.default.loc"[..number];
            stream.get_mut().write_all(head).unwrap();
            half_close(stream);
        }
        let ended = tally(streams.iter_mut().map(|stream| read(world, stream).0.replace("400", "closed")));
        format!("{ended}, innocent {}", ask(world, &request("GET", "innocent", "/", "", b"")).0)
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
