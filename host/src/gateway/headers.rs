//! Headers that end at the gateway, and those that it adds.

use http::header::{
    CONNECTION, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Uri};

use super::answer::ERROR_HEADER;
use super::client::Client;
use super::host::host;
use super::peer::HOP_HEADER;
use super::upgrade::UPGRADE_HEADER;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What concerns one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, KEEP_ALIVE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE];

/// Makes a client's request one that a guest may see.
pub(super) fn to_guest(parts: &mut Parts, client: &Client) {
    let host = match parts.uri.authority() {
        Some(_) => host(parts).and_then(|host| HeaderValue::from_str(host).ok()),
        None => parts.headers.get(HOST).cloned(),
    };
    let headers = &mut parts.headers;
    end_here(headers);
    append(headers, FORWARDED_FOR, client.forwarded_for.clone());
    let proto = if client.scheme == Scheme::HTTPS { "https" } else { "http" };
    append(headers, FORWARDED_PROTO, HeaderValue::from_static(proto));
    if let Some(host) = host {
        append(headers, FORWARDED_HOST, host);
    }
    set_scheme(parts, &client.scheme);
}

/// Removes what concerns the client's connection.
pub(super) fn end_here(headers: &mut HeaderMap) {
    // gRPC says that it understands trailers; the rest of this header is about the connection.
    let wants_trailers = headers.get_all(TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("trailers")))
    });
    remove_hop_by_hop(headers);
    headers.remove(HOP_HEADER);
    headers.remove(UPGRADE_HEADER);
    match wants_trailers {
        true => drop(headers.insert(TE, HeaderValue::from_static("trailers"))),
        false => drop(headers.remove(TE)),
    }
}

/// What the connection is, not what the client says that it is. Nothing said is `http`.
fn set_scheme(parts: &mut Parts, scheme: &Scheme) {
    if parts.uri.scheme().unwrap_or(&Scheme::HTTP) == scheme {
        return;
    }
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    let host = parts.headers.get(HOST).map(HeaderValue::as_bytes);
    uri.authority = uri.authority.or_else(|| Authority::try_from(host.unwrap_or(b"localhost")).ok());
    uri.scheme = Some(scheme.clone());
    let path = uri.path_and_query.clone();
    // Fails where the host is no authority: then there is no scheme either.
    parts.uri = Uri::from_parts(uri).unwrap_or_else(|_| path.map(Uri::from).unwrap_or_default());
}

/// Makes a guest's response one that a client may see.
pub(super) fn to_client(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(ERROR_HEADER);
    headers.remove(HOP_HEADER);
    headers.remove(UPGRADE_HEADER);
}

pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        // A client must not remove what the gateway relies on.
        .filter_map(|name| name.trim().parse().ok().filter(|name| *name != HOST))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Adds an element to the end of a list; several headers of the name become one.
fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let mut list = Vec::new();
    for old in headers.get_all(&name) {
        list.extend_from_slice(old.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty() {
        headers.insert(name, value);
        return;
    }
    list.extend_from_slice(value.as_bytes());
    // Made of what were header values.
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;

    use super::super::listen::Door;
    use super::*;

    fn client(scheme: Scheme) -> Client {
        let door = Door::Plain { redirect_port: None };
        let mut client = Client::new(Arc::default(), "::ffff:192.0.2.7".parse().unwrap(), &door);
        client.scheme = scheme;
        client
    }

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_guest_sees_nothing_of_the_connection() {
        let mut parts = parts(&[
            ("host", "shop.example"),
            ("connection", "keep-alive, X-Secret, host"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("upgrade", "websocket"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-skiff-hop", "to=shop/cart"),
            ("accept", "*/*"),
        ]);
        to_guest(&mut parts, &client(Scheme::HTTP));
        let mut seen: Vec<_> =
            parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        seen.sort();
        let expected = [
            "accept: */*",
            "host: shop.example",
            "te: trailers",
            "x-forwarded-for: 10.0.0.1, 10.0.0.2, 192.0.2.7",
            "x-forwarded-host: shop.example",
            "x-forwarded-proto: http",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_guest_cannot_speak_as_the_gateway() {
        let said = [("x-skiff-error", "no-route"), ("x-skiff-hop", "gone"), ("connection", "close"), ("etag", "1")];
        let mut headers = parts(&said).headers;
        to_client(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn the_scheme_is_that_of_the_connection() {
        for (uri, scheme, seen) in [
            ("/a?b", Scheme::HTTP, "/a?b"),
            ("/a?b", Scheme::HTTPS, "https://shop.example/a?b"),
            ("http://other.example/a", Scheme::HTTPS, "https://other.example/a"),
            ("https://other.example/a", Scheme::HTTP, "http://other.example/a"),
        ] {
            let mut parts = parts(&[("host", "shop.example")]);
            parts.uri = uri.parse().unwrap();
            to_guest(&mut parts, &client(scheme));
            assert_eq!(parts.uri.to_string(), seen, "{uri}");
        }
    }
}
