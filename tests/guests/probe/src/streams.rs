//! Answers that are more than a head and a body: trailers, gRPC, events.

use std::io::{Read as _, Write as _};

use wasip2::{
    clocks::monotonic_clock,
    http::types::{Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
};

use crate::answer;

/// A message's flag and length come before it.
const GRPC_PREFIX: usize = 5;

pub fn trailers(out: ResponseOutparam) {
    // HTTP/1.1 carries only what was announced.
    send(out, &[("trailer", "x-after")], &[("x-after", "the body")], &mut |to| to.write_all(b"body\n"));
}

/// The request's body, and its trailers after it.
pub fn request_trailers(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the body is taken once");
    let mut bytes = Vec::new();
    if body.stream().expect("the stream is taken once").read_to_end(&mut bytes).is_err() {
        return answer::text(out, 400, "the body broke off\n");
    }
    answer::text(out, 200, &format!("{}\n{}", String::from_utf8_lossy(&bytes), trailers_of(body)));
}

/// What comes after a body that was read to its end: a `name: value` a line.
pub fn trailers_of(body: IncomingBody) -> String {
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    let trailers = trailers.get().expect("they are ready").expect("they are taken once");
    let entries = trailers.ok().flatten().map(|trailers| trailers.entries()).unwrap_or_default();
    entries.iter().map(|(name, value)| format!("{name}: {}\n", value.escape_ascii())).collect()
}

/// A unary call. What it got wrong is a status in the trailers, as gRPC has it: the HTTP status is 200 either way.
pub fn grpc(request: &IncomingRequest, out: ResponseOutparam) {
    let status = match message(request) {
        Ok(message) => {
            let trailers = [("grpc-status", "0"), ("grpc-message", "")];
            return send(out, &[("content-type", "application/grpc")], &trailers, &mut |to| to.write_all(&message));
        }
        Err(status) => status,
    };
    send(out, &[("content-type", "application/grpc")], &[("grpc-status", status)], &mut |_| Ok(()));
}

fn message(request: &IncomingRequest) -> Result<Vec<u8>, &'static str> {
    // gRPC's codes: 3 is an invalid argument, 9 a failed precondition.
    if request.headers().get("te") != [b"trailers".to_vec()] {
        return Err("9");
    }
    let body = request.consume().expect("the body is taken once");
    let mut bytes = Vec::new();
    body.stream().expect("the stream is taken once").read_to_end(&mut bytes).map_err(|_| "3")?;
    let prefix = bytes.get(..GRPC_PREFIX).ok_or("3")?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if bytes.len() - GRPC_PREFIX == length as usize { Ok(bytes) } else { Err("3") }
}

pub fn events(count: u64, out: ResponseOutparam) {
    send(out, &[("content-type", "text/event-stream")], &[], &mut |to| {
        for number in 1..=count {
            to.write_all(format!("data: {number}\n\n").as_bytes())?;
            to.flush()?;
            monotonic_clock::subscribe_duration(50_000_000).block();
        }
        Ok(())
    });
}

type Write<'w> = &'w mut dyn FnMut(&mut wasip2::io::streams::OutputStream) -> std::io::Result<()>;

fn send(out: ResponseOutparam, headers: &[(&str, &str)], trailers: &[(&str, &str)], write: Write<'_>) {
    let response = OutgoingResponse::new(fields(headers));
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let mut to = body.write().expect("the stream is taken once");
    // A host that stops taking the body has lost the caller.
    let sent = write(&mut to);
    drop(to);
    if sent.is_ok() {
        _ = OutgoingBody::finish(body, (!trailers.is_empty()).then(|| fields(trailers)));
    }
}

fn fields(list: &[(&str, &str)]) -> Fields {
    let list: Vec<_> = list.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Fields::from_list(&list).expect("these are headers")
}
