//! Request bodies and headers that no guest should have to fear.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, half_close, open, post, read, request};
use crate::world::World;

pub(crate) fn cases() -> Vec<Case> {
    [bodies(), headers()].into_iter().flatten().collect()
}

fn bodies() -> Vec<Case> {
    vec![
        case("a large body that nobody reads", post("plain", "/ignore", 32 << 20), "200")
            .twin(post("plain", "/ignore", 10 << 10), "200"),
        case("a body without end that nobody reads", endless("plain", "/ignore"), "200")
            .twin(post("plain", "/read", 4 << 20), "200"),
        case("a body without end that the guest reads", endless("quick", "/read"), "504 first-byte-timeout")
            .twin(post("quick", "/read", 100_000), "200"),
        case("a body that is never sent", stalls("quick", "/read"), "504 first-byte-timeout")
            .twin(post("quick", "/read", 9), "200")
            .lane(Lane::Waiting),
        case("a body that comes byte by byte", dribbles("quick", "/read"), "504 first-byte-timeout")
            .twin(post("quick", "/read", 9), "200")
            .lane(Lane::Waiting),
        case("a body that comes byte by byte, and goes back so", dribbles("quick", "/echo"), "200 cut")
            .cut_off()
            .twin(post("quick", "/echo", 100_000), "200")
            .lane(Lane::Waiting),
        case("a body that breaks off", breaks_off(), "400: after 3 bytes").twin(post("plain", "/read", 3), "200"),
    ]
}

fn headers() -> Vec<Case> {
    let header = |line: &'static [u8]| -> Attack {
        Box::new(move |world| {
            let head =
                [b"GET /seen HTTP/1.1\r\nhost: plain.default.localhost\r\nconnection: close\r\n", line, b"\r\n\r\n"];
            let (words, response) = ask(world, &head.concat());
            let text = response.map(|response| response.text()).unwrap_or_default();
            let last = text.lines().find(|line| line.starts_with("x-it:")).unwrap_or_default();
            format!("{words} {last}").trim_end().to_owned()
        })
    };
    let long: &'static [u8] = vec![b'x'; 50_000].leak();
    let longer: &'static [u8] = vec![b'x'; 70_000].leak();
    let of = |value: &[u8]| -> &'static [u8] { [b"x-it: ", value].concat().leak() };
    let many = |count: u32| -> &'static [u8] {
        (0..count).map(|i| format!("x-{i}: y")).collect::<Vec<_>>().join("\r\n").into_bytes().leak()
    };
    vec![
        case("a header that is not UTF-8", header(b"x-it: caf\xe9 \xff\xfe"), r"200 x-it: caf\xe9 \xff\xfe")
            .twin(header(b"x-it: caf\xc3\xa9"), r"200 x-it: caf\xc3\xa9"),
        case("a header's name that is not UTF-8", header(b"x-\xff: y"), "400").twin(header(b"x-it: y"), "200 x-it: y"),
        case("a header with DEL", header(b"x-it: a\x7fb"), "400").twin(header(b"x-it: a\tb"), r"200 x-it: a\tb"),
        case("a header of 70 kB", header(of(longer)), "431").twin(header(of(long)), "200…"),
        case("a hundred and more headers", header(many(120)), "431").twin(header(many(90)), "200"),
        case("a client that says what only the gateway may", claims(), "200: nothing claimed")
            .twin(post("plain", "/read", 3), "200"),
    ]
}

/// What a client claims of itself is followed by what the gateway knows.
fn claims() -> Attack {
    Box::new(|world| {
        let lines = "x-forwarded-for: 10.9.8.7\r\nx-forwarded-proto: https\r\nte: trailers, gzip\r\nkeep-alive: 5\r\n\
                     proxy-authorization: Basic eA==\r\nproxy-connection: keep-alive\r\nupgrade: h2c\r\n";
        let (words, response) = ask(world, &request("GET", "plain", "/seen", lines, b""));
        let text = response.unwrap().text();
        let last =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))?.rsplit(", ").next());
        let hop =
            ["keep-alive", "proxy-authorization", "proxy-connection", "upgrade", "connection", "te: trailers, gzip"];
        let seen = hop.iter().find(|name| text.lines().any(|line| line.starts_with(**name)));
        match (last("x-forwarded-for"), last("x-forwarded-proto"), seen) {
            (Some("127.0.0.1"), Some("http"), None) => format!("{words}: nothing claimed"),
            other => format!("{words}: {other:?}"),
        }
    })
}

/// Chunks for as long as anybody takes them.
fn endless(service: &'static str, path: &'static str) -> Attack {
    Box::new(move |world| {
        let mut connection = open(world);
        let head = request("POST", service, path, "transfer-encoding: chunked\r\n", b"");
        connection.get_mut().write_all(&head).unwrap();
        let chunk = [b"10000\r\n", &[b'x'; 1 << 16][..], b"\r\n"].concat();
        let mut to = connection.get_ref().try_clone().unwrap();
        // The other side closes, or stops reading.
        to.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || while to.write_all(&chunk).is_ok() {});
            read(world, &mut connection).0
        })
    })
}

/// A long body is announced, and its start sent.
fn stalls(service: &'static str, path: &'static str) -> Attack {
    Box::new(move |world| {
        let head = request("POST", service, path, "content-length: 1000000\r\n", b"");
        ask(world, &[&head[..], b"the start"].concat()).0
    })
}

/// A byte every 100 ms, for half a minute at most.
fn dribbles(service: &'static str, path: &'static str) -> Attack {
    Box::new(move |world| {
        let mut connection = open(world);
        let head = request("POST", service, path, "content-length: 1000000\r\n", b"");
        connection.get_mut().write_all(&head).unwrap();
        let mut to = connection.get_ref().try_clone().unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || {
                while start.elapsed() < Duration::from_secs(30) && to.write_all(b"x").is_ok() {
                    thread::sleep(Duration::from_millis(100));
                }
            });
            let words = read(world, &mut connection).0;
            // The writer sees a closed connection and ends.
            drop(connection.get_ref().shutdown(std::net::Shutdown::Both));
            words
        })
    })
}

/// Three bytes of ten, and the end. The guest is told.
fn breaks_off() -> Attack {
    Box::new(|world: &World| {
        let mut connection = open(world);
        let head = request("POST", "plain", "/read", "content-length: 10\r\n", b"");
        connection.get_mut().write_all(&[&head[..], b"abc"].concat()).unwrap();
        half_close(&connection);
        let (words, response) = read(world, &mut connection);
        let text = response.map(|response| response.text()).unwrap_or_default();
        format!("{words}: {}", text.split(':').next().unwrap_or_default())
    })
}
