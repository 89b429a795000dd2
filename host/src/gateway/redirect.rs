//! From plain HTTP to TLS: what a gateway that is told so answers on its plain door.

use http::header::LOCATION;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

use super::answer::Refusal;
use super::body::AnswerBody;
use super::host::{self, host};

/// 308 keeps method and body, which 301 does not.
pub(super) fn answer(parts: &Parts, port: u16) -> Result<Response<AnswerBody>, Refusal> {
    host::check(parts)?;
    if !host::has_target(parts) {
        return Err(Refusal::BadTarget);
    }
    let host = host(parts).filter(|host| !host.is_empty()).ok_or(Refusal::BadHost("the request names no host"))?;
    let location = location(host, parts.uri.path_and_query().map_or("/", |path| path.as_str()), port);
    let location = HeaderValue::try_from(location).map_err(|_| Refusal::BadHost("the request names no valid host"))?;
    let mut response = Response::new(AnswerBody::Whole(None));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Port 443 is what `https` means without one.
fn location(host: &str, path: &str, port: u16) -> String {
    let name = host::without_port(host);
    let path = if path.starts_with('/') { path } else { "/" };
    match port {
        443 => format!("https://{name}{path}"),
        port => format!("https://{name}:{port}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_to_the_same_place_behind_tls() {
        assert_eq!(location("a.example", "/x?y=1", 443), "https://a.example/x?y=1");
        assert_eq!(location("a.example:8080", "/", 8443), "https://a.example:8443/");
        assert_eq!(location("[::1]:80", "/", 443), "https://[::1]/");
        assert_eq!(location("[::1]", "*", 444), "https://[::1]:444/");
    }
}
