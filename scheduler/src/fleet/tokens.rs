//! Making tokens, and ending them before their time.

use jiff::{SignedDuration, Timestamp};
use skiff_api::quantity::Span;
use skiff_api::resource::{Metadata, NodeSpec, Selector, Token, TokenCreated, TokenRequest, TokenSpec};
use skiff_api::{Code, Problem, validate};
use skiff_link::JoinToken;
use skiff_link::token::Secret;

use super::Fleet;
use crate::api::ATTEMPTS;
use crate::objects::{Change, Error, Objects};

/// More machines than a cluster has.
const USES_MAX: u32 = 100_000;
const TTL_MAX: Span = Span::from_secs(366 * 24 * 60 * 60);
/// How long a token that has expired can still be looked at.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Enough that no two tokens share it; it is no secret.
const ID_DIGITS: usize = 8;

impl Fleet {
    pub(crate) async fn create_token(&self, objects: &Objects, request: TokenRequest) -> Result<TokenCreated, Problem> {
        check(&request)?;
        let now = self.clock.now();
        sweep(objects, now).await?;
        let internal = |error: skiff_link::Error| Problem::new(Code::Internal, error.to_string());
        let secret = Secret::generate().map_err(internal)?;
        let id: String = Secret::generate().map_err(internal)?.reveal().chars().take(ID_DIGITS).collect();
        let id =
            id.parse().map_err(|error: skiff_api::id::InvalidName| Problem::new(Code::Internal, error.to_string()))?;
        let token = JoinToken { id, secret, ca_hash: self.authority.ca_hash() };
        let ttl = SignedDuration::try_from(request.ttl.as_duration()).unwrap_or(SignedDuration::ZERO);
        let spec = TokenSpec {
            sha256: token.secret.hash(),
            uses: request.uses,
            expires: now.saturating_add(ttl).unwrap_or(now),
            labels: request.labels,
            revoked: false,
        };
        let object = objects.create(Token::new(Metadata::new(None, token.id.as_str()), spec)).await?;
        Ok(TokenCreated { token: token.to_string(), object })
    }

    /// Nobody joins with it any more. Who has joined stays.
    pub(crate) async fn revoke_token(&self, objects: &Objects, name: &str) -> Result<Token, Error> {
        let mut attempt = 1;
        loop {
            let live = objects.find::<TokenSpec>(None, name).await?;
            if live.spec.revoked {
                return Ok(live);
            }
            let mut wanted = live.clone();
            wanted.spec.revoked = true;
            match objects.write_spec(&live, &wanted, Change::new()).await {
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }
}

fn check(request: &TokenRequest) -> Result<(), Problem> {
    let invalid = |text: String| Err(Problem::new(Code::Invalid, text));
    if request.uses == 0 || request.uses > USES_MAX {
        return invalid(format!("uses: expected 1 to {USES_MAX}"));
    }
    if request.ttl == Span::default() || request.ttl > TTL_MAX {
        return invalid(format!("ttl: expected more than nothing and at most {TTL_MAX}"));
    }
    match validate::node(&request.labels, &NodeSpec::default()).into_iter().next() {
        Some(fault) => invalid(format!("{}: {}", fault.field, fault.message)),
        None => Ok(()),
    }
}

/// Forgets tokens that nobody can use or asks for any more.
async fn sweep(objects: &Objects, now: Timestamp) -> Result<(), Error> {
    let tokens = objects.list::<TokenSpec>(None, &Selector::default()).await?.items;
    for token in tokens.iter().filter(|token| now.duration_since(token.spec.expires) > KEPT) {
        match objects.commit(Change::new().delete(token)).await {
            Err(error) if !error.is_conflict() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
