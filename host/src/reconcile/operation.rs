//! The operations that a plan asks for, each from its beginning to its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skiff_api::Digest;
use skiff_api::id::{ReplicaKey, Uid};
use skiff_api::quantity::Span;
use skiff_api::resource::{Health, Template};
use skiff_api::wire::Assignment;
use skiff_registry::Client;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::told::Told;
use super::worker::Halt;
use crate::artifact::{Artifacts, Distrust, PullError, Pulled, Terms};
use crate::capabilities::{Buckets, Outbound, Reach, Stores};
use crate::compile::{CompileError, Compiler};
use crate::docker::{self, Callee, Containers, Exit, Keep};
use crate::gateway::{Checked, Driver, Target};
use crate::health;
use crate::logs::{Logs, Sink};
use crate::metrics::Metrics;
use crate::plan::{CodeStage, Retry};
use crate::sandbox::{LoadError, PrepareError, Report, Runner, RunnerOptions, Sandbox, Worker};
use crate::tunnel::Tunnels;

/// Pulls at once: they share one uplink, and the first ones should be finished before the last ones begin.
const PULLS_MAX: usize = 4;

/// The first pause before a damaged component is pulled again, and the longest. Nothing waits for it: its code is there.
const REPAIR_PAUSE: Duration = Duration::from_secs(10);
const REPAIR_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// What operations work with.
pub(crate) struct Tools {
    artifacts: Artifacts,
    client: Client,
    compiler: Compiler,
    sandbox: Sandbox,
    containers: Option<Containers>,
    logs: Logs,
    metrics: Arc<Metrics>,
    reach: Arc<Reach>,
    told: Told,
    stores: Stores,
    tunnels: Option<Arc<dyn Tunnels>>,
    /// How long requests in flight, and workers that know of it, may take when their replica stops.
    drain: Duration,
    pulls: Semaphore,
    /// A start maps a file and runs a guest: more than a few for each core only wait for one another.
    starts: Semaphore,
}

/// What came of an operation.
pub(crate) enum Outcome {
    Pulled(Digest, Result<Pulled, PullError>),
    Compiled(Digest, Result<Duration, CompileError>),
    /// The component on disk was not what was pulled, and is gone; its code has not been made.
    Damaged(Digest),
    /// All components were read again.
    Verified(Vec<Repaired>),
    Started(ReplicaKey, Result<Begun, StartError>),
    /// A worker's run is over.
    Ended(ReplicaKey, Report),
    Stopped(ReplicaKey),
    /// A container ended by itself.
    Exited(ReplicaKey, Uid, Exit),
    /// One is not well any more.
    Ailing(ReplicaKey, Uid, Exit),
    /// Whether a replica that runs could start again, now that other people must have signed its image.
    Rechecked(ReplicaKey, Result<(), StartError>),
    /// Compiled code that could not be loaded is gone; how far the rest of it is.
    Discarded(Digest, CodeStage),
    Collected(Vec<Digest>),
}

/// What can now be done with a replica.
pub(crate) enum Begun {
    /// Requests may be put to it.
    Target(Arc<Target>),
    /// It may be run.
    Worker(Worker),
}

/// A component that was not what was pulled, though its code was made before.
pub(crate) struct Repaired {
    pub(crate) digest: Digest,
    /// What came of pulling it again, if somebody needs it.
    pub(crate) pulled: Option<Result<Pulled, PullError>>,
}

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The code was discarded; how far the rest of it is.
    #[error("failed to load the compiled code; it is made again")]
    Load(CodeStage, #[source] LoadError),
    #[error("failed to prepare the component")]
    Prepare(#[source] PrepareError),
    /// The second is why a registry could not help.
    #[error("the image may not run here: {0}{more}", more = .1.as_ref().map(|why| format!("; {why}")).unwrap_or_default())]
    NotSigned(#[source] Distrust, Option<String>),
    /// Everything made from it was discarded.
    #[error("{0}; it is pulled again")]
    Tampered(#[source] Distrust),
    #[error("there is no {} to be read (hint: apply it again, in the namespace of the service)", .0.join(" and no "))]
    Settings(Vec<String>),
    #[error(transparent)]
    Docker(#[from] docker::Error),
    #[error("it was not well within {within}: {why}")]
    Unhealthy { within: Span, why: String },
    #[error("the thread that loads code was stopped")]
    Thread(#[source] JoinError),
    /// Nothing is wrong with it.
    #[error("the node lost its lease")]
    Lapsed,
}

impl StartError {
    /// Whether trying again can help. Where the component is to blame, the same one will fail again.
    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::Prepare(PrepareError::Start(failure)) if failure.is_costly() => Retry::Rarely,
            Self::Load(..)
            | Self::Thread(_)
            | Self::NotSigned(..)
            | Self::Tampered(_)
            | Self::Settings(_)
            | Self::Docker(_)
            | Self::Unhealthy { .. }
            | Self::Lapsed
            | Self::Prepare(PrepareError::Start(_)) => Retry::Later,
            Self::Prepare(_) => Retry::Never,
        }
    }

    /// One word for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NotSigned(..) => "NotSigned",
            Self::Tampered(_) => "ArtifactTampered",
            Self::Settings(_) => "SettingsMissing",
            Self::Docker(error) => error.reason(),
            Self::Unhealthy { .. } => "Unhealthy",
            _ => "StartFailed",
        }
    }
}

impl Tools {
    pub(crate) fn new(
        (artifacts, client): (Artifacts, Client),
        compiler: Compiler,
        (sandbox, containers): (Sandbox, Option<Containers>),
        (logs, metrics, reach): (Logs, Arc<Metrics>, Arc<Reach>),
        (stores, tunnels): (Stores, Option<Arc<dyn Tunnels>>),
        drain: Duration,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (pulls, starts) = (Semaphore::new(PULLS_MAX), Semaphore::new(2 * cores));
        let told = Told::default();
        Self {
            artifacts,
            client,
            compiler,
            sandbox,
            containers,
            logs,
            metrics,
            reach,
            told,
            stores,
            tunnels,
            drain,
            pulls,
            starts,
        }
    }

    /// What replicas are told.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }

    pub(crate) fn tunnels(&self) -> Option<Arc<dyn Tunnels>> {
        self.tunnels.clone()
    }

    pub(crate) fn containers(&self) -> Option<Containers> {
        self.containers.clone()
    }

    pub(crate) async fn pull(self: Arc<Self>, repository: String, digest: Digest) -> Outcome {
        // Nobody closes the semaphores.
        let _slot = self.pulls.acquire().await.ok();
        let pulled = self.artifacts.pull(&self.client, &repository, &digest).await;
        Outcome::Pulled(digest, pulled)
    }

    pub(crate) async fn compile(self: Arc<Self>, digest: Digest) -> Outcome {
        let started = Instant::now();
        if !self.is_whole(&digest, |_| {}).await {
            return Outcome::Damaged(digest);
        }
        let (wasm, code) = (self.artifacts.wasm(&digest), self.artifacts.code(&digest));
        let compiled = self.compiler.compile(&wasm, &code).await;
        Outcome::Compiled(digest, compiled.map(|()| started.elapsed()))
    }

    /// Whether a component is what was pulled; one that is not is removed.
    async fn is_whole(&self, digest: &Digest, pause: impl Fn(Duration) + Send + 'static) -> bool {
        let (artifacts, of) = (self.artifacts.clone(), digest.clone());
        let checked = spawn_blocking(move || {
            let is_whole = artifacts.is_whole(&of, pause);
            if !is_whole {
                artifacts.discard_wasm(&of);
            }
            is_whole
        });
        // One that could not be looked at is believed.
        checked.await.unwrap_or(true)
    }

    /// Reads components again whose code was made in an earlier run, and pulls what is damaged from where it is used.
    /// Without it the node would serve, until its compiled code is of no use to a newer version of it.
    pub(crate) async fn verify(self: Arc<Self>, compiled: BTreeMap<Digest, Option<String>>) -> Outcome {
        let mut repaired = Vec::new();
        for (digest, repository) in compiled {
            // As long again as a part took to read, so that a small disk is there for others half of the time.
            if self.is_whole(&digest, std::thread::sleep).await {
                continue;
            }
            tracing::warn!(%digest, "a component on disk is damaged");
            let pulled = match repository {
                Some(repository) => {
                    let _slot = self.pulls.acquire().await.ok();
                    Some(self.pull_patiently(&repository, &digest).await)
                }
                None => None,
            };
            repaired.push(Repaired { digest, pulled });
        }
        Outcome::Verified(repaired)
    }

    /// A node that has just started may not have its network yet.
    async fn pull_patiently(&self, repository: &str, digest: &Digest) -> Result<Pulled, PullError> {
        let mut pause = REPAIR_PAUSE;
        loop {
            match self.artifacts.pull(&self.client, repository, digest).await {
                Err(PullError::Registry { source, .. }) if !source.is_not_found() && pause <= REPAIR_PAUSE_MAX => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                pulled => return pulled,
            }
        }
    }

    /// `brake` ends a start that may not go on: what a container begins runs before anybody hears of it.
    pub(crate) async fn start(
        self: Arc<Self>,
        assignment: Assignment,
        digest: Digest,
        brake: CancellationToken,
    ) -> Outcome {
        if let Some(settings) = assignment.settings.as_ref().filter(|settings| !settings.missing.is_empty()) {
            return Outcome::Started(assignment.replica, Err(StartError::Settings(settings.missing.clone())));
        }
        if assignment.template.is_container() {
            let started = match brake.run_until_cancelled(self.start_container(&assignment, &digest)).await {
                Some(started) => started,
                None => {
                    if let Some(containers) = &self.containers {
                        containers.end(&assignment.replica, &assignment.uid, &brake).await;
                    }
                    Err(StartError::Lapsed)
                }
            };
            return Outcome::Started(assignment.replica, started.map(Begun::Target));
        }
        let slot = self.starts.acquire().await.ok();
        let started = match self.trusted(&assignment, &digest).await {
            Err(error) => Err(error),
            Ok(()) => match self.start_proven(&assignment, &digest) {
                Some(target) => Ok(Begun::Target(target)),
                None => self.try_start(&assignment, digest).await,
            },
        };
        // One that is slow to be well keeps nobody else waiting.
        drop(slot);
        let started = match (started, &assignment.template.health) {
            (Ok(Begun::Target(target)), Some(health)) => {
                brake.run_until_cancelled(well(target, health)).await.unwrap_or(Err(StartError::Lapsed))
            }
            (started, _) => started,
        };
        Outcome::Started(assignment.replica, started)
    }

    /// No place is taken for it: it waits for the engine, and for a program that comes up as slowly as it likes.
    async fn start_container(&self, assignment: &Assignment, digest: &Digest) -> Result<Arc<Target>, StartError> {
        let containers = self.containers.as_ref().ok_or(docker::Error::NoEngine)?;
        let replica = &assignment.replica;
        let logs = Sink::new(self.logs.open(replica, &assignment.service));
        let outbound = Outbound::new(assignment, logs.clone(), self.reach.clone());
        let address = containers.start(assignment, digest, (&logs, &outbound)).await?;
        let figures = self.metrics.replica(replica, &assignment.service_key());
        let callee = Driver::Docker(Box::new(Callee::new(address, logs, outbound, figures)));
        Ok(Arc::new(Target::new(replica.clone(), assignment.service_key(), callee, &assignment.template)))
    }

    /// Waits until a component is not well any more, or has stopped.
    pub(crate) async fn look_after(self: Arc<Self>, target: Arc<Target>, uid: Uid, health: Health) -> Outcome {
        let (replica, checked) = (target.replica().clone(), Checked::new(&target, health.path.as_deref()));
        drop(target);
        let started = Instant::now();
        let message = health::ails(&health, &checked).await;
        if !checked.is_there() {
            return Outcome::Rechecked(replica, Ok(()));
        }
        Outcome::Ailing(replica, uid, Exit { reason: "Unhealthy", message, ran: started.elapsed() })
    }

    /// Waits until a container ends by itself, and removes what is left of it; or until it is not well any more.
    pub(crate) async fn watch(self: Arc<Self>, replica: ReplicaKey, uid: Uid, template: Arc<Template>) -> Outcome {
        let Some(containers) = &self.containers else { return std::future::pending().await };
        let ended = tokio::select! {
            exit = containers.watch(&replica, &uid) => Ok(exit),
            exit = containers.ails(&replica, &uid, &template) => Err(exit),
        };
        match ended {
            Ok(exit) => {
                containers.forget(&replica, &uid).await;
                Outcome::Exited(replica, uid, exit)
            }
            Err(exit) => Outcome::Ailing(replica, uid, exit),
        }
    }

    /// Ends a replica that is not well, which nobody sends anything any more.
    pub(crate) async fn give_up(
        self: Arc<Self>,
        (replica, uid): (ReplicaKey, Uid),
        target: Option<Arc<Target>>,
        (exit, brake): (Exit, CancellationToken),
    ) -> Outcome {
        match (&self.containers, target) {
            (Some(containers), Some(target)) if target.is_container() => {
                containers.end(&replica, &uid, &brake).await;
            }
            (_, Some(target)) => target.drain(self.drain, &brake).await,
            (_, None) => {}
        }
        Outcome::Exited(replica, uid, exit)
    }

    /// Removes containers that are this node's and nobody's any more.
    pub(crate) fn sweep(&self, wanted: BTreeSet<Uid>) -> impl Future<Output = ()> + Send + 'static {
        let containers = self.containers.clone();
        async move {
            if let Some(containers) = containers {
                containers.sweep(wanted).await;
            }
        }
    }

    /// Whose volumes stay is known anew.
    pub(crate) fn keep(&self, change: impl FnOnce(&mut Keep)) {
        if let Some(containers) = &self.containers {
            containers.keep(change);
        }
    }

    /// Removes volumes that nobody wants any more, for as long as it is asked to.
    pub(crate) fn sweep_volumes(&self) -> impl Future<Output = ()> + Send + 'static {
        let containers = self.containers.clone();
        async move {
            if let Some(containers) = containers {
                containers.sweep_volumes().await;
            }
        }
    }

    /// As [`Tools::evidenced`], before a start: what was changed on the disk is discarded.
    async fn trusted(&self, assignment: &Assignment, digest: &Digest) -> Result<(), StartError> {
        let trusted = self.evidenced(assignment, digest).await;
        if matches!(trusted, Err(StartError::Tampered(_))) {
            let (artifacts, of) = (self.artifacts.clone(), digest.clone());
            let discarded = spawn_blocking(move || {
                artifacts.discard_wasm(&of);
                artifacts.discard_code(&of);
            });
            discarded.await.map_err(StartError::Thread)?;
        }
        trusted
    }

    /// Whether the image is signed as the policies of its namespace want it, and is on disk as it was signed. What is
    /// missing for that is fetched.
    async fn evidenced(&self, assignment: &Assignment, digest: &Digest) -> Result<(), StartError> {
        let Err(distrust) = self.verified(assignment, digest).await? else { return Ok(()) };
        if !distrust.may_be_fetched() {
            return Err(StartError::Tampered(distrust));
        }
        let repository = assignment.template.image.repository_in(assignment.replica.namespace.as_str());
        match self.artifacts.fetch_evidence(&self.client, &repository, digest).await {
            Err(error) => Err(StartError::NotSigned(distrust, Some(chain(&error)))),
            Ok(()) => {
                self.verified(assignment, digest).await?.map_err(|distrust| StartError::NotSigned(distrust, None))
            }
        }
    }

    async fn verified(&self, assignment: &Assignment, digest: &Digest) -> Result<Result<(), Distrust>, StartError> {
        let Some(trust) = assignment.trust.clone() else { return Ok(Ok(())) };
        let (artifacts, of) = (self.artifacts.clone(), digest.clone());
        spawn_blocking(move || artifacts.verify(&of, &trust)).await.map_err(StartError::Thread)
    }

    /// Asks the same of a replica that runs. It goes on, whatever comes of it; what is missing is fetched in time.
    pub(crate) async fn recheck(self: Arc<Self>, assignment: Assignment, digest: Digest) -> Outcome {
        // A container's signatures are asked for when it starts.
        if assignment.template.is_container() {
            return Outcome::Rechecked(assignment.replica, Ok(()));
        }
        let _slot = self.starts.acquire().await.ok();
        let checked = self.evidenced(&assignment, &digest).await.map_err(|error| match error {
            // It is in use: nothing is discarded yet.
            StartError::Tampered(distrust) => StartError::NotSigned(distrust, None),
            error => error,
        });
        Outcome::Rechecked(assignment.replica, checked)
    }

    /// The replica without an operation, if nothing has to be found out: its code started here before, on the same terms.
    /// It is loaded when the first request comes.
    pub(crate) fn start_proven(&self, assignment: &Assignment, digest: &Digest) -> Option<Arc<Target>> {
        let lacks_settings = assignment.settings.as_ref().is_some_and(|settings| !settings.missing.is_empty());
        // Whether it is well has to be found out each time.
        let is_checked = assignment.template.health.is_some();
        if lacks_settings || is_checked || !self.artifacts.is_proven(digest, Terms::of(&assignment.template)) {
            return None;
        }
        let code = self.sandbox.known(&self.artifacts.code(digest));
        Some(self.target(assignment, self.sandbox.runner(&code, self.options(assignment))))
    }

    async fn try_start(&self, assignment: &Assignment, digest: Digest) -> Result<Begun, StartError> {
        let path = self.artifacts.code(&digest);
        let (sandbox, artifacts, of) = (self.sandbox.clone(), self.artifacts.clone(), digest.clone());
        // Large files are read here, and not by whoever answers requests.
        let loaded = spawn_blocking(move || {
            sandbox.load(Path::new(&path)).map_err(|error| StartError::Load(artifacts.discard_code(&of), error))
        });
        let code = loaded.await.map_err(StartError::Thread)??;
        let options = self.options(assignment);
        let prepared = match self.sandbox.worker(&code, options.clone()).await {
            // It is loaded in any case when it starts, so there is nothing to prove.
            Ok(Some(worker)) => return Ok(Begun::Worker(worker)),
            Ok(None) => self.sandbox.prepare(&code, options).await,
            Err(error) => Err(error),
        };
        let (artifacts, terms) = (self.artifacts.clone(), Terms::of(&assignment.template));
        match prepared {
            Ok(runner) => {
                // A proof that could not be written costs the next start of the node a start of the component.
                drop(spawn_blocking(move || artifacts.prove(&digest, terms)).await);
                Ok(Begun::Target(self.target(assignment, runner)))
            }
            Err(PrepareError::Load(error)) => {
                let stage = spawn_blocking(move || artifacts.discard_code(&digest)).await;
                Err(StartError::Load(stage.map_err(StartError::Thread)?, error))
            }
            Err(error) => Err(StartError::Prepare(error)),
        }
    }

    fn options(&self, assignment: &Assignment) -> RunnerOptions {
        let replica = &assignment.replica;
        let logs = Sink::new(self.logs.open(replica, &assignment.service));
        let outbound = Outbound::new(assignment, logs.clone(), self.reach.clone());
        let mut options = RunnerOptions::new(assignment.template.clone(), logs);
        options.outbound = outbound;
        options.settings = self.told.live(replica);
        let (template, ways) = (assignment.template.clone(), (&self.reach, &options.settings));
        options.buckets = Buckets::new(self.stores.clone(), replica.namespace.clone(), template, ways);
        options.figures = self.metrics.replica(replica, &assignment.service_key());
        options
    }

    fn target(&self, assignment: &Assignment, runner: Runner) -> Arc<Target> {
        let driver = Driver::Wasm(runner);
        Arc::new(Target::new(assignment.replica.clone(), assignment.service_key(), driver, &assignment.template))
    }

    /// Removes compiled code that a request could not load.
    pub(crate) async fn discard(self: Arc<Self>, digest: Digest) -> Outcome {
        let (artifacts, of) = (self.artifacts.clone(), digest.clone());
        let stage = spawn_blocking(move || artifacts.discard_code(&of)).await;
        Outcome::Discarded(digest, stage.unwrap_or(CodeStage::Pulled))
    }

    /// What is in a compiled file.
    pub(crate) fn digest_of_code(&self, path: &Path) -> Option<Digest> {
        self.artifacts.digest_of_code(path)
    }

    /// Compiled files that requests could not load. For one listener.
    pub(crate) fn lost(&self) -> UnboundedReceiver<PathBuf> {
        self.sandbox.lost()
    }

    /// Runs a worker until it ends, or until some while after it is to stop.
    pub(crate) async fn run(self: Arc<Self>, replica: ReplicaKey, worker: Worker, stop: Halt) -> Outcome {
        let report = worker.run(stop.soon, self.drain, stop.now, stop.console).await;
        Outcome::Ended(replica, report)
    }

    /// Serves other nodes for a while longer, and then waits for what is in flight. With the brake, it waits for nothing.
    pub(crate) async fn stop(
        self: Arc<Self>,
        (replica, uid): (ReplicaKey, Option<Uid>),
        target: Option<Arc<Target>>,
        (linger, brake): (Duration, CancellationToken),
    ) -> Outcome {
        if !linger.is_zero() {
            brake.run_until_cancelled(tokio::time::sleep(linger)).await;
        }
        if let Some(target) = target {
            target.drain(self.drain, &brake).await;
        }
        if let (Some(containers), Some(uid)) = (&self.containers, &uid) {
            containers.end(&replica, uid, &brake).await;
        }
        let (logs, stopped) = (self.logs.clone(), replica.clone());
        // It only tidies up: the replica is gone, whether that works or not.
        drop(spawn_blocking(move || logs.stop(&stopped)).await);
        Outcome::Stopped(replica)
    }

    pub(crate) async fn collect(self: Arc<Self>, named: BTreeSet<Digest>) -> Outcome {
        let artifacts = self.artifacts.clone();
        let collected = spawn_blocking(move || artifacts.collect(&named)).await;
        let gone = match collected.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok(gone) => gone,
            Err(error) => {
                tracing::warn!(%error, "failed to remove artifacts that nobody uses");
                Vec::new()
            }
        };
        Outcome::Collected(gone)
    }
}

/// The target, once it is well.
async fn well(target: Arc<Target>, health: &Health) -> Result<Begun, StartError> {
    let within = health.start;
    let checked = Checked::new(&target, health.path.as_deref());
    let is_well = health::recovers(health, Instant::now() + within.as_duration(), &checked).await;
    is_well.map(|()| Begun::Target(target)).map_err(|why| StartError::Unhealthy { within, why })
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
