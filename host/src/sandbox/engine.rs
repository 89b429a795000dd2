//! The engine: one for all guests of a node, fitted to the machine.
//!
//! [`base_config`] is everything that shapes compiled code; the compiling process uses it as it is, so that its output
//! fits. What a node adds, the pool, does not change code, so a node that cannot have a pool runs the same files.
//!
//! The pool keeps slots for instances ready-made: a fresh instance costs some 30 us instead of some hundred. Its slots are
//! address space, not memory; what a slot's last guest touched is kept up to a bound and wiped, which is much cheaper
//! than giving it back and faulting it in again. wasmtime never gives back what it keeps there, so a node that has come to
//! rest makes itself another engine, by the same [`Recipe`], and lets the old one go. Where the machine grants less address space than asked (39-bit ARM,
//! `ulimit -v`), the pool is halved until it fits, and below a useful size instances are allocated on demand.

use std::collections::BTreeMap;

use skiff_api::quantity::Bytes;
use skiff_api::resource::EngineReport;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails, WasmFeatures,
};

use crate::sandbox::limits;
use crate::sandbox::machine::{Machine, Swap};
use crate::sandbox::{Error, SandboxOptions};

/// The exact version of wasmtime. It alone writes only its major version into compiled files, and patch releases have
/// changed generated code.
pub(crate) const WASMTIME_VERSION: &str = "48.0.8";

/// Raised when [`base_config`] changes in a way that wasmtime's own check of compiled files does not see.
const CONFIG_VERSION: u32 = 1;

/// The configuration that compiled code depends on.
pub(crate) fn base_config() -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .module_version(ModuleVersionStrategy::Custom(format!("{WASMTIME_VERSION}+skiff{CONFIG_VERSION}")))?
        .wasm_component_model(true)
        .epoch_interruption(true)
        // Wasm 3's young features have had most of wasmtime's advisories, and no toolchain of ours emits them.
        .gc_support(false)
        .wasm_features(WasmFeatures::GC | WasmFeatures::FUNCTION_REFERENCES | WasmFeatures::EXCEPTIONS, false)
        .wasm_memory64(false)
        // A wasi:http 0.2 guest needs no host-side concurrency: a tenth more requests without it.
        .concurrency_support(false)
        // Nobody unwinds through guests by system means, and loading is thrice as fast without the tables.
        .native_unwind_info(false)
        // An environment variable flips this otherwise, and compiled files would no longer fit.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .max_wasm_stack(limits::WASM_STACK_BYTES)
        .async_stack_size(limits::FIBER_STACK_BYTES);
    Ok(config)
}

/// An engine, and what was chosen for it.
pub(super) struct Built {
    pub(super) engine: Engine,
    pub(super) recipe: Recipe,
    /// What all guests together may have.
    pub(super) memory_bytes: u64,
    pub(super) report: EngineReport,
}

/// Most instances alive at once. Requests take milliseconds, so this many in flight mean over 100,000 requests a second
/// or as many idle streams; each costs 20 KiB of bookkeeping, and the kernel two mappings.
pub(super) const INSTANCES_MAX: u32 = 2000;

/// A pool below this cannot serve even one busy replica; memory on demand is better.
const INSTANCES_MIN: u32 = 32;

/// Memory of a slot that stays resident for its next guest. Most services touch less than this between start and
/// answer, so a reused slot costs no page fault.
const KEEP_MEMORY_BYTES: usize = 4 << 20;

/// The same for a table, and for a stack.
const KEEP_TABLE_BYTES: usize = 64 << 10;
const KEEP_STACK_BYTES: usize = 64 << 10;

/// Slots that stay resident at most: more are only ever needed by more than this many requests at once.
const WARM_MAX: u32 = 1000;

/// The part of the machine's memory that idle slots may keep: one over this.
const WARM_MEMORY_SHARE: u64 = 8;

/// The part of the machine's memory that guests may have: the rest is for code, connections, bodies, the system, and
/// whoever else is there.
const GUEST_MEMORY_PERCENT: u64 = 70;

/// Mappings that one live instance may take: a memory's slot up to 4, a stack 2, tables and images the rest.
const MAPPINGS_PER_INSTANCE: u64 = 10;

/// Linear memories, tables and core instances for each instance. Rust and JavaScript components have 1 to 2, 2 to 3 and
/// 3 to 4; a component that is composed of parts takes those that simpler ones leave.
const MEMORIES_PER_INSTANCE: u32 = 2;
const TABLES_PER_INSTANCE: u32 = 4;
const CORE_INSTANCES_PER_INSTANCE: u32 = 6;

/// What the pool is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pool {
    instances: u32,
    warm: u32,
    pagemap_scan: bool,
}

impl Pool {
    fn config(self) -> PoolingAllocationConfig {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(self.instances)
            .total_stacks(self.instances)
            .total_memories(self.instances.saturating_mul(MEMORIES_PER_INSTANCE))
            .total_tables(self.instances.saturating_mul(TABLES_PER_INSTANCE))
            .total_core_instances(self.instances.saturating_mul(CORE_INSTANCES_PER_INSTANCE))
            .max_core_instances_per_component(limits::CORE_INSTANCES_MAX)
            .max_memories_per_component(limits::MEMORIES_MAX)
            .max_tables_per_component(limits::TABLES_MAX)
            .table_elements(limits::TABLE_ELEMENTS_MAX)
            .max_unused_warm_slots(self.warm)
            .linear_memory_keep_resident(KEEP_MEMORY_BYTES)
            .table_keep_resident(KEEP_TABLE_BYTES)
            .async_stack_keep_resident(KEEP_STACK_BYTES)
            .pagemap_scan(if self.pagemap_scan { Enabled::Yes } else { Enabled::No });
        pool
    }
}

/// How an engine is made again as it was chosen for this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe {
    /// None where instances are allocated on demand.
    pool: Option<Pool>,
}

impl Recipe {
    #[cfg(test)]
    pub(super) fn on_demand() -> Self {
        Self { pool: None }
    }

    pub(super) fn engine(self) -> wasmtime::Result<Engine> {
        let mut config = base_config()?;
        if let Some(pool) = self.pool {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool.config()));
        }
        Engine::new(&config)
    }
}

/// What a stack keeps of its last guest, which nobody counts: some calls deep.
const STACK_TOUCHED_BYTES: usize = 16 << 10;

/// What an engine's slots keep of guests that have ended.
pub(super) fn kept_bytes(engine: &Engine) -> usize {
    engine.pooling_allocator_metrics().map_or(0, |pool| {
        let stacks = pool.unused_warm_stacks() as usize * STACK_TOUCHED_BYTES;
        pool.unused_memory_bytes_resident() + pool.unused_table_bytes_resident() + stacks
    })
}

/// Makes the engine with the largest pool that the machine grants, up to what was asked for.
pub(super) fn build(options: &SandboxOptions) -> Result<Built, Error> {
    let instances_max = options.instances_max;
    let machine = Machine::probe();
    let mut choices = BTreeMap::new();
    let mut choose = |name: &str, choice: String| choices.insert(name.to_owned(), choice);

    let (pagemap_scan, why) = pagemap_scan(machine.swap, PoolingAllocationConfig::is_pagemap_scan_available());
    choose("pagemap-scan", format!("{} ({why})", if pagemap_scan { "on" } else { "off" }));

    let memory_bytes = match options.memory {
        Some(Bytes(bytes)) => bytes,
        None => machine.memory_bytes / 100 * GUEST_MEMORY_PERCENT,
    };
    let why = match options.memory {
        Some(_) => "as configured".to_owned(),
        None => format!("{GUEST_MEMORY_PERCENT} % of {} MiB memory", machine.memory_bytes >> 20),
    };
    choose("guest-memory", format!("{} MiB ({why})", memory_bytes >> 20));

    let by_mappings = u32::try_from(machine.mappings_max / 2 / MAPPINGS_PER_INSTANCE).unwrap_or(u32::MAX);
    let wanted = instances_max.min(by_mappings).max(1);
    let smallest = INSTANCES_MIN.min(wanted);
    let mut instances = wanted;
    let (engine, recipe) = loop {
        let pool = Pool { instances, warm: warm(machine.memory_bytes, instances), pagemap_scan };
        let recipe = Recipe { pool: Some(pool) };
        match recipe.engine() {
            Ok(engine) => {
                choose("allocation", pooled(pool, instances_max, by_mappings, wanted));
                choose("warm-slots", format!("{} (a share of {} MiB memory)", pool.warm, machine.memory_bytes >> 20));
                break (engine, recipe);
            }
            Err(_) if instances / 2 >= smallest => instances /= 2,
            Err(e) => {
                choose("allocation", format!("on demand (no pool of {smallest} instances could be made: {e:#})"));
                let recipe = Recipe { pool: None };
                break (recipe.engine().map_err(Error::Engine)?, recipe);
            }
        }
    };
    let name = format!("wasmtime {WASMTIME_VERSION}");
    Ok(Built { engine, recipe, memory_bytes, report: EngineReport { name, instances, choices } })
}

fn pooled(pool: Pool, asked: u32, by_mappings: u32, wanted: u32) -> String {
    let why = if pool.instances < wanted {
        format!("{wanted} do not fit the address space")
    } else if by_mappings < asked {
        "vm.max_map_count allows no more".to_owned()
    } else {
        "as configured".to_owned()
    };
    format!("pool of {} instances ({why})", pool.instances)
}

/// Whether the kernel may be asked which pages a guest touched, instead of wiping all that are kept.
///
/// In this version of wasmtime the answer misses pages that were swapped out, so that a guest could find its
/// predecessor's data: nowhere with swap, zram included.
fn pagemap_scan(swap: Swap, available: bool) -> (bool, &'static str) {
    match (swap, available) {
        (Swap::Off, true) => (true, "there is no swap"),
        (Swap::Off, false) => (false, "the kernel does not have it"),
        (Swap::On, _) => (false, "swap is on"),
        (Swap::Unknown, _) => (false, "swap may be on"),
    }
}

fn warm(memory_bytes: u64, instances: u32) -> u32 {
    let slot_bytes = (KEEP_MEMORY_BYTES + KEEP_TABLE_BYTES + KEEP_STACK_BYTES) as u64;
    let affordable = memory_bytes / WARM_MEMORY_SHARE / slot_bytes;
    u32::try_from(affordable).unwrap_or(u32::MAX).min(WARM_MAX).min(instances)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_turns_pagemap_scan_off() {
        assert_eq!(pagemap_scan(Swap::On, true), (false, "swap is on"));
        assert_eq!(pagemap_scan(Swap::Unknown, true), (false, "swap may be on"));
        assert_eq!(pagemap_scan(Swap::Off, true), (true, "there is no swap"));
        assert!(!pagemap_scan(Swap::Off, false).0);
    }

    #[test]
    fn idle_slots_keep_an_eighth_of_the_memory_at_most() {
        assert_eq!(warm(1 << 30, 2000), 31);
        assert_eq!(warm(1 << 40, 2000), WARM_MAX);
        assert_eq!(warm(1 << 40, 8), 8);
    }

    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let mut lines = lock.lines().skip_while(|line| *line != "name = \"wasmtime\"");
        assert_eq!(lines.nth(1).unwrap(), format!("version = \"{WASMTIME_VERSION}\""));
    }

    #[test]
    fn the_report_gives_a_reason_for_every_choice() {
        let built = build(&SandboxOptions { instances_max: 8, memory: None }).unwrap();
        assert_eq!(built.report.instances, 8);
        for name in ["allocation", "guest-memory", "pagemap-scan", "warm-slots"] {
            let choice = &built.report.choices[name];
            assert!(choice.ends_with(')') && choice.contains(" ("), "{name}: {choice}");
        }
    }
}
