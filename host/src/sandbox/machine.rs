//! What the engine must know of the machine it runs on.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The machine's sizes, as far as the choice of pools depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) memory_bytes: u64,
    /// Mappings that a process may have.
    pub(super) mappings_max: u64,
    /// Descriptors that this process may have.
    pub(super) descriptors_max: u64,
    pub(super) swap: Swap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swap {
    Off,
    On,
    /// It could not be found out, so it counts as on.
    Unknown,
}

/// Linux's default for `vm.max_map_count`, for where it cannot be read.
const MAPPINGS_DEFAULT: u64 = 65_530;

/// Assumed where the machine does not say: that of the smallest boards that run Skiff.
const MEMORY_DEFAULT: u64 = 512 << 20;

impl Machine {
    pub(super) fn probe() -> Self {
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_bytes(&text));
        let mappings = fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse().ok());
        Self {
            memory_bytes: memory.unwrap_or(MEMORY_DEFAULT).min(cgroup_bytes().unwrap_or(u64::MAX)),
            mappings_max: mappings.unwrap_or(MAPPINGS_DEFAULT),
            descriptors_max: raise_descriptors(),
            swap: fs::read_to_string("/proc/swaps").map_or(Swap::Unknown, |text| swap(&text)),
        }
    }
}

/// Takes as many descriptors as this process may have. The lower limit that shells give protects programs that wait with
/// `select`, of which this is none.
fn raise_descriptors() -> u64 {
    let given = getrlimit(Resource::Nofile);
    let most = Rlimit { current: given.maximum, maximum: given.maximum };
    let limit = if setrlimit(Resource::Nofile, most).is_ok() { given.maximum } else { given.current };
    limit.unwrap_or(u64::MAX)
}

/// The memory limit of this process's control group, in either version's place.
fn cgroup_bytes() -> Option<u64> {
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A title, then a line for each area in use; zram is one of them.
fn swap(swaps: &str) -> Swap {
    let mut lines = swaps.lines();
    match (lines.next(), lines.next()) {
        (None, _) => Swap::Unknown,
        (Some(_), None) => Swap::Off,
        (Some(_), Some(_)) => Swap::On,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kibibytes() {
        assert_eq!(total_bytes("MemTotal:       24737380 kB\nMemFree: 1 kB\n"), Some(24_737_380 * 1024));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        assert_eq!(total_bytes("MemTotal: many kB\n"), None);
    }

    #[test]
    fn zram_is_swap_and_silence_is_not_trusted() {
        let title = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(swap(title), Swap::Off);
        assert_eq!(swap(&format!("{title}/dev/zram0 partition 8388604 0 100\n")), Swap::On);
        assert_eq!(swap(""), Swap::Unknown);
    }
}
