//! Who may call: whoever has the token.
//!
//! It is checked by a layer around the whole router, the answers to unknown paths included, so that no handler can
//! forget it. Only `/healthz` is open: it says nothing but that the process runs.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use skiff_api::{Code, Problem};
use subtle::ConstantTimeEq;

use super::ApiState;
use super::failure::Failure;

/// The one path that needs no token.
pub(super) const OPEN: &str = "/healthz";

/// The cluster's token. Not printed by `Debug`.
#[derive(Clone)]
pub struct Token(std::sync::Arc<str>);

impl Token {
    pub fn new(text: impl Into<std::sync::Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Whether an `Authorization` header carries it: as a bearer's token or as the password of any user. Takes the same
    /// time for every wrong one of the same length. An empty token admits nobody.
    pub fn admits(&self, authorization: Option<&str>) -> bool {
        let Some((scheme, credentials)) = authorization.and_then(|header| header.split_once(' ')) else { return false };
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.is(credentials.as_bytes());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let Ok(login) = STANDARD.decode(credentials) else { return false };
        match login.iter().position(|byte| *byte == b':') {
            Some(colon) => self.is(&login[colon + 1..]),
            None => false,
        }
    }

    fn is(&self, candidate: &[u8]) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(candidate))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

pub(super) async fn require_token(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    if request.uri().path() == OPEN || state.token.admits(header) {
        return next.run(request).await;
    }
    let detail = match header {
        Some(_) => "the token is not valid for this cluster",
        None => "the request has no token",
    };
    let hint = "send `Authorization: Bearer TOKEN`; the command line takes --token or SKIFF_TOKEN";
    Failure(Problem::new(Code::Unauthorized, detail).hint(hint)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_the_token_in_both_forms_and_nothing_else() {
        let token = Token::new("s3cret:x");
        let basic = |login: &str| format!("Basic {}", STANDARD.encode(login));
        for good in ["Bearer s3cret:x", "bearer  s3cret:x", &basic("any:s3cret:x"), &basic(":s3cret:x")] {
            assert!(token.admits(Some(good)), "{good}");
        }
        let bad = [
            "",
            "Bearer",
            "Bearer ",
            "Bearer s3cret",
            "s3cret:x",
            "Digest s3cret:x",
            "Basic !",
            &basic("s3cret:x"),
            &basic("x"),
        ];
        for bad in bad {
            assert!(!token.admits(Some(bad)), "{bad}");
        }
        assert!(!token.admits(None));
        for open in ["Bearer ", "Bearer", &basic(":")] {
            assert!(!Token::new("").admits(Some(open)), "{open}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
