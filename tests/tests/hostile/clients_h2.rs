//! Clients of HTTP/2 that flood, stall, lie, or break the frame.

use std::time::Duration;

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, request};
use crate::h2::*;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn cases() -> Vec<Case> {
    let all = [floods(), stalls(), headers(), frames()].into_iter().flatten();
    // The twin of what is no HTTP/2 at all is what is.
    let with_twin = |case: Case| if case.twin.is_some() { case } else { case.twin(get("plain", "/"), "200") };
    all.map(with_twin).collect()
}

/// Whatever it does, then what becomes of stream 1.
fn h2(work: impl Fn(&mut Connection<'_>) + Send + Sync + 'static) -> Attack {
    Box::new(move |world| {
        let mut connection = Connection::open(world, &[]);
        work(&mut connection);
        connection.outcome(1, PATIENCE)
    })
}

/// Whatever it does, then a request on a stream that comes after all others: the connection is well, or not.
fn then_asks(work: impl Fn(&mut Connection<'_>) + Send + Sync + 'static) -> Attack {
    const LAST: u32 = 1_000_001;
    Box::new(move |world| {
        let mut connection = Connection::open(world, &[]);
        work(&mut connection);
        connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, LAST, &get_of("plain", "/")));
        connection.outcome(LAST, PATIENCE)
    })
}

fn get(service: &'static str, path: &'static str) -> Attack {
    h2(move |connection| {
        connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get_of(service, path)));
    })
}

fn floods() -> Vec<Case> {
    let rapid_reset = |count: u32| {
        then_asks(move |connection| {
            let mut bytes = Vec::new();
            for stream in (1..2 * count).step_by(2) {
                bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &get_of("plain", "/spin")));
                bytes.extend(frame(RESET, 0, stream, &8u32.to_be_bytes()));
            }
            connection.send(&bytes);
        })
    };
    let continuations = |count: usize| {
        h2(move |connection| {
            connection.send(&frame(HEADERS, END_STREAM, 1, &get_of("plain", "/")));
            connection.flood(&frame(CONTINUATION, 0, 1, &headers_of(&[("x", "y")])), count);
            connection.send(&frame(CONTINUATION, END_HEADERS, 1, &[]));
        })
    };
    // All kinds that cost a sender nothing: a well-behaved number of them is taken.
    let flood = |bytes: Vec<u8>, times: usize| then_asks(move |connection| connection.flood(&bytes, times));
    let empty_data = |times: usize| {
        h2(move |connection| {
            connection.send(&frame(HEADERS, END_HEADERS, 1, &request_of("POST", "quick", "/read", &[])));
            connection.flood(&frame(DATA, 0, 1, &[]), times);
            connection.send(&frame(DATA, END_STREAM, 1, b"abc"));
        })
    };
    vec![
        case("h2: rapid reset", rapid_reset(20_000), "goaway ENHANCE_YOUR_CALM").twin(rapid_reset(5), "200"),
        case("h2: continuations without end", continuations(100_000), "goaway ENHANCE_YOUR_CALM")
            .twin(continuations(3), "200"),
        case("h2: settings without end", flood(frame(SETTINGS, 0, 0, &settings_of(&[(4, 70_000)])), 200_000), "200")
            .twin(flood(frame(SETTINGS, 0, 0, &settings_of(&[(4, 70_000)])), 3), "200"),
        case("h2: pings without end", flood(frame(PING, 0, 0, b"12345678"), 200_000), "200")
            .twin(flood(frame(PING, 0, 0, b"12345678"), 3), "200"),
        case("h2: priorities without end", flood(frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), 200_000), "200"),
        case("h2: frames of a kind that nobody knows", flood(frame(0xbb, 0, 0, b"what?"), 200_000), "200"),
        case("h2: empty data without end", empty_data(200_000), "goaway ENHANCE_YOUR_CALM").twin(empty_data(3), "200"),
        case("h2: more streams than may be", too_many_streams(), "reset REFUSED_STREAM, innocent 200"),
    ]
}

/// Three hundred at once, of which 256 may be.
fn too_many_streams() -> Attack {
    Box::new(|world| {
        let mut connection = Connection::open(world, &[]);
        for stream in (1..=600).step_by(2) {
            connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &get_of("wide", "/sleep?ms=500")));
        }
        let last = connection.outcome(599, PATIENCE);
        format!("{last}, innocent {}", ask(world, &request("GET", "innocent", "/", "", b"")).0)
    })
}

fn stalls() -> Vec<Case> {
    // No window at all: not a byte of the body may be sent.
    let no_window = |service, path| -> Attack {
        Box::new(move |world| {
            let mut connection = Connection::open(world, &[(4, 0)]);
            connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get_of(service, path)));
            connection.outcome(1, Duration::from_secs(20))
        })
    };
    vec![
        case("h2: a window that never opens", no_window("quick", "/endless"), "200 cut CANCEL")
            .cut_off()
            .twin(get("quick", "/bytes?n=1000000"), "200")
            .lane(Lane::Waiting),
        case(
            "h2: a head that is never finished",
            Box::new(|world| {
                let mut connection = Connection::open(world, &[]);
                connection.mute();
                connection.send(&frame(HEADERS, END_STREAM, 1, &get_of("plain", "/")));
                connection.outcome(1, Duration::from_secs(60))
            }),
            "goaway NO_ERROR",
        )
        .lane(Lane::Waiting)
        .long(),
        case(
            "h2: a body that is never sent",
            h2(|connection| {
                connection.send(&frame(HEADERS, END_HEADERS, 1, &request_of("POST", "quick", "/read", &[])));
            }),
            "504 first-byte-timeout",
        )
        .lane(Lane::Waiting),
        case("h2: a body without end", get("quick", "/endless"), "200 cut…").cut_off().lane(Lane::Waiting),
        case("h2: a trap", get("plain", "/panic"), "500 guest-trap").trap("unreachable").twin(get("plain", "/"), "200"),
    ]
}

fn headers() -> Vec<Case> {
    let with = |headers: Vec<(&'static str, &'static str)>| {
        h2(move |connection| {
            connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &headers_of(&headers)));
        })
    };
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "plain.default.localhost"), (":path", "/")];
    let and = |more: &[(&'static str, &'static str)]| with([&pseudo[..], more].concat());
    let block = |block: Vec<u8>| {
        h2(move |connection| {
            connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        })
    };
    let protocol_error = "reset PROTOCOL_ERROR";
    vec![
        case("h2: no method", with(pseudo[1..].to_vec()), protocol_error).twin(with(pseudo.to_vec()), "200"),
        case("h2: no path", with(pseudo[..3].to_vec()), protocol_error),
        case("h2: an empty path", with([&pseudo[..3], &[(":path", "")]].concat()), protocol_error),
        case("h2: two paths", and(&[(":path", "/two")]), protocol_error),
        case("h2: a pseudo-header that nobody knows", and(&[(":nobody", "knows")]), "goaway PROTOCOL_ERROR"),
        case("h2: a pseudo-header after a header", with([&[("x", "y")], &pseudo[..]].concat()), protocol_error),
        case("h2: a response's pseudo-header", and(&[(":status", "200")]), protocol_error),
        case("h2: a header in capitals", and(&[("X-Big", "y")]), "goaway PROTOCOL_ERROR"),
        case("h2: a header of the connection", and(&[("connection", "close")]), protocol_error),
        case("h2: an encoding of the connection", and(&[("transfer-encoding", "chunked")]), protocol_error),
        case("h2: a header with a line feed", and(&[("x", "a\nset-cookie: b")]), "goaway PROTOCOL_ERROR"),
        case("h2: a length that is not the body's", and(&[("content-length", "5")]), protocol_error),
        case(
            "h2: a tunnel",
            with(vec![(":method", "CONNECT"), (":authority", "example.com:80")]),
            "405 method-not-allowed",
        ),
        case("h2: a byte that means a megabyte", block(bomb(1000)), "goaway ENHANCE_YOUR_CALM")
            .twin(block(bomb(10)), "200"),
        case("h2: an index into nothing", block(vec![0xff, 0xff, 0x7f]), "goaway PROTOCOL_ERROR"),
        case("h2: a table larger than agreed", block(vec![0x3f, 0xe1, 0xff, 0x7f]), "goaway PROTOCOL_ERROR"),
    ]
}

/// A header of 4000 bytes, remembered, and meant so many times.
fn bomb(times: usize) -> Vec<u8> {
    // The newest entry of the table has the first number behind the 61 fixed ones.
    [get_of("plain", "/"), remembered(b"x", &[b'y'; 4000]), vec![0x80 | 62; times]].concat()
}

fn frames() -> Vec<Case> {
    let sends = |bytes: Vec<u8>| {
        h2(move |connection| {
            connection.send(&bytes);
        })
    };
    let after_request = |bytes: Vec<u8>| {
        let head = frame(HEADERS, END_HEADERS, 1, &request_of("POST", "quick", "/read", &[]));
        sends([head, bytes].concat())
    };
    let window = |stream: u32, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    vec![
        case(
            "h2: a frame larger than agreed",
            after_request(frame(DATA, 0, 1, &[0; 20_000])),
            "goaway FRAME_SIZE_ERROR",
        )
        .twin(after_request(frame(DATA, END_STREAM, 1, &[0; 16_000])), "200"),
        case("h2: data on no stream", sends(frame(DATA, 0, 0, b"abc")), "goaway PROTOCOL_ERROR"),
        case("h2: data on a stream that nobody opened", sends(frame(DATA, 0, 1, b"abc")), "goaway PROTOCOL_ERROR"),
        case(
            "h2: a request on a server's stream",
            sends(frame(HEADERS, END_HEADERS | END_STREAM, 2, &get_of("plain", "/"))),
            "goaway PROTOCOL_ERROR",
        ),
        case(
            "h2: a promise from a client",
            after_request(frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
            "goaway PROTOCOL_ERROR",
        ),
        case(
            "h2: a stream that depends on itself",
            after_request(frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1])),
            "reset PROTOCOL_ERROR",
        ),
        case("h2: a window that grows by nothing", after_request(window(1, 0)), "goaway PROTOCOL_ERROR"),
        case(
            "h2: a window that grows too far",
            after_request([window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)].concat()),
            "reset FLOW_CONTROL_ERROR",
        ),
        case(
            "h2: the connection's window grows too far",
            after_request([window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)].concat()),
            "goaway FLOW_CONTROL_ERROR",
        ),
        case(
            "h2: more data than the window",
            after_request(frame(DATA, 0, 1, &[0; 16_000]).repeat(200)),
            // The stream's window or the connection's, whichever is found exceeded first.
            "goaway FLOW_CONTROL_ERROR or reset FLOW_CONTROL_ERROR",
        ),
        case(
            "h2: padding longer than the frame",
            after_request(frame(DATA, 8, 1, &[200, 1, 2])),
            "goaway PROTOCOL_ERROR",
        ),
        case("h2: a ping of seven bytes", sends(frame(PING, 0, 0, b"1234567")), "goaway PROTOCOL_ERROR"),
        case("h2: settings of seven bytes", sends(frame(SETTINGS, 0, 0, b"1234567")), "goaway PROTOCOL_ERROR"),
        case(
            "h2: a frame between two parts of a head",
            sends([frame(HEADERS, END_STREAM, 1, &get_of("plain", "/")), frame(PING, 0, 0, b"12345678")].concat()),
            "goaway PROTOCOL_ERROR",
        ),
    ]
}
