//! The sandbox of a node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skiff_api::capability;
use skiff_api::quantity::Bytes;
use skiff_api::resource::EngineReport;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::sandbox::budget::Budget;
use crate::sandbox::code::{Code, Codes};
use crate::sandbox::lane::Lanes;
use crate::sandbox::linker::Linked;
use crate::sandbox::machine::Machine;
use crate::sandbox::runner::Node;
use crate::sandbox::shelf::Room;
use crate::sandbox::ticker::Ticker;
use crate::sandbox::{Error, LoadError, PrepareError, Runner, RunnerOptions, Worker, engine};

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

/// How much code is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeFigures {
    pub components: usize,
    /// What they are charged, which is an estimate.
    pub bytes: u64,
    pub loads: u64,
    pub evictions: u64,
}

/// Runs guests. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

pub(super) struct Inner {
    // The ticker stops before the engine goes.
    node: Node,
    codes: Codes,
    report: EngineReport,
}

impl Sandbox {
    /// Fits an engine to the machine and starts its clock. Blocks for some milliseconds.
    pub fn start(options: SandboxOptions) -> Result<Self, Error> {
        let built = engine::build(&options)?;
        let ticker = Arc::new(Ticker::start(&built.engine).map_err(Error::Ticker)?);
        let lanes = Arc::new(Lanes::start().map_err(Error::Lanes)?);
        let node = Node { ticker, lanes, budget: Budget::new(built.memory_bytes) };
        let (machine, mut report) = (Machine::probe(), built.report);
        let room = Room::on(&machine);
        report.choices.insert("loaded-code".to_owned(), room.describe(&machine));
        let codes = Codes::new(built.engine, built.recipe, room)?;
        node.ticker.at_rest(codes.rest());
        Ok(Self(Arc::new(Inner { node, codes, report })))
    }

    /// What was chosen for this machine, and why.
    pub fn report(&self) -> EngineReport {
        self.0.report.clone()
    }

    /// Compiled code whose file is sound. Replicas of one file share it. Blocks while it reads a file that is new.
    pub fn load(&self, path: &Path) -> Result<Code, LoadError> {
        self.0.codes.load(path)
    }

    /// Compiled code that is loaded when the first request comes, or when it is prepared. Does not look at the file.
    pub fn known(&self, path: &Path) -> Code {
        self.0.codes.known(path)
    }

    /// Checks that a component fits what this node offers and that an instance of it starts within its limits.
    pub async fn prepare(&self, code: &Code, options: RunnerOptions) -> Result<Runner, PrepareError> {
        let loaded = code.linked().await?;
        if let Linked::Command(_) = loaded.linked {
            return Err(PrepareError::NoHandler { exports: vec![capability::RUN.to_owned()] });
        }
        let runner = self.runner(code, options);
        runner.try_start(loaded).await.map_err(PrepareError::Start)?;
        Ok(runner)
    }

    /// A component that runs on its own, ready to; none if it answers requests instead.
    pub async fn worker(&self, code: &Code, options: RunnerOptions) -> Result<Option<Worker>, PrepareError> {
        let loaded = code.linked().await?;
        let Linked::Command(_) = loaded.linked else { return Ok(None) };
        // A worker's work is not a request's: it goes on for ever.
        let runner = self.runner(code, RunnerOptions { cpu: Duration::MAX, ..options });
        Ok(Some(Worker::new(&runner, loaded)))
    }

    /// The same as [`Sandbox::prepare`] for a component that was prepared before, with the same options: nothing is loaded or
    /// started.
    pub fn runner(&self, code: &Code, options: RunnerOptions) -> Runner {
        Runner::new(code.clone(), &self.0.node, options)
    }

    /// Tells of compiled files that a request needed and that could not be loaded. Only the first caller is told.
    pub(crate) fn lost(&self) -> UnboundedReceiver<PathBuf> {
        self.0.codes.lost()
    }

    /// What is loaded.
    pub fn loaded(&self) -> CodeFigures {
        let shelf = self.0.codes.shelf();
        let (loads, evictions) = shelf.counts();
        CodeFigures { components: shelf.loaded(), bytes: shelf.bytes(), loads, evictions }
    }

    /// How often the clock that interrupts guests has ticked. It stands still while nothing runs.
    pub fn ticks(&self) -> u64 {
        self.0.node.ticker.ticks()
    }
}
