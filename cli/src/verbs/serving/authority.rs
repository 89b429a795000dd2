//! The cluster's certificate authority in the data folder: made at the first start, kept ever after.

use std::path::Path;

use skiff_disk::{Disk, read_kept, write_atomic};
use skiff_link::{Authority, Clock};

use crate::exit::{Exit, Failure};

const NAME: &str = "authority.pem";
const BYTES_MAX: u64 = 64 << 10;

/// Reads the authority from the folder, or makes it. Blocks.
pub(in crate::verbs) fn open(folder: &Path, disk: &Disk, clock: &Clock) -> Result<Authority, Failure> {
    let path = folder.join(NAME);
    if let Some(text) = read_kept(disk, &path, BYTES_MAX).map_err(|error| Failure::io("read", &path, error))? {
        return Authority::from_pem(&String::from_utf8(text).unwrap_or_default()).map_err(|error| {
            let hint = "restore the file from a backup; without it, every node has to join again";
            let text = format!("failed to read the cluster's authority in {}: {error} (hint: {hint})", path.display());
            Failure::message(Exit::Invalid, text)
        });
    }
    let authority = Authority::generate(clock.now()).map_err(|error| Failure::new(Exit::Internal, error))?;
    write_atomic(disk, &path, authority.to_pem().as_bytes()).map_err(|error| Failure::io("write", &path, error))?;
    Ok(authority)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use skiff_disk::sim::{SimDisk, assert_made_once};

    use super::*;

    const FOLDER: &str = "/var/skiff";

    fn start(sim: &SimDisk) -> Option<String> {
        let disk = sim.disk();
        disk.create_dir_all(FOLDER).ok()?;
        open(FOLDER.as_ref(), &disk, &Clock::new(Timestamp::UNIX_EPOCH)).ok().map(|authority| authority.to_pem())
    }

    #[test]
    fn the_authority_survives_kills_and_power_cuts_and_needs_each_sync() {
        assert_made_once(|sim, _| start(sim));
    }
}
