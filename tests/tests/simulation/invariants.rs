//! What must hold at each step, and what must be so once nothing goes wrong any more.

use std::collections::{BTreeMap, BTreeSet};

use skiff_api::resource::{Liveness, Phase, Resources};
use skiff_api::{NodeName, ReplicaKey};
use skiff_scheduler::plan::State;
use skiff_scheduler::plan::liveness::brakes;

use crate::control::Control;
use crate::machine::Machine;

/// What a round of the control plane is judged by.
pub(crate) struct Before {
    lost: usize,
    nodes: usize,
    dead: BTreeSet<NodeName>,
}

impl Before {
    pub(crate) fn of(control: &Control) -> Option<Self> {
        let state = &control.running.as_ref()?.state;
        let with = |liveness: Liveness| {
            state.nodes().iter().filter(move |(_, node)| node.node.is_some() && node.liveness() == liveness)
        };
        let (lost, alive) = (with(Liveness::Suspect).count(), with(Liveness::Alive).count());
        let dead = with(Liveness::Dead).map(|(name, _)| name.clone()).collect();
        Some(Self { lost, nodes: lost + alive, dead })
    }

    pub(crate) fn check(&self, control: &Control) -> Result<(), String> {
        let Some(process) = &control.running else { return Ok(()) };
        if let Some(breach) = process.breaches.first() {
            return Err(breach.clone());
        }
        let is_new = |name: &&NodeName| !self.dead.contains(*name);
        let mut dead =
            process.state.nodes().iter().filter(|(_, node)| node.liveness() == Liveness::Dead).map(|(name, _)| name);
        match dead.find(is_new) {
            Some(name) if brakes(self.lost, self.nodes) => {
                Err(format!("{name} is given up although {} of {} are lost", self.lost, self.nodes))
            }
            _ => capacity(&process.state),
        }
    }
}

/// No node has more placed on it than it has.
fn capacity(state: &State) -> Result<(), String> {
    for (name, node) in state.nodes() {
        let placed = node.replicas.iter().filter_map(|key| {
            let workload = state.workload(&state.owner(key)?)?;
            let revision = workload.revisions.get(&workload.replicas.get(&key.name)?.spec.revision)?;
            Some(revision.template.resources)
        });
        let sum = placed.fold(Resources::ZERO, Resources::plus);
        // One that was never heard has said nothing of what it has.
        if node.node.is_some() && (sum.memory > node.capacity().memory || sum.cpu > node.capacity().cpu) {
            return Err(format!("{name} has {} and {} is placed there", node.capacity().memory, sum.memory));
        }
    }
    Ok(())
}

/// Of what may run in one place only, nothing runs twice.
pub(crate) fn one_holder(machines: &BTreeMap<NodeName, Machine>) -> Result<(), String> {
    let mut holders = BTreeMap::new();
    for machine in machines.values().filter(|machine| machine.is_up) {
        for (service, replica) in machine.holds() {
            if let Some((other, node)) = holders.insert(service, (replica, &machine.name)) {
                let name = &machine.name;
                return Err(format!("{service} runs twice: {replica} on {name} and {other} on {node}"));
            }
        }
    }
    Ok(())
}

/// Fences of a machine only rise.
pub(crate) fn fence(machine: &mut Machine) -> Result<(), String> {
    let fence = machine.desired.fence;
    if fence < machine.newest {
        return Err(format!("{} went back from {:?} to {fence:?}", machine.name, machine.newest));
    }
    machine.newest = fence;
    Ok(())
}

/// Everything is as people wrote it, and each machine runs that and nothing else.
pub(crate) fn converged(control: &Control, machines: &BTreeMap<NodeName, Machine>) -> Result<(), String> {
    let process = control.running.as_ref().ok_or("the control plane is down")?;
    let state = &process.state;
    if let Some((name, _)) =
        state.nodes().iter().find(|(_, node)| node.node.is_some() && node.liveness() != Liveness::Alive)
    {
        return Err(format!("{name} is not alive"));
    }
    for key in control.services() {
        let workload = state.workload(&key).ok_or(format!("{key} is not there"))?;
        let service = workload.service.as_ref().ok_or(format!("{key} has no object"))?;
        let wanted = service.spec.replicas.count().unwrap_or(0) as usize;
        let newest = workload.newest().map(|newest| newest.object.metadata.name.clone()).unwrap_or_default();
        let good = workload
            .replicas
            .values()
            .filter(|one| one.status.phase == Phase::Ready && one.spec.revision.as_str() == newest);
        if (good.count(), workload.replicas.len()) != (wanted, wanted) {
            let all: Vec<String> = workload
                .replicas
                .iter()
                .map(|(name, one)| {
                    format!("{name} on {:?} {:?} moves to {:?}", one.spec.node, one.status.phase, one.spec.moves_to)
                })
                .collect();
            let ran: Vec<_> =
                machines.values().map(|one| (&one.name, &one.observed.running, &one.observed.code)).collect();
            return Err(format!("{key} wants {wanted} of {newest} and has {all:?}; machines run {ran:?}"));
        }
        if service.spec.image.to_string()
            != workload.newest().map(|newest| newest.template.image.to_string()).unwrap_or_default()
        {
            return Err(format!("{key} is not at its newest image"));
        }
    }
    for machine in machines.values() {
        let name = &machine.name;
        let placed: BTreeSet<&ReplicaKey> =
            state.node(name).into_iter().flat_map(|node| node.replicas.iter()).collect();
        let desired: BTreeSet<&ReplicaKey> = machine.desired.items.keys().collect();
        let running: BTreeSet<&ReplicaKey> = machine.observed.running.keys().collect();
        if placed != desired || running != desired || machine.ready() != desired {
            return Err(format!("{name} should run {placed:?}, was told {desired:?}, runs {running:?}"));
        }
    }
    Ok(())
}
