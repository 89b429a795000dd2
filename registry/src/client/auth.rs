//! Logging in at a registry: with a password, or with tokens that another server gives out for it.
//!
//! Nothing is shown before a registry asks for it, but to the cluster's own. A token is for one scope, and is kept until
//! shortly before it ends.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::credentials::Credential;
use super::error::Error;
use super::fetch::collect;
use super::reach;
use super::remote::Inner;

/// How long a token is good for that does not say: what the specification says.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// How long before its end a token is no longer used: the request that it is for takes its time.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);

/// The largest answer of a server of tokens. The longest tokens seen have 5 KB.
const TOKEN_BYTES_MAX: usize = 128 << 10;

/// Tokens that are kept: one for each repository and right, of those that a process pulls and pushes.
const TOKENS_MAX: usize = 256;

/// What a client knows of how a registry wants it.
#[derive(Debug)]
pub(super) struct Auth {
    credential: Option<Credential>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The password goes with every request.
    basic: bool,
    /// By scope.
    tokens: HashMap<String, Token>,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    until: Instant,
}

/// What a server of tokens says.
#[derive(Debug, Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(credential: Option<Credential>, at_once: bool) -> Self {
        Self { credential, known: Mutex::new(Known { basic: at_once, tokens: HashMap::new() }) }
    }

    pub(super) fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    /// What to show with a request for a scope.
    pub(super) fn header(&self, scope: &str) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match known.tokens.get(scope).filter(|token| token.until > now) {
            Some(token) => Some(token.header.clone()),
            None if known.basic => self.basic(),
            None => None,
        }
    }

    fn basic(&self) -> Option<HeaderValue> {
        match self.credential.as_ref()? {
            Credential::Password { user, password } => {
                secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            Credential::Identity(_) | Credential::Bearer(_) => None,
        }
    }

    fn remember(&self, scope: &str, token: &str, life: Duration) -> bool {
        let Some(header) = secret(&format!("Bearer {token}")) else { return false };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.tokens.len() >= TOKENS_MAX {
            known.tokens.clear();
        }
        known
            .tokens
            .insert(scope.to_owned(), Token { header, until: Instant::now() + life.saturating_sub(TOKEN_MARGIN) });
        true
    }
}

impl Inner {
    /// Does what a registry at `base` asked for. `false`: there is nothing that has not been shown to it.
    pub(super) async fn log_in(
        &self,
        image: &str,
        base: &Url,
        challenge: &Challenge,
        scope: &str,
    ) -> Result<bool, Error> {
        match challenge {
            Challenge::Basic => {
                let mut known = self.auth.known.lock().unwrap_or_else(PoisonError::into_inner);
                let is_new = !std::mem::replace(&mut known.basic, true);
                Ok(is_new && matches!(self.auth.credential, Some(Credential::Password { .. })))
            }
            Challenge::Bearer { realm, service, scope: wanted } => {
                if let Some(Credential::Bearer(token)) = &self.auth.credential {
                    let is_new = self.auth.header(scope).is_none();
                    return Ok(is_new && self.auth.remember(scope, token, TOKEN_LIFE));
                }
                let realm: Url =
                    realm.parse().map_err(|_| self.protocol(image, "its server of tokens has no address"))?;
                reach::check(base, &realm).await.map_err(|why| self.protocol(image, why))?;
                // What the registry says it needs, where it says so; a token for less is asked for again.
                let wanted = wanted.as_deref().filter(|wanted| !wanted.is_empty()).unwrap_or(scope);
                let granted = self.token(image, realm, service.as_deref(), wanted).await?;
                let Some(token) = granted.token.or(granted.access_token).filter(|token| !token.is_empty()) else {
                    return Err(self.protocol(image, "its server of tokens gave none"));
                };
                let life = granted.expires_in.map_or(TOKEN_LIFE, Duration::from_secs).max(TOKEN_LIFE);
                // One that never ends would not fit into a clock.
                Ok(self.auth.remember(scope, &token, life.min(Duration::from_secs(24 * 3600))))
            }
        }
    }

    async fn token(&self, image: &str, mut realm: Url, service: Option<&str>, scope: &str) -> Result<Granted, Error> {
        let request = match &self.auth.credential {
            // As OAuth 2.0 has it.
            Some(Credential::Identity(token)) => {
                let mut form = Url::parse("http://form/").map_err(|error| self.protocol(image, error))?;
                form.query_pairs_mut()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("service", service.unwrap_or_default())
                    .append_pair("client_id", "skiff")
                    .append_pair("scope", scope)
                    .append_pair("refresh_token", token);
                let body = form.query().unwrap_or_default().to_owned();
                self.http.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
            }
            credential => {
                {
                    let mut query = realm.query_pairs_mut();
                    if let Some(service) = service {
                        query.append_pair("service", service);
                    }
                    // Scopes are apart by blanks in a challenge, and by parameters in a question.
                    for scope in scope.split(' ').filter(|scope| !scope.is_empty()) {
                        query.append_pair("scope", scope);
                    }
                }
                let request = self.http.get(realm);
                match credential {
                    Some(Credential::Password { user, password }) => request.basic_auth(user, Some(password)),
                    _ => request,
                }
            }
        };
        let mut answer = request.send().await.map_err(|error| self.broke_off(image, error.without_url()))?;
        match answer.status().as_u16() {
            200..=299 => {}
            // It says 400 to a wrong refresh token.
            400 | 401 | 403 => return Err(self.unauthorized(image)),
            _ => return Err(self.refused(image, answer).await),
        }
        let mut body = Vec::new();
        collect(&mut answer, TOKEN_BYTES_MAX, &mut body).await.map_err(|error| self.broke_off(image, error))?;
        serde_json::from_slice(&body).map_err(|_| self.protocol(image, "its server of tokens gave something else"))
    }
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
