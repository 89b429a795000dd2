//! What can go wrong with a node's artifacts.

use std::io;
use std::path::PathBuf;

use skiff_registry::client;

#[derive(Debug, thiserror::Error)]
#[error("failed to open the artifacts in {} (hint: does the user that Skiff runs as own it?)", dir.display())]
pub struct OpenError {
    pub dir: PathBuf,
    #[source]
    pub source: io::Error,
}

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("failed to pull {image}")]
    Registry {
        image: String,
        #[source]
        source: client::Error,
    },
    #[error("failed to store {image} as {}", path.display())]
    Store {
        image: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
