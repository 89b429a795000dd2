//! What goes wrong between client and registry, as the user of an image is told it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Response;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;

use super::error::{Error, Login};
use super::fetch::collect;
use super::options::RegistryKind;
use super::remote::Inner;

/// How much of an error's body is read.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// How much is quoted of an error that is not in the specification's shape: a proxy's page, for example.
const QUOTE_CHARS_MAX: usize = 200;

/// Errors as the specification writes them.
#[derive(Debug, Deserialize)]
struct Envelope {
    errors: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

impl Inner {
    pub(super) fn endpoint(&self) -> String {
        self.options.endpoint.clone()
    }

    fn is_own(&self) -> bool {
        self.options.kind == RegistryKind::Own
    }

    /// What a failed transfer means.
    pub(super) fn broke_off(&self, image: &str, e: reqwest::Error) -> Error {
        let (endpoint, image) = (self.endpoint(), image.to_owned());
        match () {
            () if e.is_connect() && self.is_own() => Error::Connect { endpoint, source: e },
            () if e.is_connect() => Error::ConnectForeign { endpoint, source: e },
            () if e.is_timeout() => Error::Timeout { endpoint, image, idle: self.options.idle_timeout },
            () => Error::Transfer { endpoint, image, source: e },
        }
    }

    /// What an answer means that is none of the good ones. Reads what came with it.
    pub(super) async fn refused(&self, image: &str, mut answer: Response) -> Error {
        let (status, retry_after) = (answer.status().as_u16(), retry_after(&answer, Timestamp::now()));
        let mut body = Vec::new();
        // An error whose text breaks off is still that error.
        drop(collect(&mut answer, ERROR_BYTES_MAX, &mut body).await);
        self.refused_saying(image, status, message(&String::from_utf8_lossy(&body)), retry_after)
    }

    fn refused_saying(&self, image: &str, status: u16, message: String, retry_after: Option<Duration>) -> Error {
        let (endpoint, image) = (self.endpoint(), image.to_owned());
        match status {
            404 if self.is_own() => Error::NotFound { endpoint, image },
            404 => Error::NotFoundForeign { endpoint, image },
            401 => self.unauthorized(&image),
            403 => Error::Denied { image, who: if self.is_own() { "token" } else { "login" } },
            408 | 425 | 429 | 500 | 502 | 503 | 504 => Error::Unavailable { endpoint, status, message, retry_after },
            _ => Error::Refused { endpoint, image, status, message },
        }
    }

    pub(super) fn unauthorized(&self, image: &str) -> Error {
        let login = match (self.is_own(), self.auth.has_credential()) {
            (true, _) => Login::Token,
            (false, true) => Login::Wrong { registry: self.endpoint() },
            (false, false) => Login::Missing { registry: self.endpoint() },
        };
        Error::Unauthorized { endpoint: self.endpoint(), image: image.to_owned(), login }
    }

    pub(super) fn protocol(&self, image: &str, why: impl ToString) -> Error {
        Error::Protocol { endpoint: self.endpoint(), image: image.to_owned(), why: why.to_string() }
    }
}

/// What an error's body says.
fn message(body: &str) -> String {
    let quoted = |text: &str| -> String {
        text.chars().take(QUOTE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
    };
    match serde_json::from_str::<Envelope>(body) {
        Ok(Envelope { errors }) => {
            let entry = |entry: &Entry| match entry.message.as_deref().filter(|message| !message.is_empty()) {
                Some(message) => format!("{}: {}", quoted(&entry.code), quoted(message)),
                None => quoted(&entry.code),
            };
            errors.iter().take(5).map(entry).collect::<Vec<_>>().join("; ")
        }
        Err(_) => quoted(body),
    }
}

/// When to come back: a number of seconds, or a date.
fn retry_after(answer: &Response, now: Timestamp) -> Option<Duration> {
    delay(answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim(), now)
}

fn delay(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    // A date that has passed means now.
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, ClientOptions};

    fn refused(options: ClientOptions, status: u16, body: &str) -> String {
        Client::new(options).unwrap().0.refused_saying("shop/cart:1", status, message(body), None).to_string()
    }

    fn own(status: u16, body: &str) -> String {
        refused(ClientOptions::new("localhost:1"), status, body)
    }

    #[test]
    fn says_what_a_status_means() {
        for (status, code, expected) in [
            (404, "MANIFEST_UNKNOWN", "shop/cart:1 is not in the registry at localhost:1 (hint: push it with"),
            (403, "DENIED", "the token does not allow this on shop/cart:1"),
            (401, "UNAUTHORIZED", "does not accept this token"),
            (429, "TOOMANYREQUESTS", "is busy or failing: 429 TOOMANYREQUESTS: why"),
            (405, "UNSUPPORTED", "refused shop/cart:1: 405 UNSUPPORTED: why"),
            (400, "OF_ITS_OWN", "refused shop/cart:1: 400 OF_ITS_OWN: why"),
        ] {
            let text = own(status, &format!(r#"{{"errors":[{{"code":"{code}","message":"why"}}]}}"#));
            assert!(text.contains(expected), "{text}");
        }
        assert!(own(507, "full").contains("refused shop/cart:1: 507 full"));
        assert!(own(502, &"x".repeat(1000)).len() < 400, "a proxy's page is quoted in part");
        assert!(!own(502, "a\x1b[31mb").contains('\x1b'), "and obeyed by no terminal");
    }

    #[test]
    fn speaks_of_logins_where_it_is_another_registry() {
        let foreign = |credential| ClientOptions::foreign("ghcr.io", false, credential);
        let text = refused(foreign(None), 401, "");
        assert!(text.contains("ghcr.io wants a login for shop/cart:1 (hint: skiff login ghcr.io"), "{text}");
        let login = crate::client::Credential::Password { user: "u".into(), password: "p".into() };
        let text = refused(foreign(Some(login)), 401, "");
        assert!(text.contains("does not accept the login"), "{text}");
        let text = refused(foreign(None), 404, "");
        assert!(text.contains("is not in the registry at ghcr.io") && !text.contains("skiff push"), "{text}");
    }

    #[test]
    fn reads_when_to_come_back() {
        let now: Timestamp = "2026-03-04T10:00:00Z".parse().unwrap();
        assert_eq!(delay("120", now), Some(Duration::from_secs(120)));
        assert_eq!(delay("Wed, 04 Mar 2026 10:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(delay("Wed, 04 Mar 2026 09:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(delay("soon", now), None);
    }
}
