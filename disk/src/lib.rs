//! The file system as Skiff's durable parts see it.
//!
//! Store, registry and node write through a [`Disk`], never through `std::fs`, for one reason: a power cut keeps only
//! what was fsynced (a file's data, and the directory entries that name it), and that can be tested only where the
//! layer below can forget the rest. [`Disk::real`] is the operating system; `sim::SimDisk` (feature `sim`) keeps a
//! volatile and a durable image of a tree and drops the difference on demand.
//!
//! Every sync passes the place in the source that asked for it, so that a test can take out any one fsync and show that
//! something is lost without it.
//!
//! All calls block: async code calls them on a blocking thread.

mod atomic;
#[cfg(feature = "database")]
pub mod database;
mod dirs;
mod disk;
mod real;
mod seal;
#[cfg(feature = "sim")]
pub mod sim;

pub use atomic::{read_kept, write_atomic};
pub use disk::{Backend, BackendFile, Disk, Entry, File, Mode, Site, Stat};
pub use seal::{OpenError, Place, SealKey};
