//! Who may do what: asked of the program that mounts the registry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a request does to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Pull,
    Push,
    Delete,
}

/// The answer to "may this request do that?".
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    /// Nobody, or nobody known, is asking: answered with a challenge, which is how clients learn to send a token.
    Unauthenticated,
    /// Known, but not allowed.
    Denied,
}

/// Decides about every request. `repository` is `None` for what concerns no single one: the version check and the
/// catalog, of which each repository is then asked about.
pub trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, authorization_header: Option<&str>, action: Action, repository: Option<&str>) -> Decision;

    /// `http` or `https`, as clients reach the registry, if something is open to who shows no token. Then clients are sent to
    /// fetch one: docker asks for nothing without a login where only passwords are taken.
    fn open_by(&self) -> Option<&'static str> {
        None
    }
}

/// The token in an `Authorization` header: a bearer token, or the password of any user.
pub fn token_of(authorization_header: &str) -> Option<String> {
    let (scheme, value) = authorization_header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_user, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_token_wherever_clients_put_it() {
        assert_eq!(token_of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token_of("basic YW55Ym9keTpzOmNyZXQ=").as_deref(), Some("s:cret"));
        for header in ["", "Basic", "Basic !!", "Basic YW55", "Digest x"] {
            assert_eq!(token_of(header), None, "{header}");
        }
    }
}
