//! Guests that ask servers outside: over TLS and HTTP/2, and of servers that do not behave.

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, request};
use crate::outside::Outside;

const REFUSED: &str = "skiff_outbound_refused_total";

/// Which of the servers.
type Port = fn(&Outside) -> u16;

/// What a guest of a service gets from one of the servers.
fn from(service: &'static str, scheme: &'static str, port: Port, path: &'static str) -> Attack {
    Box::new(move |world| {
        let url = format!("{scheme}://localhost:{}{path}", port(&world.outside));
        let (words, response) = ask(world, &request("GET", service, &format!("/fetch?url={url}"), "", b""));
        format!("{words}: {}", response.map(|response| response.text()).unwrap_or_default().trim_end())
    })
}

/// So many requests of one guest at once, to a server that does not answer them.
fn flood(count: u32) -> Attack {
    Box::new(move |world| {
        let url = format!("http://localhost:{}/silent", world.outside.plain);
        let (words, response) = ask(world, &request("GET", "asker", &format!("/flood?n={count}&url={url}"), "", b""));
        format!("{words}: {}", response.map(|response| response.text()).unwrap_or_default().trim_end())
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let (plain, tls): (Port, Port) = (|outside| outside.plain, |outside| outside.tls);
    let good = "200: 200 of 8 bytes, whole";
    let cases = [
        case(
            "a server whose certificate nobody vouches for",
            from("abroad", "https", |outside| outside.untrusted, "/"),
            "502: refused: ErrorCode::TlsCertificateError",
        )
        .event("abroad", "OutboundFailed", "no TLS with https://localhost:")
        .twin(from("abroad", "https", tls, "/"), good),
        case(
            "a server whose certificate is another host's",
            from("abroad", "https", |outside| outside.misnamed, "/"),
            "502: refused: ErrorCode::TlsCertificateError",
        )
        .twin(from("abroad", "https", tls, "/"), good),
        case(
            "a server whose certificate has expired",
            from("abroad", "https", |outside| outside.expired, "/"),
            "502: refused: ErrorCode::TlsCertificateError",
        )
        .twin(from("abroad", "https", tls, "/"), good),
        case(
            "a server that resets the request's stream",
            from("abroad", "https", |outside| outside.h2, "/other"),
            "502: refused: ErrorCode::…",
        )
        // It speaks nothing but HTTP/2.
        .twin(from("abroad", "https", |outside| outside.h2, "/"), "200: 200 of 0 bytes, whole"),
        case("a server that speaks no TLS", from("abroad", "https", plain, "/"), "502: refused: ErrorCode::…")
            .twin(from("abroad", "http", plain, "/"), good),
        case(
            "a server that never shakes hands",
            from("abroad", "https", |outside| outside.mute, "/"),
            "502: refused: ErrorCode::ConnectionTimeout",
        )
        .twin(from("abroad", "https", tls, "/"), good),
        case(
            "a server's head without end",
            from("abroad", "http", plain, "/endless-head"),
            "502: refused: ErrorCode::…",
        )
        .twin(from("abroad", "http", plain, "/headers"), "200: 200 of 0 bytes, whole"),
        case("a server that speaks no HTTP", from("abroad", "http", plain, "/garbage"), "502: refused: ErrorCode::…")
            .twin(from("abroad", "http", plain, "/"), good),
        case("a server that breaks off", from("abroad", "https", tls, "/cut"), "200: 200 of 10 bytes, cut")
            .twin(from("abroad", "https", tls, "/"), good),
        case(
            "a name that leads to this machine",
            from("worldly", "http", plain, "/"),
            "502: refused: ErrorCode::DestinationIpProhibited",
        )
        .event("worldly", "OutboundDenied", "that is no public address")
        .counts(REFUSED, "why=\"address\"", 1)
        .twin(from("abroad", "http", plain, "/"), good),
        case("a guest that asks too many at once", flood(100), "200: 64 sent, Some(ErrorCode::ConnectionLimitReached)")
            .event("asker", "OutboundLimit", "too many requests to others at once")
            .twin(flood(40), "200: 40 sent, None")
            .lane(Lane::Alone),
    ];
    cases.into_iter().map(|case| if case.lane == Lane::Alone { case } else { case.lane(Lane::Waiting) }).collect()
}
