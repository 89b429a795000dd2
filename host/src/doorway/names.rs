//! The file that tells a container where names are looked up. It is mounted into it, and goes with it.

use std::fs::{self, Permissions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const END: &str = ".conf";

/// Written anew for each container: nothing is lost with it. Blocks.
pub(super) fn write(folder: &Path, container: &str, gateway: Ipv4Addr) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    // The engine does not know where this process works.
    let path = std::path::absolute(folder.join(format!("{container}{END}")))?;
    fs::write(&path, format!("nameserver {gateway}\n"))?;
    // Whoever the container's processes run as, and whatever this process keeps to itself.
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    Ok(path)
}

/// Blocks. It may be gone.
pub(super) fn remove(folder: &Path, container: &str) {
    drop(fs::remove_file(folder.join(format!("{container}{END}"))));
}

/// Removes those of containers that are no more. Blocks.
pub(super) fn remove_others(folder: &Path, is_kept: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_suffix(END).is_some_and(|container| !is_kept(container)) {
            drop(fs::remove_file(entry.path()));
        }
    }
}
