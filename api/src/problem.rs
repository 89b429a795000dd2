//! Errors of the API: RFC 9457 problem details with a stable code, the object's name and what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, for programs. Stable across versions; each has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request or the object in it is not valid (400).
    Invalid,
    /// There is no valid token (401).
    Unauthorized,
    /// No join token is like that (401).
    TokenUnknown,
    /// The join token was good for some time, which is over (401).
    TokenExpired,
    /// As many machines have joined with the token as may (401).
    TokenUsedUp,
    /// Somebody has ended the join token (401).
    TokenRevoked,
    /// The node was removed from the cluster (401).
    NodeRevoked,
    /// The token does not allow it, or nobody may write it (403).
    Forbidden,
    /// The service allows itself more than its namespace grants (403).
    NotGranted,
    /// The image is not signed as a policy of its namespace wants it (403).
    NotSigned,
    /// There is no such object or path (404).
    NotFound,
    /// The image's tag or digest is not in the registry (404).
    ImageNotFound,
    /// The method is not offered there (405).
    MethodNotAllowed,
    /// An object of that name exists (409).
    AlreadyExists,
    /// The object changed since it was read (409).
    Conflict,
    /// A host and path already lead to another service (409).
    RouteTaken,
    /// The namespace still has objects (409).
    NamespaceNotEmpty,
    /// The revision to watch or list from is no longer kept: list again (410).
    Compacted,
    /// The body is larger than what is accepted (413).
    TooLarge,
    /// It cannot be answered now; try again (503).
    Unavailable,
    /// The disk is full (507).
    StorageFull,
    /// A bug of Skiff, or a broken machine (500).
    Internal,
}

impl Code {
    /// Every code, for tables in documents and tests.
    pub const ALL: [Self; 22] = [
        Self::Invalid,
        Self::Unauthorized,
        Self::TokenUnknown,
        Self::TokenExpired,
        Self::TokenUsedUp,
        Self::TokenRevoked,
        Self::NodeRevoked,
        Self::Forbidden,
        Self::NotGranted,
        Self::NotSigned,
        Self::NotFound,
        Self::ImageNotFound,
        Self::MethodNotAllowed,
        Self::AlreadyExists,
        Self::Conflict,
        Self::RouteTaken,
        Self::NamespaceNotEmpty,
        Self::Compacted,
        Self::TooLarge,
        Self::Unavailable,
        Self::StorageFull,
        Self::Internal,
    ];

    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorized
            | Self::TokenUnknown
            | Self::TokenExpired
            | Self::TokenUsedUp
            | Self::TokenRevoked
            | Self::NodeRevoked => 401,
            Self::Forbidden | Self::NotGranted | Self::NotSigned => 403,
            Self::NotFound | Self::ImageNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::AlreadyExists | Self::Conflict | Self::RouteTaken | Self::NamespaceNotEmpty => 409,
            Self::Compacted => 410,
            Self::TooLarge => 413,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::StorageFull => 507,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::TokenUnknown => "token unknown",
            Self::TokenExpired => "token expired",
            Self::TokenUsedUp => "token used up",
            Self::TokenRevoked => "token revoked",
            Self::NodeRevoked => "node revoked",
            Self::Forbidden => "forbidden",
            Self::NotGranted => "not granted",
            Self::NotSigned => "not signed",
            Self::NotFound => "not found",
            Self::ImageNotFound => "image not found",
            Self::MethodNotAllowed => "method not allowed",
            Self::AlreadyExists => "already exists",
            Self::Conflict => "conflict",
            Self::RouteTaken => "route taken",
            Self::NamespaceNotEmpty => "namespace not empty",
            Self::Compacted => "compacted",
            Self::TooLarge => "too large",
            Self::Unavailable => "unavailable",
            Self::StorageFull => "storage full",
            Self::Internal => "internal error",
        }
    }
}

/// The body of every answer that is not a success: `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    pub title: String,
    pub status: u16,
    pub code: Code,
    /// What happened, naming the object.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The object, as `service/shop/cart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

impl Problem {
    pub const MEDIA_TYPE: &str = "application/problem+json";

    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            hint: None,
            object: None,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}
