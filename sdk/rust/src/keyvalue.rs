//! Values that outlive a request: buckets that the service's manifest names (feature `keyvalue`).
//!
//! ```no_run
//! use skiff_sdk::keyvalue;
//!
//! #[skiff_sdk::handler]
//! fn handle(_request: skiff_sdk::Request) -> Result<String, skiff_sdk::Error> {
//!     let visits = keyvalue::open("visits")?.increment("all", 1)?;
//!     Ok(format!("visit {visits}\n"))
//! }
//! ```
//! A manifest names them: `keyvalue: [{bucket: visits}]` for one that all replicas of the namespace share, or
//! `keyvalue: [{bucket: visits, scope: node}]` for one on each node, which works while the control plane cannot be reached.
//! What a call has answered is on a disk. A key has up to 1 KiB, a value up to 1 MiB.

use std::fmt;

use crate::bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
use crate::bindings::wasi::keyvalue::{batch, store};

/// How often [`Bucket::update`] tries again when others are faster.
const UPDATES_MAX: usize = 100;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The manifest does not name the bucket.
    NoSuchBucket(String),
    /// It is full, cannot be reached, or the call is none.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBucket(name) => {
                write!(f, "there is no bucket {name} (hint: add `keyvalue: [{{bucket: {name}}}]` to the manifest)")
            }
            Self::Failed(why) => write!(f, "a bucket could not be used: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// A key with its value, if it has one.
pub type Entry = (String, Option<Vec<u8>>);

/// A bucket.
pub struct Bucket {
    name: String,
    bucket: store::Bucket,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.name).finish()
    }
}

/// The bucket of that name.
pub fn open(name: &str) -> Result<Bucket, Error> {
    match store::open(name) {
        Ok(bucket) => Ok(Bucket { name: name.to_owned(), bucket }),
        Err(error) => Err(failed(name, error)),
    }
}

fn failed(name: &str, error: store::Error) -> Error {
    match error {
        store::Error::NoSuchStore => Error::NoSuchBucket(name.to_owned()),
        store::Error::AccessDenied => Error::Failed("access is denied".to_owned()),
        store::Error::Other(why) => Error::Failed(why),
    }
}

impl Bucket {
    fn failed(&self, error: store::Error) -> Error {
        failed(&self.name, error)
    }

    /// The value of a key, if it has one.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.bucket.get(key).map_err(|error| self.failed(error))
    }

    /// The same as text.
    pub fn get_text(&self, key: &str) -> Result<Option<String>, Error> {
        let not_text = |_| Error::Failed(format!("the value of {key} is not UTF-8"));
        self.get(key)?.map(|value| String::from_utf8(value).map_err(not_text)).transpose()
    }

    /// Sets the value of a key.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.bucket.set(key, value.as_ref()).map_err(|error| self.failed(error))
    }

    /// Takes a key away; one that is not there is no error.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.bucket.delete(key).map_err(|error| self.failed(error))
    }

    /// Whether a key has a value.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.bucket.exists(key).map_err(|error| self.failed(error))
    }

    /// All keys in their order. What is set or deleted meanwhile may be among them or not.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.bucket.list_keys(cursor.as_deref()).map_err(|error| self.failed(error))?;
            keys.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(keys);
            }
        }
    }

    /// Adds to a number, which is kept as decimal text, and answers the sum. No two callers get the same one.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        atomics::increment(&self.bucket, key, delta).map_err(|error| self.failed(error))
    }

    /// Makes a new value of the one that is there, as though nobody else did so at the same time: `change` may be called
    /// several times.
    pub fn update(&self, key: &str, mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>) -> Result<(), Error> {
        let mut seen = Cas::new(&self.bucket, key).map_err(|error| self.failed(error))?;
        for _ in 0..UPDATES_MAX {
            let value = change(seen.current().map_err(|error| self.failed(error))?);
            match atomics::swap(seen, &value) {
                Ok(()) => return Ok(()),
                Err(CasError::CasFailed(newer)) => seen = newer,
                Err(CasError::StoreError(error)) => return Err(self.failed(error)),
            }
        }
        Err(Error::Failed(format!("others change {key} all the time")))
    }

    /// Each key with its value.
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Entry>, Error> {
        batch::get_many(&self.bucket, keys).map_err(|error| self.failed(error))
    }

    /// Sets all of them or none.
    pub fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Error> {
        batch::set_many(&self.bucket, entries).map_err(|error| self.failed(error))
    }

    /// Takes all of them away or none.
    pub fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        batch::delete_many(&self.bucket, keys).map_err(|error| self.failed(error))
    }
}

#[cfg(feature = "json")]
impl Bucket {
    /// A value that was set with [`Bucket::set_json`].
    pub fn get_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let read = |value: Vec<u8>| serde_json::from_slice(&value);
        self.get(key)?.map(read).transpose().map_err(|error| Error::Failed(format!("the value of {key}: {error}")))
    }

    /// Sets a value as JSON.
    pub fn set_json<T: serde::Serialize>(&self, key: &str, value: &T) -> Result<(), Error> {
        let text = serde_json::to_vec(value).map_err(|error| Error::Failed(format!("the value of {key}: {error}")))?;
        self.set(key, text)
    }
}
