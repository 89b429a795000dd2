//! What the sandbox lets a guest see and touch. The standard library where it can, as any guest would.

use std::{fmt::Write as _, fs, io::Read as _, net::TcpStream};

use wasip2::{
    cli::environment,
    filesystem::preopens,
    http::{
        outgoing_handler,
        types::{ErrorCode, Fields, OutgoingBody, OutgoingRequest, ResponseOutparam, Scheme},
    },
};

use crate::bindings::wasi::config::store;
use crate::{answer, streams};

pub fn env(out: ResponseOutparam) {
    let mut lines: Vec<String> =
        environment::get_environment().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    lines.sort();
    answer::text(out, 200, &lines.concat());
}

pub fn config(key: Option<&str>, out: ResponseOutparam) {
    let Some(key) = key else {
        let mut lines: Vec<String> = match store::get_all() {
            Ok(all) => all.iter().map(|(key, value)| format!("{key}={value}\n")).collect(),
            Err(error) => return answer::refused(out, format!("{error:?}")),
        };
        lines.sort();
        return answer::text(out, 200, &lines.concat());
    };
    match store::get(key) {
        Ok(Some(value)) => answer::text(out, 200, &value),
        Ok(None) => answer::text(out, 404, "no such key\n"),
        Err(error) => answer::refused(out, format!("{error:?}")),
    }
}

pub fn args(out: ResponseOutparam) {
    let lines: Vec<String> = environment::get_arguments().iter().map(|arg| format!("{arg}\n")).collect();
    answer::text(out, 200, &lines.concat());
}

pub fn files(read: Option<&str>, out: ResponseOutparam) {
    let Some(path) = read else {
        let lines: Vec<String> = preopens::get_directories().iter().map(|(_, path)| format!("{path}\n")).collect();
        return answer::text(out, 200, &lines.concat());
    };
    match fs::read_to_string(path) {
        Ok(text) => answer::text(out, 200, &text),
        Err(error) => answer::refused(out, error),
    }
}

pub fn sockets(to: &str, out: ResponseOutparam) {
    match TcpStream::connect(to) {
        Ok(_) => answer::text(out, 200, &format!("connected to {to}\n")),
        Err(error) => answer::refused(out, error),
    }
}

pub fn outbound(url: &str, out: ResponseOutparam) {
    match get(url) {
        Ok(text) => answer::text(out, 200, &text),
        Err(error) => answer::refused(out, error),
    }
}

pub fn calls(n: u64, url: &str, out: ResponseOutparam) {
    let mut first: Option<String> = None;
    for number in 1..=n {
        match get(url) {
            Err(error) => return answer::refused(out, error),
            Ok(text) if !text.starts_with("200\n") => return answer::refused(out, format!("call {number}: {text}")),
            Ok(text) if first.get_or_insert_with(|| text.clone()) != &text => {
                return answer::refused(out, format!("call {number} differs: {text}"));
            }
            Ok(_) => {}
        }
    }
    answer::text(out, 200, &format!("{n} calls\n"));
}

fn get(url: &str) -> Result<String, ErrorCode> {
    let malformed = |_| ErrorCode::HttpRequestUriInvalid;
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&scheme)).map_err(malformed)?;
    request.set_authority(Some(authority)).map_err(malformed)?;
    request.set_path_with_query(Some(if path.is_empty() { "/" } else { path })).map_err(malformed)?;
    let body = request.body().expect("the body is taken once");
    let pending = outgoing_handler::handle(request, None)?;
    OutgoingBody::finish(body, None)?;
    pending.subscribe().block();
    let response = pending.get().expect("it is ready").expect("it is taken once")?;

    let mut text = String::new();
    _ = writeln!(text, "{}", response.status());
    let body = response.consume().expect("the body is taken once");
    let mut bytes = Vec::new();
    if body.stream().expect("the stream is taken once").read_to_end(&mut bytes).is_err() {
        return Err(ErrorCode::HttpResponseIncomplete);
    }
    text.push_str(&String::from_utf8_lossy(&bytes));
    text.push_str(&streams::trailers_of(body));
    Ok(text)
}
