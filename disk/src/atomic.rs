//! Replacing a small file so that a reader, also one after a power cut, sees the old or the new, never a mixture.

use std::io;
use std::path::Path;

use crate::disk::{Disk, Mode};

/// Writes `data` beside `path`, syncs it, renames it over `path` and syncs the directory. A left-over of an earlier
/// attempt (`path` with `.tmp` appended) is overwritten.
pub fn write_atomic(disk: &Disk, path: &Path, data: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let file = disk.open(&temporary, Mode::Create)?;
    file.set_bytes(0)?;
    file.write_at(data, 0)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => disk.sync_dir(parent),
        _ => disk.sync_dir("."),
    }
}
