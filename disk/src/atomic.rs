//! Replacing a small file so that a reader, also one after a power cut, sees the old or the new, never a mixture.

use std::io;
use std::path::Path;

use crate::disk::{Disk, Mode};

/// Reads a file that was written by [`write_atomic`], if there is one. Its name may not be durable yet, as an earlier process may
/// have been killed before it had synced it: so the directory is synced, and whoever acts on what was read finds the same after a
/// power cut.
pub fn read_kept(disk: &Disk, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let data = match disk.read(path, bytes_max) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    sync_folder(disk, path)?;
    Ok(Some(data))
}

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
    sync_folder(disk, path)
}

/// Whoever asks for it is the place that a test takes out.
#[track_caller]
fn sync_folder(disk: &Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => disk.sync_dir(parent),
        _ => disk.sync_dir("."),
    }
}
