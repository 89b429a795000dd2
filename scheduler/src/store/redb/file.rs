//! The database's file, and how it is opened.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::Database;
use skiff_disk::Disk;
pub(super) use skiff_disk::database::Trust;
use skiff_disk::database::{self, Layout, OpenError};

use super::tables::{EVENTS, LOG, VERSIONS};
use crate::store::Error;

/// The layout of the tables. A reader refuses a newer one.
const FORMAT: u64 = 1;

/// What is live in a large fleet is about this much.
const CACHE_BYTES: usize = 16 << 20;

/// Where the database is, and whether a sync of it ever failed.
pub(super) struct Place(database::Place);

impl Place {
    pub(super) fn new(disk: Disk, path: &Path) -> Self {
        let make = |write: &redb::WriteTransaction| {
            write.open_table(VERSIONS)?;
            write.open_table(LOG)?;
            write.open_table(EVENTS)?;
            Ok(())
        };
        Self(database::Place::new(disk, path, Layout { format: FORMAT, cache_bytes: CACHE_BYTES, make }))
    }

    /// After that the page cache may differ from the disk, and nothing that is read can be believed to be durable.
    pub(super) fn sync_failed(&self) -> bool {
        self.0.sync_failed()
    }

    /// Opens the database, making it if it is missing.
    pub(super) fn open(&self, trust: Trust) -> Result<Database, Error> {
        self.0.open(trust).map_err(|error| self.explain(error))
    }

    pub(super) fn open_failed(&self, source: io::Error) -> Error {
        self.explain(source.into())
    }

    pub(super) fn open_failed_in(&self, e: redb::Error) -> Error {
        self.explain(e.into())
    }

    fn explain(&self, error: OpenError) -> Error {
        let path = self.0.path().display().to_string();
        match error {
            OpenError::Io(source) => Error::Open { path, source: Arc::new(source) },
            OpenError::Corrupt(source) => Error::Corrupt { path, source: Arc::new(source) },
            OpenError::Format { found } => Error::NewerFormat { path, found, known: FORMAT },
        }
    }
}
