//! Tokens: what machines join the cluster with.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::quantity::Span;
use crate::resource::{Kind, Object, Spec};

pub type Token = Object<TokenSpec>;

/// What a token is good for. The secret itself is only known to whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TokenSpec {
    /// The SHA-256 of the secret, in hexadecimal.
    pub sha256: String,
    /// How many machines may join with it.
    pub uses: u32,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub expires: Timestamp,
    /// What the machines that join with it are labelled with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// It is good for nothing any more.
    #[serde(default)]
    pub revoked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct TokenStatus {
    /// How many machines have joined with it.
    pub used: u32,
}

impl Spec for TokenSpec {
    const KIND: Kind = Kind::Token;
    type Status = TokenStatus;
}

/// Whether somebody may join with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    Valid,
    Revoked,
    Expired,
    UsedUp,
}

impl TokenState {
    pub fn of(token: &Token, now: Timestamp) -> Self {
        match () {
            () if token.spec.revoked => Self::Revoked,
            () if token.spec.expires <= now => Self::Expired,
            () if token.status.used >= token.spec.uses => Self::UsedUp,
            () => Self::Valid,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "Valid",
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
            Self::UsedUp => "UsedUp",
        }
    }
}

/// What is asked of a new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// How many machines may join with it.
    #[serde(default = "TokenRequest::one")]
    pub uses: u32,
    /// How long it may be used. A year at most.
    #[serde(default = "TokenRequest::day")]
    pub ttl: Span,
    /// What the machines that join with it are labelled with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl TokenRequest {
    fn one() -> u32 {
        1
    }

    fn day() -> Span {
        Span::from_secs(24 * 60 * 60)
    }
}

/// A new token, whose text nobody sees again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenCreated {
    /// `skiff1.ID.SECRET.CAHASH`.
    pub token: String,
    pub object: Token,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Metadata;

    #[test]
    fn a_token_ends_in_several_ways() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let (sha256, labels) = (String::new(), BTreeMap::new());
        let spec = TokenSpec { sha256, uses: 2, expires: at(100), labels, revoked: false };
        let mut token = Token::new(Metadata::new(None, "t"), spec);
        assert_eq!(TokenState::of(&token, at(99)), TokenState::Valid);
        assert_eq!(TokenState::of(&token, at(100)), TokenState::Expired);
        token.status.used = 2;
        assert_eq!(TokenState::of(&token, at(99)), TokenState::UsedUp);
        token.spec.revoked = true;
        assert_eq!(TokenState::of(&token, at(99)), TokenState::Revoked);
    }

    #[test]
    fn a_request_has_defaults_that_are_safe() {
        let request: TokenRequest = serde_json::from_str("{}").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((request.uses, request.ttl.to_string().as_str()), (1, "1d"));
        assert!(serde_json::from_str::<TokenRequest>("{\"use\": 1}").is_err());
    }
}
