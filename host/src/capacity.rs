//! What placement may reserve on this machine.

use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::Resources;

/// The operating system and Skiff itself keep a tenth.
const SHARE_PERCENT: u64 = 90;

/// All cores, and most of the memory, in whole mebibytes.
pub(crate) fn of_this_machine() -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let info = rustix::system::sysinfo();
    let bytes = u128::from(info.totalram) * u128::from(info.mem_unit.max(1)) * u128::from(SHARE_PERCENT) / 100;
    Resources { memory: Bytes::mebi(u64::try_from(bytes >> 20).unwrap_or(u64::MAX >> 20)), cpu: MilliCpu(cores * 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_something() {
        let capacity = of_this_machine();
        assert!(capacity.memory > Bytes::mebi(64) && capacity.cpu >= MilliCpu(1000), "{capacity:?}");
    }
}
