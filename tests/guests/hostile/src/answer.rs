//! Sending answers.

use std::{fmt::Display, io::Write as _};

use wasip2::{
    http::types::{ErrorCode, Fields, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::OutputStream,
};

pub fn text(out: ResponseOutparam, status: u16, text: &str) {
    // A host that stops taking the body has lost the caller.
    stream(out, status, Fields::new(), |body| _ = body.write_all(text.as_bytes()));
}

/// What the host did not let the guest do.
pub fn refused(out: ResponseOutparam, why: impl Display) {
    text(out, 502, &format!("refused: {why}\n"));
}

/// Sends the head, and then whatever `write` writes.
pub fn stream(out: ResponseOutparam, status: u16, headers: Fields, write: impl FnOnce(&mut OutputStream)) {
    let (body, mut to) = begin(out, status, headers);
    write(&mut to);
    drop(to);
    _ = OutgoingBody::finish(body, None);
}

/// Sends the head.
pub fn begin(out: ResponseOutparam, status: u16, headers: Fields) -> (OutgoingBody, OutputStream) {
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("the status is valid");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let to = body.write().expect("the stream is taken once");
    (body, to)
}

pub fn status(code: u64, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    match response.set_status_code(u16::try_from(code).unwrap_or(u16::MAX)) {
        Ok(()) => ResponseOutparam::set(out, Ok(response)),
        Err(()) => refused(out, format_args!("{code} as a status")),
    }
}

pub fn error_code(out: ResponseOutparam) {
    ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("x".repeat(100_000)))));
}
