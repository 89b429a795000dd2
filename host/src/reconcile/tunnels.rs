//! Tunnels to what runs here: a task's standard streams, a command in a container, a replica's port.
//!
//! Each is a task of its own. What it leads to is looked up at once and opened after that, as an engine may take its time;
//! whoever asked learns why where that fails.

use std::sync::Arc;

use skiff_api::id::{ReplicaKey, Uid};
use skiff_api::wire::{Exec, FromNode, TunnelTo};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::actor::Reconciler;
use super::operation::chain;
use crate::docker::Containers;
use crate::gateway::{Target, serve_one};
use crate::tunnel::{self, Flow, Input, Tunnels};

/// Tunnels of a node at once. People dig them; a browser at a forwarded port takes a dozen.
const TUNNELS_MAX: usize = 256;
/// What is under way between a tunnel and a component.
const BUFFER_BYTES: usize = 64 << 10;

/// How many tunnels there may be yet.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TUNNELS_MAX)))
    }
}

/// A tunnel in the making.
struct Dug {
    id: u64,
    tunnels: Arc<dyn Tunnels>,
    refusals: mpsc::Sender<FromNode>,
    _room: OwnedSemaphorePermit,
}

impl Dug {
    async fn connect(self, output: Flow, input: impl Input) {
        tunnel::connect(&*self.tunnels, self.id, output, input).await;
    }

    /// Nobody is waited for: where there is no room for it, whoever asked learns it later.
    fn refuse(self, why: String) {
        let _ = self.refusals.try_send(FromNode::NoTunnel { id: self.id, why });
    }
}

impl Reconciler {
    /// Somebody wants to talk to something here.
    pub(super) fn take_up(&self, id: u64, to: TunnelTo, refusals: mpsc::Sender<FromNode>) {
        if let Err(why) = self.try_take_up(id, to, &refusals) {
            let _ = refusals.try_send(FromNode::NoTunnel { id, why });
        }
    }

    fn try_take_up(&self, id: u64, to: TunnelTo, refusals: &mpsc::Sender<FromNode>) -> Result<(), String> {
        let Some(tunnels) = self.tools.tunnels() else { return Err("this node takes up no tunnels".to_owned()) };
        let Ok(room) = self.room.0.clone().try_acquire_owned() else {
            return Err(format!("{TUNNELS_MAX} other tunnels are open on this node (hint: end some of them)"));
        };
        let dug = Dug { id, tunnels, refusals: refusals.clone(), _room: room };
        match to {
            TunnelTo::Task(replica) => self.attach(dug, &replica),
            TunnelTo::Exec(exec) => self.exec(dug, exec),
            TunnelTo::Port { replica, port } => self.forward(dug, replica, port),
        }
    }

    fn attach(&self, dug: Dug, replica: &ReplicaKey) -> Result<(), String> {
        let Some(halt) = self.workers.get(replica) else { return Err(format!("task {replica} does not run here")) };
        let Some(console) = &halt.console else { return Err(format!("task {replica} takes no clients")) };
        let Some(client) = console.attach() else {
            return Err(format!("a client is, or was, attached to task {replica}, or it has run without one"));
        };
        let keyboard = client.keyboard();
        tokio::spawn(dug.connect(tunnel::output_of(client), keyboard));
        Ok(())
    }

    fn exec(&self, dug: Dug, exec: Exec) -> Result<(), String> {
        let Some((uid, containers)) = self.container(&exec.replica)? else {
            let why = "is a component: there is no process in it that could run a command";
            return Err(format!("replica {} {why} (hint: see `skiff logs`)", exec.replica));
        };
        tokio::spawn(async move {
            match containers.exec(&uid, &exec).await {
                Ok((output, input)) => dug.connect(output, input).await,
                Err(error) => dug.refuse(chain(&error)),
            }
        });
        Ok(())
    }

    fn forward(&self, dug: Dug, replica: ReplicaKey, port: u16) -> Result<(), String> {
        if let Some((uid, containers)) = self.container(&replica)? {
            tokio::spawn(async move {
                match containers.dial(&replica, &uid, port).await {
                    Ok(stream) => {
                        let (output, input) = tunnel::halves(stream);
                        dug.connect(output, input).await;
                    }
                    Err(error) => dug.refuse(chain(&error)),
                }
            });
            return Ok(());
        }
        let Some((_, target)) = self.targets.get(&replica) else {
            return Err(format!("replica {replica} answers no requests: it is a worker, or not ready"));
        };
        let target: Arc<Target> = target.clone();
        let (theirs, ours) = tokio::io::duplex(BUFFER_BYTES);
        tokio::spawn(serve_one(target, ours));
        let (output, input) = tunnel::halves(theirs);
        tokio::spawn(dug.connect(output, input));
        Ok(())
    }

    /// The container of a replica that runs here; none where that is a component.
    fn container(&self, replica: &ReplicaKey) -> Result<Option<(Uid, Containers)>, String> {
        let running = self.observed.running.get(replica).zip(self.desired.items.get(replica));
        let Some((running, assignment)) = running.filter(|(running, wanted)| running.uid == wanted.uid) else {
            return Err(format!("replica {replica} does not run here"));
        };
        if !assignment.template.is_container() {
            return Ok(None);
        }
        let containers = self.tools.containers().ok_or("this node has no Docker engine")?;
        Ok(Some((running.uid.clone(), containers)))
    }
}
