//! Guests that call other services: in circles, without leave, and with bodies that stop halfway.

use std::io::Write;

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, get, half_close, open, read, request, text};

const REFUSED: &str = "skiff_outbound_refused_total";

/// `POST` of so many bytes, passed on as they come.
fn forwards(to: &'static str, bytes: usize) -> Attack {
    Box::new(move |world| {
        let body = vec![b'x'; bytes];
        let (words, response) = ask(world, &request("POST", "caller", &format!("/forward?url={to}"), "", &body));
        let text = response.map(|response| response.text()).unwrap_or_default();
        match words.as_str() {
            "200" => format!("200: {}", text.trim_end()),
            _ => words,
        }
    })
}

/// A client that is gone in the middle of the body that a guest passes on.
fn breaks_off() -> Attack {
    Box::new(|world| {
        let mut connection = open(world);
        let path = "/forward?url=http://plain.default.internal/read";
        let head = request("POST", "caller", path, "content-length: 1000\r\n", b"");
        connection.get_mut().write_all(&[&head[..], b"abc"].concat()).unwrap();
        half_close(&connection);
        read(world, &mut connection).0
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let good = || text("caller", "/fetch?url=http://plain.default.internal/");
    let is_good = "200: 200 of 8 bytes, whole";
    let whole = "200: 200 of 14 bytes, whole";
    let cases = [
        case("a service that calls itself, for ever", get("ring", "/cycle?host=ring.default.internal"), "508")
            .counts(REFUSED, "why=\"depth\"", 1)
            .event("ring", "CallDepth", "default/ring > default/ring")
            .twin(good(), is_good),
        case(
            "a service that waits for the place that it has itself",
            get("tight", "/cycle?host=tight.default.internal"),
            "504 first-byte-timeout",
        )
        .twin(get("tight", "/"), "200"),
        case(
            "a call to a service that is not granted",
            text("caller", "/fetch?url=http://quick.default.internal/"),
            "502: refused: ErrorCode::HttpRequestDenied",
        )
        .event("caller", "OutboundDenied", "http://quick.default.internal, which it does not allow itself")
        .counts(REFUSED, "why=\"service\"", 1)
        .twin(good(), is_good),
        case(
            "a call to a service that does not want it",
            text("caller", "/fetch?url=http://shy.default.internal/"),
            "502: refused: ErrorCode::HttpRequestDenied",
        )
        .event("caller", "OutboundDenied", "http://shy.default.internal, which does not let it")
        .counts(REFUSED, "why=\"caller\"", 1)
        .twin(good(), is_good),
        case(
            "a service that breaks off in the middle of its body",
            text("caller", "/fetch?url=http://plain.default.internal/trap-after-part"),
            "200: 200 of 18 bytes, cut",
        )
        .trap("unreachable")
        .twin(
            text("caller", "/fetch?url=http://plain.default.internal/bytes?n=1000000"),
            "200: 200 of 1000000 bytes, whole",
        ),
        case(
            "a service that exits before it answers",
            text("caller", "/fetch?url=http://plain.default.internal/exit?code=1"),
            "200: 500 of …",
        )
        .trap("exit")
        .twin(good(), is_good),
        // Each waits until the other reads.
        case(
            "a guest that does not read the answer to what it sends",
            forwards("http://plain.default.internal/echo", 32 << 20),
            "504 first-byte-timeout",
        )
        .twin(forwards("http://plain.default.internal/read", 3_000_000), whole),
        case("a body that breaks off on its way through a guest", breaks_off(), "200")
            .twin(forwards("http://plain.default.internal/read", 3_000_000), whole),
    ];
    cases.into_iter().map(|case| case.lane(Lane::Waiting)).collect()
}
