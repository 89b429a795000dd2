//! Why an object could not be read or written, and how the API says it.

use skiff_api::resource::Kind;
use skiff_api::{Code, Name, Problem};

use super::ObjectKey;
use crate::store;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{object} does not exist")]
    NotFound { object: ObjectKey },
    #[error("{object} exists already")]
    AlreadyExists { object: ObjectKey },
    /// Somebody else wrote it in between: read it again and decide again.
    #[error("{object} changed: it is at {now}, not at {seen}")]
    Conflict { object: ObjectKey, seen: String, now: String },
    #[error("{object} has no resource version: {text:?} is none that this server gave out")]
    BadVersion { object: ObjectKey, text: String },
    #[error("{text:?} cannot name a {kind}")]
    BadName { kind: Kind, text: String },
    #[error("namespace {namespace} does not exist")]
    NoNamespace { namespace: Name },
    #[error("namespace {namespace} is not empty: it has {contents}")]
    NamespaceNotEmpty { namespace: Name, contents: String },
    /// Something was created in it while it was being deleted.
    #[error("namespace {namespace} is in use")]
    NamespaceInUse { namespace: String },
    #[error("route {route} leads to service {owner} already")]
    RouteTaken { route: String, owner: String },
    #[error("failed to read {key}: it is damaged")]
    Damaged {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("failed to write {object} as JSON")]
    Encode {
        object: ObjectKey,
        #[source]
        source: serde_json::Error,
    },
    #[error("failed to make a uid: the machine has no randomness")]
    Randomness {
        #[source]
        source: getrandom::Error,
    },
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether reading again and deciding again may succeed.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. } | Self::NotFound { .. } | Self::AlreadyExists { .. } | Self::NamespaceInUse { .. }
        )
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound { object } => Self::new(Code::NotFound, text).object(object.to_string()),
            Error::AlreadyExists { object } => Self::new(Code::AlreadyExists, text)
                .object(object.to_string())
                .hint("apply changes an object that exists; PUT replaces it"),
            Error::Conflict { object, .. } => {
                Self::new(Code::Conflict, text).object(object.to_string()).hint("read it again and repeat the change")
            }
            Error::BadVersion { object, .. } => Self::new(Code::Invalid, text)
                .object(object.to_string())
                .hint("leave metadata.resourceVersion out, or send the one that was read"),
            Error::BadName { .. } => Self::new(Code::Invalid, text),
            Error::NoNamespace { namespace } => {
                let object = ObjectKey::namespace(&namespace).to_string();
                Self::new(Code::NotFound, text)
                    .object(object)
                    .hint(format!("apply it first: kind: Namespace, name: {namespace}"))
            }
            Error::NamespaceNotEmpty { namespace, .. } => Self::new(Code::NamespaceNotEmpty, text)
                .object(ObjectKey::namespace(&namespace).to_string())
                .hint("delete its services first"),
            Error::NamespaceInUse { namespace } => {
                Self::new(Code::Conflict, text).object(format!("namespace/{namespace}")).hint("try again")
            }
            Error::RouteTaken { owner, .. } => Self::new(Code::RouteTaken, text)
                .object(format!("service/{owner}"))
                .hint("choose another host or path, or take the route from that service first"),
            Error::Damaged { .. } | Error::Encode { .. } | Error::Randomness { .. } => Self::new(Code::Internal, text),
            Error::Store(error) => from_store(&error),
        }
    }
}

fn from_store(error: &store::Error) -> Problem {
    use store::Error as E;
    let text = error.to_string();
    match error {
        E::Compacted { wanted, oldest } => Problem::new(
            Code::Compacted,
            format!("what happened since {wanted} is no longer kept: history begins at {oldest}"),
        )
        .hint("list again and watch from the list's resourceVersion"),
        E::Future { wanted, current } => {
            Problem::new(Code::Compacted, format!("{wanted} has not happened yet: the store is at {current}"))
                .hint("was it restored from a backup? list again and watch from the list's resourceVersion")
        }
        E::TooLarge { .. } | E::TooManyOperations { .. } => Problem::new(Code::TooLarge, text),
        E::Write { source } | E::Sync { source } | E::Open { source, .. } if is_full(source.as_ref()) => {
            Problem::new(Code::StorageFull, "the control plane's disk is full: nothing was changed")
                .hint("free some space on the control plane's machine and try again")
        }
        E::Write { .. } | E::Sync { .. } | E::Read { .. } | E::Closed => Problem::new(Code::Unavailable, text),
        E::Open { .. } | E::Corrupt { .. } | E::NewerFormat { .. } | E::DuplicateKey { .. } | E::BadKey { .. } => {
            Problem::new(Code::Internal, text)
        }
    }
}

/// Whether a full disk is at the bottom of an error.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
            return true;
        }
        cause = error.source();
    }
    false
}
