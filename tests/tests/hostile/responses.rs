//! Guests whose responses are none, not HTTP, or not what they say.

use std::io::Write;

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, get, open, read, request, text};
use crate::world::World;

pub(crate) fn cases() -> Vec<Case> {
    [heads(), headers(), bodies()].into_iter().flatten().collect()
}

fn heads() -> Vec<Case> {
    vec![
        case("no answer", get("told", "/drop-out"), "502 guest-no-response")
            .event("told", "GuestFailed", "the guest returned without a response")
            .twin(get("told", "/"), "200"),
        case("no answer after long work", get("plain", "/work-and-drop?ms=50"), "502 guest-no-response")
            .twin(get("plain", "/work?ms=50"), "200"),
        case("an error as the answer, of 100 kB", get("told", "/error-code"), "502 guest-error")
            .event("told", "GuestFailed", "the guest answered with the error")
            .twin(get("told", "/status?code=502"), "502"),
        case("status 99", text("plain", "/status?code=99"), "502: refused: 99 as a status")
            .twin(get("plain", "/status?code=299"), "299"),
        case("status 1000", text("plain", "/status?code=1000"), "502: refused: 1000 as a status")
            .twin(get("plain", "/status?code=599"), "599"),
        case("status 100", get("plain", "/status?code=100"), "502 guest-invalid-response")
            .twin(get("plain", "/status?code=200"), "200"),
        case("status 101", get("plain", "/status?code=101"), "502 guest-invalid-response")
            .twin(get("plain", "/status?code=204"), "204"),
    ]
}

fn headers() -> Vec<Case> {
    vec![
        case("headers of the connection", forbidden(), "200 and nothing forbidden")
            .twin(get("plain", "/headers?n=3&bytes=10"), "200"),
        case("header injection", text("plain", "/invalid-headers"), "200: latin: set")
            .twin(get("plain", "/headers?n=3&bytes=10"), "200"),
        case("a body of two lengths", text("plain", "/lengths"), "502: refused: Ok(()) Err…")
            .twin(get("plain", "/promise?n=3&sent=3"), "200"),
        case("a hundred thousand headers", get("plain", "/headers?n=100000&bytes=1"), "500 guest-trap")
            .trap("host-call")
            .twin(get("plain", "/headers?n=90&bytes=100"), "200"),
        case("a header of a megabyte", get("plain", "/headers?n=1&bytes=1000000"), "500 guest-trap")
            .trap("host-call")
            .twin(get("plain", "/headers?n=1&bytes=30000"), "200"),
        case("trailers of a megabyte", get("plain", "/trailers?n=4000"), "200 cut")
            .cut_off()
            .trap("host-call")
            .twin(get("plain", "/trailers?n=50"), "200"),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        case("a body without end", get("quick", "/endless"), "200 cut")
            .cut_off()
            .twin(get("quick", "/bytes?n=300000"), "200"),
        case("a body without end, and a client that leaves", leaves_amid("patient", "/endless"), "left")
            .twin(leaves_amid("patient", "/bytes?n=5000000"), "left"),
        case("a byte now and then", get("quick", "/drip?ms=4000"), "200 cut")
            .cut_off()
            .twin(get("quick", "/bytes?n=100000"), "200")
            .lane(Lane::Waiting),
        case("a byte now and then, for ever", get("quick", "/drip?ms=300"), "200 cut")
            .cut_off()
            .twin(get("quick", "/bytes?n=100000"), "200")
            .lane(Lane::Waiting),
        case("less than was promised", get("plain", "/promise?n=100&sent=10"), "closed or 200 cut")
            .cut_off()
            .logs("plain", "finish: Err(ErrorCode::HttpResponseBodySize")
            .twin(get("plain", "/promise?n=100&sent=100"), "200"),
        case("more than was promised", sized("/promise?n=100&sent=1000"), "200 of 100 bytes")
            .twin(sized("/promise?n=100&sent=100"), "200 of 100 bytes"),
        case(
            "all bytes there are, promised",
            get("plain", "/promise?n=18446744073709551615&sent=10"),
            "closed or 200 cut",
        )
        .cut_off()
        .twin(get("plain", "/promise?n=1000000&sent=1000000"), "200"),
        case("a body that is left open", get("plain", "/unfinished"), "200").twin(get("plain", "/bytes?n=18"), "200"),
        case("a trap amid the body", get("told", "/trap-after-part"), "200 cut")
            .cut_off()
            .logs("told", "the guest trapped (unreachable)")
            .event("told", "GuestTrapped", "the answer was cut off: the guest trapped (unreachable)")
            .trap("unreachable")
            .twin(get("told", "/bytes?n=18"), "200"),
    ]
}

/// With the length of the answer's body.
fn sized(path: &'static str) -> Attack {
    Box::new(move |world| {
        let (words, response) = ask(world, &request("GET", "plain", path, "", b""));
        format!("{words} of {} bytes", response.map_or(0, |response| response.body.len()))
    })
}

/// Neither is a forbidden header taken from the guest, nor does one reach the client.
fn forbidden() -> Attack {
    // What the gateway itself says to this client, who asks it to close.
    const OF_THE_GATEWAY: [&str; 3] = ["connection", "transfer-encoding", "content-length"];
    Box::new(|world| {
        let (words, response) = ask(world, &request("GET", "plain", "/forbidden", "", b""));
        let response = response.unwrap();
        let mut wrong = Vec::new();
        for line in response.text().lines() {
            // These two are the gateway's to remove: the sandbox does not know them, and the first is any service's.
            if line.ends_with(": set")
                && !["x-kept: set", "x-skiff-error: set", "proxy-authenticate: set"].contains(&line)
            {
                wrong.push(line.to_owned());
            }
        }
        for (name, value) in &response.headers {
            let is_set = response.text().contains(&format!("{name}: "));
            if is_set && name != "x-kept" && (!OF_THE_GATEWAY.contains(&name.as_str()) || value.contains("x-kept")) {
                wrong.push(format!("{name}: {value} was sent"));
            }
        }
        if wrong.is_empty() { format!("{words} and nothing forbidden") } else { format!("{words}: {wrong:?}") }
    })
}

/// Reads a megabyte of a body, and is gone.
fn leaves_amid(service: &'static str, path: &'static str) -> Attack {
    Box::new(move |world: &World| {
        let mut connection = open(world);
        connection.get_mut().write_all(&request("GET", service, path, "", b"")).unwrap();
        let mut part = vec![0; 1 << 20];
        match std::io::Read::read_exact(&mut connection, &mut part) {
            Ok(()) => "left".to_owned(),
            Err(_) => read(world, &mut connection).0,
        }
    })
}
