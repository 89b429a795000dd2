//! Tokens for clients that ask for one: docker sends nothing without a login to a registry that wants passwords, so where
//! anybody may pull something it has to be sent here, and gets a token of nobody.
//!
//! ```text
//! GET /v2/ ─> 401, Bearer realm="https://HOST/v2/token" ─> GET /v2/token ─> {"token": …} ─> Authorization: Bearer …
//! ```
//! What is given out is the token that a login shows, which is its password: there is nothing to sign, store or expire. Who
//! sends a password without asking here first is let in as before.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::auth::{Action, Decision, token_of};
use super::error::Failure;
use super::router::Server;

/// The token of whoever has none. It opens nothing that is not open.
pub const ANONYMOUS: &str = "anonymous";

/// What a client is to do that showed no token, where there is an endpoint for tokens.
pub(super) fn challenge(scheme: &str, headers: &HeaderMap) -> Option<HeaderValue> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    // It is quoted: nothing but an address.
    let is_address = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_address) {
        return None;
    }
    // Whoever ends TLS in front of the registry says so.
    let forwarded = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    let scheme = if forwarded == Some("https") { "https" } else { scheme };
    HeaderValue::from_str(&format!("Bearer realm=\"{scheme}://{host}/v2/token\",service=\"skiff\"")).ok()
}

/// The token of a login, or of nobody.
pub(super) fn issue(server: &Server, headers: &HeaderMap) -> Result<Response, Failure> {
    let shown = headers.get(header::AUTHORIZATION).map(|value| value.to_str().ok().and_then(token_of));
    let token = match shown {
        None => ANONYMOUS.to_owned(),
        Some(None) => return Err(Failure::unauthorized()),
        // An empty password is nobody's, as podman sends it.
        Some(Some(token)) if token.is_empty() => ANONYMOUS.to_owned(),
        Some(Some(token)) => match server.decide(headers, Action::Pull, None) {
            Decision::Allowed | Decision::Denied => token,
            Decision::Unauthenticated => return Err(Failure::unauthorized()),
        },
    };
    let mut response = Json(json!({ "token": token, "access_token": token })).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_leads_to_where_the_client_is() {
        let of = |host: &str, forwarded: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            if let Some(scheme) = forwarded {
                headers.insert("x-forwarded-proto", HeaderValue::from_str(scheme).unwrap());
            }
            challenge("http", &headers).map(|value| value.to_str().unwrap().to_owned())
        };
        let to = |realm: &str| Some(format!("Bearer realm=\"{realm}/v2/token\",service=\"skiff\""));
        assert_eq!(of("127.0.0.1:7070", None), to("http://127.0.0.1:7070"));
        assert_eq!(of("[::1]:7070", Some("https")), to("https://[::1]:7070"));
        assert_eq!(of("a\",realm=\"http://evil", None), None);
        assert_eq!(of("", None), None);
    }
}
