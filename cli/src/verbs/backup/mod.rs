//! `skiff backup` and `skiff restore`: all of a cluster in one file.
//!
//! ```text
//! backup.json          version of this format, Skiff's version, when
//! token                the admin token
//! authority.pem        the cluster's authority, if other machines may join
//! secrets.key          what its Secrets are sealed with
//! store/000000, ...    the store as of one revision: a key and its value on each line, JSON
//! keyvalue/000000, ... the cluster's buckets: bucket, key and value on each line, JSON; of each page as of one moment
//! registry/...         the registry's folder: what names content first, then content
//! end                  how many entries came before: without it, the file was cut off
//! ```
//! It is a tar file that the control plane sends while it serves. The store comes first, and nothing that it refers to leaves the
//! registry meanwhile; what is pushed or removed meanwhile is in it or not, as a whole: a name without its content is a
//! name that the registry does not know. Uploads, events, and what nodes keep are not in it.
//!
//! A restore fills an empty folder and raises the cluster's epoch, so that nodes accept the control plane that comes back with
//! an older memory, and go on with what still matches. Until it is whole, the folder is marked, and nothing starts on it.

mod file;
mod put_back;
mod take;

pub(super) use put_back::run as restore;
pub(super) use take::run as backup;

pub(in crate::verbs) use file::router;
