//! What is asked of a bucket and answered, in one process and between machines.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// A key is text.
pub const KEY_BYTES_MAX: usize = 1024;
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Keys and values of one operation together, and values of one answer. Less than guests can hand over in one call at all, so
/// that who asks for too much is told so.
pub const OP_BYTES_MAX: usize = 2 << 20;
/// Keys that one operation names.
pub const KEYS_MAX: usize = 1000;
/// Keys in one answer to [`Op::Keys`].
pub const PAGE_KEYS: usize = 1000;

/// Bytes; in JSON they are base64.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Value(pub Vec<u8>);

impl Value {
    /// What tells one value from another, in little room.
    pub fn print(&self) -> Print {
        Print(Sha256::digest(&self.0).into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(&*text).map(Value).map_err(de::Error::custom)
    }
}

/// The SHA-256 of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Print([u8; 32]);

/// Something to be done with a bucket: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Op {
    /// The values of keys, in their order.
    Get { keys: Vec<String> },
    /// Whether there is a value.
    Exists { key: String },
    /// Keys in their order, from the one after `after` on.
    Keys { after: Option<String> },
    /// Of two values for one key, the later counts.
    Set { entries: Vec<(String, Value)> },
    /// Keys that are not there are no error.
    Delete { keys: Vec<String> },
    /// Adds to a number, which is kept as decimal text. What is not there is 0.
    Increment { key: String, delta: i64 },
    /// Sets a value if what is there is still `seen`; `None`: if nothing is.
    Swap { key: String, seen: Option<Print>, value: Value },
}

impl Op {
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::Exists { .. } | Self::Keys { .. })
    }

    /// What an empty bucket answers to an operation that only reads.
    pub(crate) fn of_nothing(&self) -> Answer {
        match self {
            Self::Get { keys } => Answer::Values(vec![None; keys.len()]),
            Self::Exists { .. } => Answer::Exists(false),
            Self::Keys { .. } => Answer::Keys { keys: Vec::new(), more: false },
            Self::Set { .. } | Self::Delete { .. } | Self::Increment { .. } | Self::Swap { .. } => Answer::Done,
        }
    }

    /// What it takes to keep it in memory, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Get { keys } | Self::Delete { keys } => keys.iter().map(String::len).sum(),
            Self::Exists { key } | Self::Increment { key, .. } => key.len(),
            Self::Keys { after } => after.as_ref().map_or(0, String::len),
            Self::Set { entries } => entries.iter().map(|(key, value)| key.len() + value.0.len()).sum(),
            Self::Swap { key, value, .. } => key.len() + value.0.len(),
        }
    }

    fn keys(&self) -> Vec<&String> {
        match self {
            Self::Get { keys } | Self::Delete { keys } => keys.iter().collect(),
            Self::Exists { key } | Self::Increment { key, .. } | Self::Swap { key, .. } => vec![key],
            Self::Keys { .. } => Vec::new(),
            Self::Set { entries } => entries.iter().map(|(key, _)| key).collect(),
        }
    }

    /// Whether it is within the limits.
    pub fn check(&self) -> Result<(), Refusal> {
        let keys = self.keys();
        if keys.len() > KEYS_MAX {
            return Err(Refusal::TooManyKeys { count: keys.len() });
        }
        if let Some(key) = keys.into_iter().find(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
            return Err(Refusal::BadKey { bytes: key.len() });
        }
        let values = match self {
            Self::Set { entries } => entries.iter().map(|(_, value)| value).collect(),
            Self::Swap { value, .. } => vec![value],
            _ => Vec::new(),
        };
        if let Some(value) = values.into_iter().find(|value| value.0.len() > VALUE_BYTES_MAX) {
            return Err(Refusal::LargeValue { bytes: value.0.len() });
        }
        match self.bytes() {
            bytes if bytes > OP_BYTES_MAX => Err(Refusal::LargeOp { bytes }),
            _ => Ok(()),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Values(Vec<Option<Value>>),
    Exists(bool),
    /// `more`: there are others behind the last.
    Keys {
        keys: Vec<String>,
        more: bool,
    },
    Done,
    Number(i64),
    /// Whether it was swapped; if not, what is there.
    Swapped {
        done: bool,
        now: Option<Value>,
    },
}

/// Why nothing was done, although all is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    #[error("a key has 1 to {KEY_BYTES_MAX} bytes, and this one {bytes}")]
    BadKey { bytes: usize },
    #[error("a value has up to {VALUE_BYTES_MAX} bytes, and this one {bytes}")]
    LargeValue { bytes: usize },
    #[error("one call takes up to {KEYS_MAX} keys, and this one has {count}")]
    TooManyKeys { count: usize },
    #[error("one call takes up to {OP_BYTES_MAX} bytes of keys and values, and this one has {bytes}")]
    LargeOp { bytes: usize },
    #[error("the values have more than the {OP_BYTES_MAX} bytes that one answer may have; ask for fewer keys")]
    LargeAnswer,
    #[error("the bucket is full: it may have {max} bytes of keys and values")]
    BucketFull { max: u64 },
    #[error("the buckets of this node are full: together they may have {max} bytes of keys and values")]
    AllFull { max: u64 },
    #[error("the value is not a number")]
    NotANumber,
    #[error("the number would be out of range")]
    OutOfRange,
}
