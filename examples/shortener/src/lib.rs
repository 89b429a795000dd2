//! A URL shortener: `POST /s` with an address answers a short one, `GET /s/NAME` leads to the long one.

use skiff_sdk::keyvalue::{self, Bucket};
use skiff_sdk::{Error, Request, Response, Router, config};

/// Longer ones are no address that anybody types or a browser follows.
const ADDRESS_BYTES_MAX: usize = 2000;
/// The digits of names: no two of them look alike.
const DIGITS: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";

#[skiff_sdk::handler]
fn shortener(request: Request) -> Response {
    Router::new(request).post("/s", shorten).get("/s/{name}", follow).get("/s/{name}/visits", visits).done()
}

fn links() -> Result<Bucket, keyvalue::Error> {
    keyvalue::open("links")
}

fn shorten(mut request: Request) -> Result<Response, Error> {
    let body = request.body()?;
    let address = String::from_utf8(body).map_err(|_| Error::new(400, "an address is text"))?;
    let address = address.trim();
    let is_one =
        ["https://", "http://"].iter().any(|scheme| address.len() > scheme.len() && address.starts_with(scheme));
    if !is_one || address.len() > ADDRESS_BYTES_MAX || address.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::new(400, "send an address, such as https://example.com/"));
    }
    let links = links()?;
    let name = name(links.increment("names", 1)?);
    links.set(&format!("to/{name}"), address)?;
    let base = config::require("BASE_URL")?;
    let short = format!("{base}/{name}");
    Ok(Response::text(format!("{short}\n")).with_status(201).with_header("location", short))
}

fn follow(request: Request) -> Result<Response, Error> {
    let (links, name) = (links()?, named(&request)?);
    let address = links.get_text(&format!("to/{name}"))?.ok_or_else(|| unknown(name))?;
    links.increment(&format!("visits/{name}"), 1)?;
    Ok(Response::text("").with_status(302).with_header("location", address))
}

fn visits(request: Request) -> Result<String, Error> {
    let (links, name) = (links()?, named(&request)?);
    if !links.exists(&format!("to/{name}"))? {
        return Err(unknown(name));
    }
    let visits = links.get_text(&format!("visits/{name}"))?;
    Ok(format!("{}\n", visits.as_deref().unwrap_or("0")))
}

/// The name in the path. Nothing else is looked up.
fn named(request: &Request) -> Result<&str, Error> {
    let name = request.param("name").unwrap_or_default();
    match name.bytes().all(|byte| DIGITS.contains(&byte)) {
        true => Ok(name),
        false => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Error {
    Error::new(404, format!("no address is called {name}"))
}

/// A number in as few characters as it takes.
fn name(number: i64) -> String {
    let base = DIGITS.len() as u64;
    let (mut left, mut digits) = (number.unsigned_abs(), Vec::new());
    while left > 0 {
        digits.push(DIGITS[(left % base) as usize]);
        left /= base;
    }
    digits.iter().rev().map(|digit| char::from(*digit)).collect()
}
