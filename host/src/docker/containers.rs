//! The containers of this node: started, adopted, watched, stopped, and removed where nobody wants them any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerState};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder, WaitContainerOptions,
};
use futures_util::StreamExt;
use jiff::Timestamp;
use skiff_api::Digest;
use skiff_api::id::{ReplicaKey, Uid};
use skiff_api::resource::{Template, http_port};
use skiff_api::wire::{Assignment, Exec};
use skiff_disk::Disk;
use skiff_registry::Client;
use skiff_registry::sign::judge;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, PATIENCE};
use super::error::Error;
use super::files::Files;
use super::health::Patient;
use super::image::{self, Source};
use super::volume::{self, Keep};
use super::{exec, logs, network, shape};
use crate::capabilities::Outbound;
use crate::doorway::{self, Doorways, Place};
use crate::logs::Sink;
use crate::tunnel::{Flow, Input};

/// How long a container may take to end after it was asked to. Then it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How long it may take to listen.
const READY_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether it listens: seldom enough to cost nothing, often enough that nobody waits for it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often it is asked about meanwhile.
const INSPECT_AGAIN: Duration = Duration::from_millis(500);
/// It is on this machine: a connection is there at once, or the container does not take any.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// What it wrote last is there within this.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The code of whom SIGKILL ended.
const KILLED: i64 = 137;
/// How often, and how soon, it is asked again why.
const REASON_LOOKS: u32 = 5;
const REASON_AGAIN: Duration = Duration::from_millis(200);
/// Pauses where an engine does not answer.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A container's owner.
pub(crate) struct Owner {
    pub(crate) node: Uid,
    pub(crate) engine: Engine,
    pub(crate) client: Client,
    pub(crate) disk: Disk,
    /// A folder for layers on their way; what is in it goes at the start.
    pub(crate) scratch: PathBuf,
    /// A folder for what containers look names up by.
    pub(crate) names: PathBuf,
}

/// The containers of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Containers(Arc<Inner>);

struct Inner {
    owner: Owner,
    /// Those that this process has begun with.
    known: Mutex<BTreeSet<Uid>>,
    /// Who reads along.
    readers: Mutex<BTreeMap<Uid, JoinHandle<()>>>,
    /// Loads under way: whoever wants the same image waits for it.
    loads: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Whose volumes stay.
    keep: watch::Sender<Keep>,
    files: Files,
    /// Containers that this process has written files for.
    made: Mutex<BTreeSet<String>>,
    doorways: Doorways,
}

/// How a container ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// How long it had been watched.
    pub(crate) ran: Duration,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let readers = self.readers.get_mut().unwrap_or_else(PoisonError::into_inner);
        readers.values().for_each(JoinHandle::abort);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Containers {
    /// Blocks.
    pub(crate) fn new(owner: Owner) -> Self {
        image::clean(&owner.disk, &owner.scratch);
        let doorways = Doorways::new(owner.node.clone(), owner.names.clone());
        let (known, readers, loads) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (keep, _) = watch::channel(Keep::default());
        let (files, made) = (Files::of(&owner.node), Mutex::default());
        Self(Arc::new(Inner { owner, known, readers, loads, keep, files, made, doorways }))
    }

    fn engine(&self) -> &Engine {
        &self.0.owner.engine
    }

    fn name(&self, replica: &ReplicaKey, uid: &Uid) -> String {
        shape::name(&self.0.owner.node, replica, uid)
    }

    /// Runs the replica's container, or goes on with the one that runs. When this returns, it listens; the address is that of
    /// its port for requests.
    pub(crate) async fn start(
        &self,
        assignment: &Assignment,
        digest: &Digest,
        (sink, outbound): (&Sink, &Outbound),
    ) -> Result<Option<SocketAddr>, Error> {
        let memory = shape::memory(assignment);
        if shape::is_little(memory) {
            return Err(Error::LittleMemory { memory });
        }
        locked(&self.0.known).insert(assignment.uid.clone());
        let name = self.name(&assignment.replica, &assignment.uid);
        let found = self.inspect(&name).await?;
        let running = found.filter(is_running).and_then(|found| address(&found, &name));
        let started = async {
            if let Some(IpAddr::V4(address)) = running {
                self.open(&name, assignment, (doorway::gateway_of(address), outbound)).await?;
                self.read_along(&name, assignment, sink, Some(Timestamp::now()));
            } else {
                self.remove(&name).await?;
                self.admit(assignment, digest).await?;
                self.create(&name, assignment, digest, outbound).await?;
                self.read_along(&name, assignment, sink, None);
            }
            self.listens(&name, assignment).await
        };
        let started = started.await;
        if started.is_err() {
            self.last_words(&assignment.uid).await;
            self.forget(&assignment.replica, &assignment.uid).await;
        }
        started
    }

    /// The image: signed as it must be, and with the engine.
    async fn admit(&self, assignment: &Assignment, digest: &Digest) -> Result<(), Error> {
        let Owner { client, disk, scratch, engine, .. } = &self.0.owner;
        let repository = assignment.template.image.repository_in(assignment.replica.namespace.as_str());
        if let Some(trust) = &assignment.trust {
            let attached = client
                .signatures(&repository, digest)
                .await
                .map_err(|error| Error::Pull { image: format!("{repository}@{digest}"), source: Box::new(error) })?;
            judge(trust, digest, &attached).map_err(|refusal| Error::NotSigned(Box::new(refusal)))?;
        }
        let load = {
            let mut loads = locked(&self.0.loads);
            loads.retain(|_, load| Arc::strong_count(load) > 1);
            Arc::clone(loads.entry(digest.clone()).or_default())
        };
        let _turn = load.lock().await;
        if image::is_there(engine, digest).await? {
            return Ok(());
        }
        image::load(engine, &Source { client, disk, scratch, repository: &repository, digest }).await
    }

    /// What it may reach is there before it is. Returns the file that it looks names up by.
    async fn open(
        &self,
        name: &str,
        assignment: &Assignment,
        (gateway, outbound): (Ipv4Addr, &Outbound),
    ) -> Result<Option<PathBuf>, Error> {
        let place = Place { container: name, uid: &assignment.uid, gateway };
        Ok(self.0.doorways.open(place, &assignment.template.allow, outbound).await?)
    }

    async fn create(
        &self,
        name: &str,
        assignment: &Assignment,
        digest: &Digest,
        outbound: &Outbound,
    ) -> Result<(), Error> {
        let node = &self.0.owner.node;
        look(assignment).await?;
        let epoch = self.0.keep.borrow().epoch;
        volume::make(self.engine(), node, assignment, epoch).await?;
        let bridge = doorway::bridge(node, &assignment.uid);
        let gateway = network::create(self.engine(), (name, bridge), &shape::labels(node, assignment)).await?;
        let names = self.open(name, assignment, (gateway, outbound)).await?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        locked(&self.0.made).insert(name.to_owned());
        let (files, settings) = (&self.0.files, assignment.settings.as_deref());
        files.remove(name);
        files.write(name, settings).map_err(|source| Error::Files { source })?;
        let mounts = files.mounts(name, settings);
        let body = shape::body(node, assignment, (shape::image(digest), names.as_deref()), mounts, cores);
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let create = async |docker: bollard::Docker| docker.create_container(Some(options), body).await;
        let made = async {
            self.engine().ask("create a container", create).await?;
            let start =
                async |docker: bollard::Docker| docker.start_container(name, None::<StartContainerOptions>).await;
            self.engine().ask("start a container", start).await?;
            look(assignment).await
        };
        made.await
    }

    /// Waits until it takes connections and is well, as long as it runs.
    async fn listens(&self, name: &str, assignment: &Assignment) -> Result<Option<SocketAddr>, Error> {
        let started = Instant::now();
        let template = &assignment.template;
        let http = http_port(&template.ports);
        let first = template.ports.first().map(|port| port.port);
        let most = template.health.as_ref().map_or(READY_MAX, |health| health.start.as_duration());
        loop {
            let Some(found) = self.inspect(name).await? else {
                return Err(Error::Exited("somebody removed its container".to_owned()));
            };
            if !is_running(&found) {
                return Err(Error::Exited(self.ended(name, found.state.as_ref()).await.message));
            }
            let (port, ip) = (http.or(first), address(&found, name));
            let mut why = None;
            match (port, ip) {
                (None, _) if template.health.is_none() => return Ok(None),
                (_, Some(ip)) => {
                    let until = Instant::now() + INSPECT_AGAIN;
                    match self.is_up(name, assignment, ip, port, until).await {
                        Ok(()) => return Ok(http.map(|http| SocketAddr::new(ip, http))),
                        Err(wrong) => why = wrong,
                    }
                }
                (_, None) => sleep(LOOK_AGAIN).await,
            }
            if started.elapsed() > most {
                let lines = logs::tail(self.engine(), name).await;
                return Err(match (why, port) {
                    (None, Some(port)) => Error::NotListening { port, after: most, lines },
                    (why, _) => Error::Unhealthy { why: why.unwrap_or_default(), after: most, lines },
                });
            }
        }
    }

    /// Whether it takes connections, and is well. An error is what is wrong with its health, if it got so far.
    async fn is_up(
        &self,
        name: &str,
        assignment: &Assignment,
        ip: IpAddr,
        port: Option<u16>,
        until: Instant,
    ) -> Result<(), Option<String>> {
        if let Some(port) = port {
            loop {
                let dialled = timeout(INSPECT_AGAIN, TcpStream::connect((ip, port))).await;
                if matches!(dialled, Ok(Ok(_))) {
                    break;
                }
                if Instant::now() > until {
                    return Err(None);
                }
                sleep(LOOK_AGAIN).await;
            }
        }
        match self.patient(name, &assignment.template, ip) {
            Some(patient) => patient.recovers(until).await.map_err(Some),
            None => Ok(()),
        }
    }

    fn patient<'a>(&'a self, name: &'a str, template: &'a Template, ip: IpAddr) -> Option<Patient<'a>> {
        let health = template.health.as_ref()?;
        Some(Patient { engine: self.engine(), name, ip, http: http_port(&template.ports), health })
    }

    /// Returns once a replica's container is to be replaced, because it is not well any more.
    pub(crate) async fn ails(&self, replica: &ReplicaKey, uid: &Uid, template: &Template) -> Exit {
        if template.health.is_none() {
            return std::future::pending().await;
        }
        let (name, started) = (self.name(replica, uid), Instant::now());
        let ip = loop {
            if let Ok(Some(found)) = self.inspect(&name).await
                && let Some(ip) = address(&found, &name)
            {
                break ip;
            }
            sleep(PAUSE).await;
        };
        let why = match self.patient(&name, template, ip) {
            Some(patient) => patient.ails().await,
            None => std::future::pending().await,
        };
        let lines = logs::tail(self.engine(), &name).await;
        Exit { reason: "Unhealthy", message: format!("{why}; {lines}"), ran: started.elapsed() }
    }

    /// Returns when the container has ended by itself, or was removed. An engine that does not answer says nothing about it.
    pub(crate) async fn watch(&self, replica: &ReplicaKey, uid: &Uid) -> Exit {
        let (name, started) = (self.name(replica, uid), Instant::now());
        let mut pause = PAUSE;
        let found = loop {
            let wait =
                async |docker: bollard::Docker| Ok(docker.wait_container(&name, None::<WaitContainerOptions>).boxed());
            if let Ok(mut ends) = self.engine().ask("wait for a container", wait).await {
                // It may take for ever, which is as it should be.
                drop(ends.next().await);
            }
            match self.inspect(&name).await {
                Ok(Some(found)) if is_running(&found) => {}
                Ok(found) => break found,
                Err(error) => tracing::debug!(name, %error, "cannot see whether a container runs"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        };
        let mut exit = match found {
            Some(found) => self.ended(&name, found.state.as_ref()).await,
            None => {
                Exit { reason: "Exited", message: "somebody removed its container".to_owned(), ran: Duration::ZERO }
            }
        };
        exit.ran = started.elapsed();
        self.last_words(uid).await;
        exit
    }

    /// Runs a command in a replica's container.
    pub(crate) async fn exec(&self, uid: &Uid, exec: &Exec) -> Result<(Flow, impl Input), Error> {
        let session = exec::begin(self.engine(), &self.name(&exec.replica, uid), exec).await?;
        Ok((session.output, session.input))
    }

    /// A connection to a port of a replica's container.
    pub(crate) async fn dial(&self, replica: &ReplicaKey, uid: &Uid, port: u16) -> Result<TcpStream, Error> {
        let name = self.name(replica, uid);
        let found = self.inspect(&name).await?.filter(is_running);
        let Some(ip) = found.and_then(|found| address(&found, &name)) else {
            return Err(Error::Exited("its container does not run".to_owned()));
        };
        match timeout(DIAL_MAX, TcpStream::connect((ip, port))).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Error::NoConnection { port, why: error.to_string() }),
            Err(_) => Err(Error::NoConnection { port, why: format!("no answer within {} s", DIAL_MAX.as_secs()) }),
        }
    }

    async fn ended(&self, name: &str, state: Option<&ContainerState>) -> Exit {
        let lines = logs::tail(self.engine(), name).await;
        let code = state.and_then(|state| state.exit_code).unwrap_or_default();
        let is_oom = state.and_then(|state| state.oom_killed).unwrap_or_default()
            || code == KILLED && self.was_out_of_memory(name).await;
        let error = state.and_then(|state| state.error.clone()).filter(|error| !error.is_empty());
        let (reason, what) = match (is_oom, error) {
            (true, _) => ("OutOfMemory", "it was killed at its memory limit (hint: raise limits.memory)".to_owned()),
            // Engines lose the kernel's word sometimes.
            (false, _) if code == KILLED => {
                let hint = "(hint: the kernel does that at its memory limit, limits.memory; else somebody did)";
                ("Killed", format!("it was killed, code {code} {hint}"))
            }
            (false, Some(error)) => ("Exited", format!("it ended with code {code}: {error}")),
            (false, None) => ("Exited", format!("it ended with code {code}")),
        };
        Exit { reason, message: format!("{what}; {lines}"), ran: Duration::ZERO }
    }

    /// Asks again of one that was killed: an engine may hear of its end before it hears why.
    async fn was_out_of_memory(&self, name: &str) -> bool {
        for _ in 0..REASON_LOOKS {
            sleep(REASON_AGAIN).await;
            let state = self.inspect(name).await.ok().flatten().and_then(|found| found.state);
            if state.and_then(|state| state.oom_killed).unwrap_or_default() {
                return true;
            }
        }
        false
    }

    /// Ends the container of a replica that is not wanted any more: it is asked to, then killed, and removed. With the brake,
    /// it is not asked. Goes on until that is so, however long the engine is away.
    pub(crate) async fn end(&self, replica: &ReplicaKey, uid: &Uid, brake: &CancellationToken) {
        if !locked(&self.0.known).contains(uid) {
            return;
        }
        let name = self.name(replica, uid);
        let mut pause = PAUSE;
        loop {
            let ended = match brake.run_until_cancelled(self.stop(&name, uid)).await {
                Some(ended) => ended,
                None => self.remove(&name).await,
            };
            let Err(error) = ended else { break };
            tracing::warn!(name, %error, "failed to stop a container; trying again");
            // What may not go on is not waited for.
            let longest = if brake.is_cancelled() { PAUSE } else { PAUSE_MAX };
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        self.last_words(uid).await;
        self.0.doorways.close(uid).await;
        locked(&self.0.known).remove(uid);
    }

    async fn stop(&self, name: &str, uid: &Uid) -> Result<(), Error> {
        let options = StopContainerOptionsBuilder::default().t(GRACE.as_secs() as i32).build();
        let stop = async |docker: bollard::Docker| docker.stop_container(name, Some(options)).await;
        match self.engine().ask_for("stop a container", GRACE + PATIENCE, stop).await {
            // 304: it had ended.
            Ok(()) | Err(Error::Refused { status: 304 | 404, .. }) => {}
            Err(error) => return Err(error),
        }
        self.last_words(uid).await;
        self.remove(name).await
    }

    /// Removes what is left of a container that has ended: nobody may want another one.
    pub(crate) async fn forget(&self, replica: &ReplicaKey, uid: &Uid) {
        let name = self.name(replica, uid);
        match self.remove(&name).await {
            Ok(()) => drop(locked(&self.0.known).remove(uid)),
            // The next start of the replica or of the node removes it.
            Err(error) => tracing::warn!(name, %error, "a container that has ended is still there"),
        }
        self.0.doorways.close(uid).await;
    }

    /// Removes what this node's replicas have left that are not wanted any more. Once, as soon as the engine answers.
    pub(crate) async fn sweep(&self, wanted: BTreeSet<Uid>) {
        let mut pause = PAUSE;
        while let Err(error) = self.try_sweep(&wanted).await {
            tracing::debug!(%error, "cannot look for containers that were left; trying again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_sweep(&self, wanted: &BTreeSet<Uid>) -> Result<(), Error> {
        let label = format!("{}={}", shape::NODE, self.0.owner.node.as_str());
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let list = async |docker: bollard::Docker| docker.list_containers(Some(options)).await;
        let found = self.engine().ask("list containers", list).await?;
        let is_wanted = |labels: &HashMap<String, String>| {
            let uid = labels.get(shape::REPLICA).map(Uid::new);
            uid.is_some_and(|uid| wanted.contains(&uid) || locked(&self.0.known).contains(&uid))
        };
        let mut left = self.0.files.all();
        let mut kept = Vec::new();
        for container in found {
            let name = container.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            let name = name.trim_start_matches('/').to_owned();
            if is_wanted(&container.labels.unwrap_or_default()) {
                left.remove(&name);
                kept.push(name);
                continue;
            }
            tracing::info!(name, "removes a container that nobody wants any more");
            self.remove(&name).await?;
        }
        let is_made = |name: &&String| !locked(&self.0.made).contains(*name);
        left.iter().filter(is_made).for_each(|name| self.0.files.remove(name));
        // A container has its network before it is there.
        for left in network::list(self.engine(), "label", &label).await? {
            if !is_wanted(&left.labels) {
                network::remove(self.engine(), &left.name).await?;
            }
        }
        self.0.doorways.sweep(kept).await;
        Ok(())
    }

    /// Whose volumes stay is known anew.
    pub(crate) fn keep(&self, change: impl FnOnce(&mut Keep)) {
        self.0.keep.send_if_modified(|keep| {
            let before = keep.clone();
            change(keep);
            *keep != before
        });
    }

    /// Removes volumes that nobody wants any more, for as long as it is asked to.
    pub(crate) async fn sweep_volumes(self) {
        let mut changes = self.0.keep.subscribe();
        loop {
            let mut pause = PAUSE;
            changes.mark_unchanged();
            loop {
                if self.0.keep.borrow().services.is_none() {
                    break;
                }
                let swept = volume::sweep(self.engine(), &self.0.owner.node, || self.0.keep.borrow().clone()).await;
                match swept {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => tracing::debug!(%error, "cannot look for volumes; trying again"),
                }
                // What is said meanwhile is looked at at once.
                let Err(_) = timeout(pause, changes.changed()).await else {
                    pause = PAUSE;
                    continue;
                };
                pause = (pause * 2).min(PAUSE_MAX);
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Kills and removes it, and its network. It may be gone.
    async fn remove(&self, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let remove = async |docker: bollard::Docker| docker.remove_container(name, Some(options)).await;
        match self.engine().ask("remove a container", remove).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        self.0.files.remove(name);
        locked(&self.0.made).remove(name);
        network::remove(self.engine(), name).await?;
        self.0.doorways.forget(name).await;
        Ok(())
    }

    async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        let inspect =
            async |docker: bollard::Docker| docker.inspect_container(name, None::<InspectContainerOptions>).await;
        match self.engine().ask("inspect a container", inspect).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_along(&self, name: &str, assignment: &Assignment, sink: &Sink, since: Option<Timestamp>) {
        let reader = tokio::spawn(logs::follow(self.engine().clone(), name.to_owned(), sink.clone(), since));
        if let Some(before) = locked(&self.0.readers).insert(assignment.uid.clone(), reader) {
            before.abort();
        }
    }

    /// Until all is read that a container wrote which has ended.
    async fn last_words(&self, uid: &Uid) {
        let reader = locked(&self.0.readers).remove(uid);
        if let Some(mut reader) = reader
            && timeout(LAST_WORDS, &mut reader).await.is_err()
        {
            reader.abort();
        }
    }
}

/// Reading a disk may take its time.
async fn look(assignment: &Assignment) -> Result<(), Error> {
    let assignment = assignment.clone();
    spawn_blocking(move || volume::look(&assignment)).await.unwrap_or(Ok(()))
}

fn is_running(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().and_then(|state| state.running).unwrap_or_default()
}

fn address(found: &ContainerInspectResponse, network: &str) -> Option<IpAddr> {
    found.network_settings.as_ref()?.networks.as_ref()?.get(network)?.ip_address.as_ref()?.parse().ok()
}
