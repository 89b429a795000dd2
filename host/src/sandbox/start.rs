//! The sandbox of a node.

use std::path::Path;
use std::sync::Arc;

use skiff_api::quantity::Bytes;
use skiff_api::resource::EngineReport;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::sandbox::budget::Budget;
use crate::sandbox::code::{Code, Codes};
use crate::sandbox::lane::Lanes;
use crate::sandbox::runner::Node;
use crate::sandbox::state::State;
use crate::sandbox::ticker::Ticker;
use crate::sandbox::{Error, LoadError, PrepareError, Runner, RunnerOptions, engine, linker};

/// How to run guests.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Most instances alive at once; the machine may allow fewer, which the report then says.
    pub instances_max: u32,
    /// Memory that all guests may have together; by default a part of the machine's.
    pub memory: Option<Bytes>,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self { instances_max: engine::INSTANCES_MAX, memory: None }
    }
}

/// Runs guests. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

pub(super) struct Inner {
    // The ticker stops before the engine goes.
    node: Node,
    engine: Engine,
    linker: Linker<State>,
    codes: Codes,
    report: EngineReport,
}

impl Sandbox {
    /// Fits an engine to the machine and starts its clock. Blocks for some milliseconds.
    pub fn start(options: SandboxOptions) -> Result<Self, Error> {
        let built = engine::build(&options)?;
        let linker = linker::ambient(&built.engine)?;
        let ticker = Arc::new(Ticker::start(&built.engine).map_err(Error::Ticker)?);
        let lanes = Arc::new(Lanes::start().map_err(Error::Lanes)?);
        let node = Node { ticker, lanes, budget: Budget::new(built.memory_bytes) };
        let codes = Codes::default();
        Ok(Self(Arc::new(Inner { node, engine: built.engine, linker, codes, report: built.report })))
    }

    /// What was chosen for this machine, and why.
    pub fn report(&self) -> EngineReport {
        self.0.report.clone()
    }

    /// Maps compiled code. Replicas of one file share it. Blocks while it checks a file that it has not seen before.
    pub fn load(&self, path: &Path) -> Result<Code, LoadError> {
        self.0.codes.load(&self.0.engine, path)
    }

    /// Checks that a component fits what this node offers and that an instance of it starts within its limits.
    pub async fn prepare(&self, code: &Code, options: RunnerOptions) -> Result<Runner, PrepareError> {
        let pre = linker::link(&self.0.linker, code)?;
        let runner = Runner::new(pre, code.clone(), &self.0.node, options);
        runner.try_start().await.map_err(PrepareError::Start)?;
        Ok(runner)
    }

    /// How often the clock that interrupts guests has ticked. It stands still while nothing runs.
    pub fn ticks(&self) -> u64 {
        self.0.node.ticker.ticks()
    }
}
