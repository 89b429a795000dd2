//! What can go wrong between a client and a registry.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use skiff_api::Digest;

use super::component::{COMPONENT_BYTES_MAX, InvalidWasm};
use super::credentials::CredentialError;
use super::select::Unfit;

/// `image` is `REPOSITORY:TAG` or `REPOSITORY@DIGEST`, as far as it is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("registry address {endpoint:?} is not valid (hint: write HOST:PORT)")]
    Endpoint { endpoint: String },
    #[error(
        "failed to set up the registry client (hint: are CA certificates installed? the package is ca-certificates)"
    )]
    Setup { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("failed to connect to the registry at {endpoint} (hint: is `skiff up` or `skiff server` running there?)")]
    Connect { endpoint: String, source: reqwest::Error },
    #[error(
        "failed to connect to the registry at {endpoint} (hint: is the name right? one without TLS, on another machine, needs --plain-http)"
    )]
    ConnectForeign { endpoint: String, source: reqwest::Error },
    #[error("the registry at {endpoint} said nothing for {idle:?} while {image} was transferred (hint: try again)")]
    Timeout { endpoint: String, image: String, idle: Duration },
    #[error("failed to talk to the registry at {endpoint} about {image}")]
    Transfer { endpoint: String, image: String, source: reqwest::Error },
    #[error("{image} is not in the registry at {endpoint} (hint: push it with `skiff push {image} FILE.wasm`)")]
    NotFound { endpoint: String, image: String },
    #[error(
        "{image} is not in the registry at {endpoint} (hint: is it spelt right? to those who are not logged in, private images look so)"
    )]
    NotFoundForeign { endpoint: String, image: String },
    #[error("the registry at {endpoint} {login}", login = Shown(login, image))]
    Unauthorized { endpoint: String, image: String, login: Login },
    #[error("the {who} does not allow this on {image} (hint: ask for one with rights on it)")]
    Denied { image: String, who: &'static str },
    #[error("the registry at {endpoint} is busy or failing: {status} {message} (hint: try again later)")]
    Unavailable { endpoint: String, status: u16, message: String, retry_after: Option<Duration> },
    #[error("the registry at {endpoint} refused {image}: {status} {message}")]
    Refused { endpoint: String, image: String, status: u16, message: String },
    #[error("the registry at {endpoint} answered something unexpected about {image}: {why}")]
    Protocol { endpoint: String, image: String, why: String },
    #[error(
        "{what} of {image} has {bytes} bytes, more than the {bytes_max} that are allowed (hint: up to {COMPONENT_BYTES_MAX} can be)"
    )]
    TooLarge { image: String, what: &'static str, bytes: u64, bytes_max: u64 },
    #[error("{image} arrived damaged: it should be {expected} and is {actual} (hint: try again, or push it again)")]
    DigestMismatch { image: String, expected: Digest, actual: Digest },
    #[error("{image} arrived with {actual} bytes, its manifest says {expected} (hint: try again, or push it again)")]
    SizeMismatch { image: String, expected: u64, actual: u64 },
    #[error("the manifest of {image} cannot be read")]
    Manifest { image: String, source: serde_json::Error },
    #[error("{image} holds no component: {unfit}")]
    NoComponent { image: String, unfit: Unfit },
    /// What the image holds is named by the error itself.
    #[error(transparent)]
    Invalid(#[from] InvalidWasm),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("failed to write {image} to {}", path.display())]
    Write { image: String, path: PathBuf, source: io::Error },
}

/// What a registry did not like about who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// The cluster's token.
    Token,
    Missing {
        registry: String,
    },
    Wrong {
        registry: String,
    },
}

/// A login in the words of an error about an image.
struct Shown<'a>(&'a Login, &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(login, image) = self;
        match login {
            Login::Token => write!(f, "does not accept this token for {image} (hint: check --token, or log in again)"),
            Login::Missing { registry } => {
                write!(
                    f,
                    "wants a login for {image} (hint: skiff login {registry}; docker's and podman's logins count)"
                )
            }
            Login::Wrong { registry } => {
                write!(f, "does not accept the login for {image} (hint: skiff login {registry}, once more)")
            }
        }
    }
}

impl Error {
    /// Whether another attempt may go better.
    pub(super) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::ConnectForeign { .. }
                | Self::Timeout { .. }
                | Self::Transfer { .. }
                | Self::Unavailable { .. }
        )
    }

    /// How long the registry wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether there is no such image, for all that the registry says.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NotFoundForeign { .. })
    }
}
