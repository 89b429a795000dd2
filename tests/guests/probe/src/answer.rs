//! Sending answers.

use std::{fmt::Display, io::Write as _};

use wasip2::{
    http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::OutputStream,
};

pub fn text(out: ResponseOutparam, status: u16, text: &str) {
    // A host that stops taking the body has lost the caller.
    stream(out, status, |body| _ = body.write_all(text.as_bytes()));
}

/// What the host did not let the probe do.
pub fn refused(out: ResponseOutparam, why: impl Display) {
    text(out, 502, &format!("refused: {why}\n"));
}

/// Sends the head, and then whatever `write` writes.
pub fn stream(out: ResponseOutparam, status: u16, write: impl FnOnce(&mut OutputStream)) {
    let response = OutgoingResponse::new(Fields::new());
    if response.set_status_code(status).is_err() {
        return refused(out, format_args!("{status} as a status"));
    }
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let mut to = body.write().expect("the stream is taken once");
    write(&mut to);
    drop(to);
    _ = OutgoingBody::finish(body, None);
}
