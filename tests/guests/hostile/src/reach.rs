//! Reaching for what nobody granted.

use std::{fs, net::TcpStream};

use wasip2::{
    http::{
        outgoing_handler,
        types::{ErrorCode, Fields, OutgoingBody, OutgoingRequest, ResponseOutparam, Scheme},
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

fn ask(url: &str) -> Result<u16, ErrorCode> {
    let malformed = |()| ErrorCode::HttpRequestUriInvalid;
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&scheme)).map_err(malformed)?;
    request.set_authority(Some(authority)).map_err(malformed)?;
    request.set_path_with_query(Some(path)).map_err(malformed)?;
    let body = request.body().expect("the body is taken once");
    let pending = outgoing_handler::handle(request, None)?;
    OutgoingBody::finish(body, None)?;
    pending.subscribe().block();
    Ok(pending.get().expect("it is ready").expect("it is taken once")?.status())
}

pub fn connect(to: &str, out: ResponseOutparam) {
    match TcpStream::connect(to) {
        Ok(_) => answer::text(out, 200, &format!("connected to {to}\n")),
        Err(error) => answer::refused(out, error),
    }
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
