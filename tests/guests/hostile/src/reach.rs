//! Reaching for others: what nobody granted, too much of what somebody did, and those that do not answer as they should.

use std::{fs, net::TcpStream};

use wasip2::{
    clocks::monotonic_clock,
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, FutureIncomingResponse, IncomingRequest, IncomingResponse, Method, OutgoingBody,
            OutgoingRequest, ResponseOutparam, Scheme,
        },
    },
    io::{
        poll,
        streams::{InputStream, StreamError},
    },
    sockets::{instance_network::instance_network, ip_name_lookup::resolve_addresses},
};

use crate::answer;

pub fn outbound(url: &str, out: ResponseOutparam) {
    match ask(url) {
        Ok(status) => answer::text(out, 200, &format!("{status}\n")),
        Err(error) => answer::refused(out, format_args!("{error:?}")),
    }
}

/// Asks, and reads the whole answer: its status, and how many bytes came before what ended them.
pub fn fetch(url: &str, out: ResponseOutparam) {
    match begin(url, None) {
        Ok(response) => answer::text(out, 200, &format!("{}\n", whole(&response))),
        Err(error) => answer::refused(out, format_args!("{error:?}")),
    }
}

/// Passes the request's body on as it comes, and tells of the answer as [`fetch`] does.
pub fn forward(request: &IncomingRequest, url: &str, out: ResponseOutparam) {
    let body = request.consume().expect("the body is taken once");
    let from = body.stream().expect("the stream is taken once");
    match begin(url, Some(&from)) {
        Ok(response) => answer::text(out, 200, &format!("{}\n", whole(&response))),
        Err(error) => answer::refused(out, format_args!("{error:?}")),
    }
}

/// Calls whoever is there, which does the same in turn. Answers with the status that came.
pub fn cycle(host: &str, out: ResponseOutparam) {
    match begin(&format!("http://{host}/cycle?host={host}"), None) {
        Ok(response) => answer::text(out, response.status(), "around\n"),
        Err(error) => answer::refused(out, format_args!("{error:?}")),
    }
}

/// So many requests at once, whose answers are not waited for; how many were let out, and why the others were not.
pub fn flood(n: u64, url: &str, out: ResponseOutparam) {
    let (mut sent, mut refused, mut kept) = (0, None, Vec::new());
    for _ in 0..n {
        match send(url, None) {
            Ok(pending) => kept.push(pending),
            Err(error) => refused = Some(error),
        }
    }
    // Whoever is not waited for may not even begin. What is refused is so at once.
    let enough = monotonic_clock::subscribe_duration(500_000_000);
    loop {
        let pollables: Vec<_> = kept.iter().map(FutureIncomingResponse::subscribe).collect();
        let ready = poll::poll(&[&enough].into_iter().chain(&pollables).collect::<Vec<_>>());
        drop(pollables);
        if ready.contains(&0) {
            break;
        }
        for at in ready.into_iter().rev() {
            match kept.swap_remove(at as usize - 1).get() {
                Some(Ok(Err(error))) => refused = Some(error),
                _ => sent += 1,
            }
        }
    }
    // One that waits for its answer is under way.
    sent += kept.len();
    answer::text(out, 200, &format!("{sent} sent, {refused:?}\n"));
}

fn ask(url: &str) -> Result<u16, ErrorCode> {
    Ok(begin(url, None)?.status())
}

/// Until the head of the answer is there.
fn begin(url: &str, from: Option<&InputStream>) -> Result<IncomingResponse, ErrorCode> {
    let pending = send(url, from)?;
    pending.subscribe().block();
    pending.get().expect("it is ready").expect("it is taken once")
}

fn whole(response: &IncomingResponse) -> String {
    let body = response.consume().expect("the body is taken once");
    let from = body.stream().expect("the stream is taken once");
    let mut count = 0;
    let end = loop {
        match from.blocking_read(64 << 10) {
            Ok(piece) => count += piece.len(),
            Err(StreamError::Closed) => break "whole",
            Err(StreamError::LastOperationFailed(_)) => break "cut",
        }
    };
    format!("{} of {count} bytes, {end}", response.status())
}

fn send(url: &str, from: Option<&InputStream>) -> Result<FutureIncomingResponse, ErrorCode> {
    let malformed = |()| ErrorCode::HttpRequestUriInvalid;
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&scheme)).map_err(malformed)?;
    request.set_authority(Some(authority)).map_err(malformed)?;
    request.set_path_with_query(Some(path)).map_err(malformed)?;
    if from.is_some() {
        request.set_method(&Method::Post).map_err(malformed)?;
    }
    let body = request.body().expect("the body is taken once");
    let pending = outgoing_handler::handle(request, None)?;
    if let Some(from) = from {
        let to = body.write().expect("the stream is taken once");
        // Ends with the request's body, or when nobody takes more.
        while to.blocking_splice(from, 64 << 10).is_ok() {}
    }
    OutgoingBody::finish(body, None)?;
    Ok(pending)
}

pub fn connect(to: &str, out: ResponseOutparam) {
    match TcpStream::connect(to) {
        Ok(_) => answer::text(out, 200, &format!("connected to {to}\n")),
        Err(error) => answer::refused(out, error),
    }
}

/// Opens so many connections, and closes none.
pub fn hoard(n: u64, to: &str, out: ResponseOutparam) {
    let opened: Vec<TcpStream> = (0..n).map_while(|_| TcpStream::connect(to).ok()).collect();
    answer::text(out, 200, &format!("{} of {n} opened\n", opened.len()));
}

pub fn resolve(name: &str, out: ResponseOutparam) {
    let stream = match resolve_addresses(&instance_network(), name) {
        Ok(stream) => stream,
        Err(error) => return answer::refused(out, error),
    };
    stream.subscribe().block();
    match stream.resolve_next_address() {
        Ok(address) => answer::text(out, 200, &format!("{address:?}\n")),
        Err(error) => answer::refused(out, error),
    }
}

pub fn open(path: &str, out: ResponseOutparam) {
    match fs::read(path) {
        Ok(bytes) => answer::text(out, 200, &format!("{} bytes\n", bytes.len())),
        Err(error) => answer::refused(out, error),
    }
}
