//! The cluster's certificate authority in the data folder: made at the first start, kept ever after.

use std::io;
use std::path::Path;

use skiff_disk::{Disk, write_atomic};
use skiff_link::{Authority, Clock};

use crate::exit::{Exit, Failure};

const NAME: &str = "authority.pem";
const BYTES_MAX: u64 = 64 << 10;

/// Reads the authority from the folder, or makes it. Blocks.
pub(in crate::verbs) fn open(folder: &Path, disk: &Disk, clock: &Clock) -> Result<Authority, Failure> {
    let path = folder.join(NAME);
    match disk.read(&path, BYTES_MAX) {
        Ok(text) => {
            // Its name may not be durable: an earlier process may have been killed before it had synced it.
            disk.sync_dir(folder).map_err(|error| Failure::io("sync", folder, error))?;
            let text = String::from_utf8(text).unwrap_or_default();
            Authority::from_pem(&text).map_err(|error| {
                let hint = "restore the file from a backup; without it, every node has to join again";
                let text =
                    format!("failed to read the cluster's authority in {}: {error} (hint: {hint})", path.display());
                Failure::message(Exit::Invalid, text)
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let authority = Authority::generate(clock.now()).map_err(|error| Failure::new(Exit::Internal, error))?;
            write_atomic(disk, &path, authority.to_pem().as_bytes())
                .map_err(|error| Failure::io("write", &path, error))?;
            Ok(authority)
        }
        Err(error) => Err(Failure::io("read", &path, error)),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use skiff_disk::sim::SimDisk;

    use super::*;

    const FOLDER: &str = "/var/skiff";

    fn start(sim: &SimDisk) -> Option<String> {
        let disk = sim.disk();
        disk.create_dir_all(FOLDER).ok()?;
        open(FOLDER.as_ref(), &disk, &Clock::new(Timestamp::UNIX_EPOCH)).ok().map(|authority| authority.to_pem())
    }

    /// Whether every process has the same one: one that is killed, the next, and one after a power cut.
    fn stays(sim: SimDisk, kill: u64) -> bool {
        sim.cut_after(kill);
        let first = start(&sim);
        let sim = sim.kill();
        let second = start(&sim);
        let third = start(&sim.power_cut());
        third.is_some() && second == third && (first.is_none() || first == third)
    }

    #[test]
    fn the_authority_survives_kills_and_power_cuts_and_needs_each_sync() {
        let all = SimDisk::new(0);
        assert_eq!(start(&all), start(&all));
        let runs = || (0..=all.operations()).flat_map(|kill| (0..40).map(move |seed| (kill, SimDisk::new(seed))));
        for (kill, sim) in runs() {
            assert!(stays(sim, kill), "killed after {kill} operations");
        }
        for site in all.sites() {
            let mut runs = runs();
            let lost = runs.any(|(kill, sim)| {
                sim.skip_site(site);
                !stays(sim, kill)
            });
            assert!(lost, "nothing is lost without the sync at {site}");
        }
    }
}
