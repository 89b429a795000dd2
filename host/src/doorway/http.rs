//! Requests of a container, to services and to servers: the ones that a component would send.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, EXPECT, HOST, HeaderName, RETRY_AFTER};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::TcpStream;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use crate::capabilities::{Chain, Outbound};
use crate::gateway::remove_hop_by_hop;

/// As at the gateway: for a request's head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const BUFFER_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
const STREAMS_MAX: u32 = 128;
/// Finds clients of HTTP/2 that hang.
const PING_EVERY: Duration = Duration::from_secs(30);
/// For the head of an answer, and between two pieces of its body: programs have limits of their own.
const READ_MAX: Duration = Duration::from_secs(600);

const ERROR_HEADER: HeaderName = HeaderName::from_static("x-skiff-error");

/// Serves a connection that was made to this port.
pub(super) async fn serve(stream: TcpStream, port: u16, outbound: &Outbound) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(BUFFER_BYTES_MAX as u32)
        .max_send_buf_size(BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_EVERY);
    let service = service_fn(move |request| {
        let outbound = outbound.clone();
        async move {
            let passed = pass_on(&outbound, port, request).await;
            Ok::<_, Infallible>(passed.unwrap_or_else(|error| refusal(&error)))
        }
    });
    // Why a connection ends early is the container's affair.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn pass_on(outbound: &Outbound, port: u16, request: Request<Incoming>) -> Result<Response<WasiBody>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let authority = authority(&parts, port).ok_or(HttpError::HttpRequestUriInvalid)?;
    remove_hop_by_hop(&mut parts.headers);
    // Whoever waits for it is told to go on by us.
    parts.headers.remove(EXPECT);
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| HttpError::HttpRequestUriInvalid)?;
    parts.headers.insert(HOST, host);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build();
    parts.uri = uri.map_err(|_| HttpError::HttpRequestUriInvalid)?;
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let body = body.map_err(HttpError::from).boxed_unsync();
    let options = RequestOptions {
        connect_timeout: None,
        first_byte_timeout: Some(READ_MAX),
        between_bytes_timeout: Some(READ_MAX),
    };
    // Who called the container when it sent this, nobody knows: a chain of calls begins here.
    let sending = outbound.send(&Chain::default(), Request::from_parts(parts, body), Some(options));
    let (mut response, carries_on) = Box::into_pin(sending).await?;
    // It ends with the body.
    tokio::spawn(Box::into_pin(carries_on));
    remove_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

/// Which host and port a request is for. One that came by another port than HTTP's is for that one.
fn authority(parts: &Parts, port: u16) -> Option<Authority> {
    let authority = match parts.uri.authority() {
        Some(authority) => authority.clone(),
        None => {
            let mut hosts = parts.headers.get_all(HOST).iter();
            let host = hosts.next().filter(|_| hosts.next().is_none())?;
            Authority::try_from(host.as_bytes()).ok()?
        }
    };
    match authority.port() {
        None if port != 80 => format!("{authority}:{port}").parse().ok(),
        _ => Some(authority),
    }
}

/// What a container gets where a component gets an error.
fn refusal(error: &HttpError) -> Response<WasiBody> {
    let (status, code) = match error {
        HttpError::HttpRequestDenied => (StatusCode::FORBIDDEN, "not-allowed"),
        HttpError::DestinationIpProhibited => (StatusCode::FORBIDDEN, "address-not-allowed"),
        HttpError::HttpRequestUriInvalid | HttpError::HttpProtocolError => (StatusCode::BAD_REQUEST, "bad-host"),
        HttpError::HttpRequestMethodInvalid => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
        HttpError::ConnectionLimitReached => (StatusCode::SERVICE_UNAVAILABLE, "too-many-calls"),
        HttpError::ConnectionTimeout | HttpError::ConnectionReadTimeout | HttpError::DnsTimeout => {
            (StatusCode::GATEWAY_TIMEOUT, "timeout")
        }
        _ => (StatusCode::BAD_GATEWAY, "unreachable"),
    };
    let hint = match status {
        StatusCode::FORBIDDEN => " (hint: the replica's log and events say what is missing)",
        _ => "",
    };
    let problem = json!({
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "code": code,
        "detail": format!("{error}{hint}"),
    });
    let body = Full::new(Bytes::from(problem.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(ERROR_HEADER, HeaderValue::from_static(code));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_the_host_that_it_names_and_the_port_that_it_came_by() {
        let of = |uri: &str, hosts: &[&str], port: u16| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            authority(&request.body(()).unwrap().into_parts().0, port).map(|authority| authority.to_string())
        };
        assert_eq!(of("/x", &["cart.shop.internal"], 80).as_deref(), Some("cart.shop.internal"));
        assert_eq!(of("/x", &["a.example"], 8080).as_deref(), Some("a.example:8080"));
        assert_eq!(of("/x", &["a.example:8080"], 8080).as_deref(), Some("a.example:8080"));
        assert_eq!(of("http://b.example/x", &["a.example"], 80).as_deref(), Some("b.example"));
        assert_eq!(of("/x", &[], 80), None);
        assert_eq!(of("/x", &["a.example", "b.example"], 80), None);
    }

    #[test]
    fn an_error_is_a_problem_with_a_code() {
        for (error, status) in [
            (HttpError::HttpRequestDenied, 403),
            (HttpError::DestinationIpProhibited, 403),
            (HttpError::ConnectionLimitReached, 503),
            (HttpError::ConnectionReadTimeout, 504),
            (HttpError::ConnectionRefused, 502),
        ] {
            let response = refusal(&error);
            assert_eq!(response.status().as_u16(), status);
            assert!(response.headers().contains_key(ERROR_HEADER));
        }
    }
}
