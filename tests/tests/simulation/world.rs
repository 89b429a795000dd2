//! Time, the network, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::{Metadata, Resources, Service, ServiceSpec};
use skiff_api::wire::{Base, Desired, FromNode, ToNode};
use skiff_api::{NodeName, ServiceKey};

use crate::control::{Control, Objects, key, now_of};
use crate::invariants::{self, Before};
use crate::machine::Machine;
use crate::mutant::Mutant;
use crate::rng::Rng;

/// How far the clock goes at once.
const TICK_MS: u64 = 50;
/// When it begins, how long things go wrong, and how long everything may take to be well again.
const START_MS: u64 = 1_000_000;
const FAULTS_MS: u64 = 40_000;
/// The same, where leases lapse meanwhile.
const LONG_FAULTS_MS: u64 = 150_000;
const CALM_MS: u64 = 120_000;
/// After how much silence either side gives a link up.
const SILENCE_MS: u64 = 1_000;
/// More sets of moves than nodes need to lie evenly full.
const REBALANCINGS: usize = 8;
/// Services of these names run in one place only.
const EXCLUSIVE: [&str; 2] = ["s5", "s6"];
/// Messages that may come once more, much later.
const REPLAYED: usize = 60;

/// A connection, in order and without loss while it lasts.
struct Link {
    id: u64,
    broken_since: Option<u64>,
    /// A message was lost, and none has followed that shows it.
    owes: bool,
    to_node: VecDeque<(u64, ToNode)>,
    to_control: VecDeque<(u64, FromNode)>,
}

pub(crate) struct World {
    now_ms: u64,
    rng: Rng,
    control: Control,
    machines: BTreeMap<NodeName, Machine>,
    links: BTreeMap<NodeName, Link>,
    dials: BTreeMap<NodeName, u64>,
    cut: BTreeSet<NodeName>,
    links_made: u64,
    old: VecDeque<(NodeName, ToNode)>,
    backup: Option<Objects>,
    said: String,
    mutant: Option<Mutant>,
    faults_end_ms: u64,
}

impl World {
    /// The error has the whole story.
    pub(crate) fn run(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
        let mut world = Self::new(seed, mutant);
        world.live().map_err(|why| format!("{}\n{why}", world.said))
    }

    /// What happened.
    pub(crate) fn told(seed: u64) -> String {
        let mut world = Self::new(seed, None);
        let outcome = world.live();
        format!("{}{outcome:?}", world.said)
    }

    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut world = Self {
            now_ms: START_MS,
            rng: Rng::new(seed),
            control: Control::new(mutant),
            machines: BTreeMap::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            cut: BTreeSet::new(),
            links_made: 0,
            old: VecDeque::new(),
            backup: None,
            said: String::new(),
            mutant,
            faults_end_ms: START_MS + FAULTS_MS,
        };
        if world.rng.one_in(4) {
            world.faults_end_ms = START_MS + LONG_FAULTS_MS;
        }
        world.start_control();
        for _ in 0..world.rng.between(3, 7) {
            world.add_machine();
        }
        world
    }

    fn say(&mut self, what: impl std::fmt::Display) {
        let at = self.now_ms - START_MS;
        writeln!(self.said, "{at:>7} ms  {what}").unwrap();
    }

    fn live(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            self.new_service();
        }
        while self.now_ms < self.faults_end_ms {
            if self.rng.one_in(16) {
                self.mishap();
            }
            self.tick(true)?;
        }
        self.mend();
        self.until("everything is well again", |world| invariants::converged(&world.control, &world.machines))?;
        // A set is planned anew after each part of it was moved, as the product does: it ends, and then there is nothing left.
        for _ in 0..REBALANCINGS {
            let moved = self.control.rebalance(now_of(self.now_ms));
            if moved == 0 {
                return Ok(());
            }
            self.say(format_args!("{moved} replicas move"));
            self.until("the moves are made", |world| invariants::converged(&world.control, &world.machines))?;
        }
        Err("rebalancing goes round in circles".to_owned())
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> Result<(), String>) -> Result<(), String> {
        let end = self.now_ms + CALM_MS;
        loop {
            self.tick(false)?;
            match is_so(self) {
                Ok(()) if self.control.is_settled() => return Ok(()),
                Err(why) if self.now_ms > end => return Err(format!("{what}, in vain: {why}")),
                Ok(()) if self.now_ms > end => return Err(format!("{what}, and still something is planned")),
                _ => {}
            }
        }
    }

    fn tick(&mut self, is_rough: bool) -> Result<(), String> {
        self.now_ms += TICK_MS;
        self.connect();
        self.deliver();
        let (now_ms, now) = (self.now_ms, now_of(self.now_ms));
        let mut reports = Vec::new();
        for machine in self.machines.values_mut().filter(|machine| machine.is_up) {
            machine.step(now_ms, now, &mut self.rng, is_rough);
            invariants::fence(machine)?;
            reports.extend(machine.report(now, false).map(|report| (machine.name.clone(), report)));
            reports.extend(machine.ask(now_ms).map(|question| (machine.name.clone(), question)));
        }
        invariants::one_holder(&self.machines)?;
        for (node, report) in reports {
            self.send_up(&node, report);
        }
        let before = Before::of(&self.control);
        self.control.round(now_ms);
        if let Some(before) = before {
            before.check(&self.control)?;
        }
        for (node, link, message) in self.control.publish() {
            self.send_down(&node, link, message);
        }
        Ok(())
    }

    // The network.

    fn delay(&mut self) -> u64 {
        if self.rng.one_in(20) { self.rng.between(100, 900) } else { self.rng.between(1, 60) }
    }

    fn send_up(&mut self, node: &NodeName, message: FromNode) {
        let at = self.now_ms + self.delay();
        if let Some(link) = self.links.get_mut(node) {
            link.to_control.push_back((at, message));
        }
    }

    fn send_down(&mut self, node: &NodeName, id: u64, message: ToNode) {
        let at = self.now_ms + self.delay();
        if matches!(message, ToNode::Desired(_)) {
            self.old.push_back((node.clone(), message.clone()));
            if self.old.len() > REPLAYED {
                self.old.pop_front();
            }
        }
        let is_change = matches!(&message, ToNode::Desired(Desired { base: Base::After(_), .. }));
        let is_lost = is_change && self.now_ms < self.faults_end_ms && self.rng.one_in(6);
        if is_lost {
            self.say(format_args!("a message for {node} is lost"));
        }
        if let Some(link) = self.links.get_mut(node).filter(|link| link.id == id) {
            match is_lost {
                true => link.owes = true,
                false => {
                    link.owes &= !matches!(message, ToNode::Desired(_));
                    link.to_node.push_back((at, message));
                }
            }
        }
    }

    fn is_passable(&self, node: &NodeName) -> bool {
        self.control.running.is_some()
            && !self.cut.contains(node)
            && self.machines.get(node).is_some_and(|one| one.is_up)
    }

    /// Links are made, and given up.
    fn connect(&mut self) {
        let names: Vec<NodeName> = self.machines.keys().cloned().collect();
        for name in names {
            let is_passable = self.is_passable(&name);
            let now_ms = self.now_ms;
            if let Some(link) = self.links.get_mut(&name) {
                match (is_passable, link.broken_since) {
                    (true, _) => link.broken_since = None,
                    (false, None) => link.broken_since = Some(now_ms),
                    (false, Some(since)) if now_ms - since >= SILENCE_MS => self.unlink(&name),
                    (false, Some(_)) => {}
                }
            } else if is_passable && self.dials.get(&name).is_none_or(|at| *at <= now_ms) {
                self.links_made += 1;
                let id = self.links_made;
                self.control.opened(&name, id);
                let link =
                    Link { id, broken_since: None, owes: false, to_node: VecDeque::new(), to_control: VecDeque::new() };
                self.links.insert(name.clone(), link);
                let hello =
                    self.machines.get_mut(&name).map(|machine| machine.greet(now_of(now_ms))).unwrap_or_default();
                for message in hello {
                    self.send_up(&name, message);
                }
            }
        }
    }

    fn unlink(&mut self, name: &NodeName) {
        if let Some(link) = self.links.remove(name) {
            self.control.lost(name, link.id, self.now_ms);
            let pause = self.rng.between(200, 2_000);
            self.dials.insert(name.clone(), self.now_ms + pause);
        }
    }

    fn deliver(&mut self) {
        let names: Vec<NodeName> = self.links.keys().cloned().collect();
        for name in names {
            while let Some(message) = self.due(&name, |link| &mut link.to_control) {
                let id = self.links[&name].id;
                for (node, id, message) in self.control.hear(&name, id, message, self.now_ms) {
                    self.send_down(&node, id, message);
                }
            }
            while let Some(message) = self.due(&name, |link| &mut link.to_node) {
                self.hand_over(&name, message);
            }
        }
    }

    fn hand_over(&mut self, name: &NodeName, message: ToNode) {
        let now_ms = self.now_ms;
        let answer = self.machines.get_mut(name).and_then(|machine| machine.receive(message, now_ms));
        if let Some(answer) = answer {
            self.send_up(name, answer);
        }
    }

    fn due<T>(&mut self, name: &NodeName, queue: impl Fn(&mut Link) -> &mut VecDeque<(u64, T)>) -> Option<T> {
        if !self.is_passable(name) {
            return None;
        }
        let now_ms = self.now_ms;
        let queue = queue(self.links.get_mut(name)?);
        match queue.front() {
            Some((at, _)) if *at <= now_ms => queue.pop_front().map(|(_, message)| message),
            _ => None,
        }
    }

    // What happens to it.

    fn start_control(&mut self) {
        let seed = self.rng.next();
        self.control.start(self.now_ms, seed);
    }

    fn add_machine(&mut self) {
        let name = NodeName::new(format!("n{}", self.machines.len() + 1));
        let memory = Bytes::mebi(self.rng.between(12, 24));
        let capacity = Resources { memory, cpu: MilliCpu(4000) };
        self.say(format_args!("{name} joins with {memory}"));
        self.machines.insert(name.clone(), Machine::new(name, capacity, self.mutant));
    }

    fn machine(&mut self, which: impl Fn(&Machine) -> bool) -> Option<NodeName> {
        let names: Vec<NodeName> =
            self.machines.values().filter(|one| which(one)).map(|one| one.name.clone()).collect();
        self.rng.pick(&names).cloned()
    }

    fn new_service(&mut self) {
        let key = key(&format!("s{}", self.rng.between(1, 6)));
        self.write(&key);
    }

    /// Some service of that name: any number, any size, any image.
    fn write(&mut self, key: &ServiceKey) {
        let before = self.control.service(key).map(|service| service.spec.clone());
        let image = format!("{}:1@sha256:{:064x}", key.name, self.rng.between(1, 5));
        let mut spec = before.unwrap_or_else(|| ServiceSpec::new(image.parse().unwrap()));
        // Those of some names may run in one place only.
        spec.exclusive = EXCLUSIVE.contains(&key.name.as_str());
        match self.rng.between(0, 4) {
            0 => spec.image = image.parse().unwrap(),
            1 => spec.replicas = u32::try_from(self.rng.between(0, 5)).unwrap().into(),
            2 => spec.update.unavailable = u32::from(self.rng.one_in(3)),
            _ => {
                spec.replicas = u32::try_from(self.rng.between(1, 5)).unwrap().into();
                spec.resources = Resources { memory: Bytes::mebi(self.rng.between(1, 3)), cpu: MilliCpu(10) };
            }
        }
        if spec.exclusive {
            spec.replicas = spec.replicas.count().unwrap_or(1).min(1).into();
        }
        self.say(format_args!(
            "{key}: {:?} of {} with {}, {} may be missing{}",
            spec.replicas,
            spec.image,
            spec.resources.memory,
            spec.update.unavailable,
            if spec.exclusive { ", exclusive" } else { "" }
        ));
        let service = Service::new(Metadata::new(Some(key.namespace.clone()), key.name.as_str()), spec);
        self.control.write_service(key, Some(service));
    }

    fn mishap(&mut self) {
        match self.rng.between(0, 17) {
            0 | 1 => {
                if let Some(name) = self.machine(|one| one.is_up) {
                    self.say(format_args!("{name} crashes"));
                    self.machines.get_mut(&name).unwrap().crash();
                }
            }
            2 | 3 => {
                if let Some(name) = self.machine(|one| !one.is_up) {
                    self.say(format_args!("{name} boots"));
                    self.boot(&name);
                }
            }
            4 => {
                if let Some(name) = self.machine(|_| true) {
                    self.say(format_args!("{name} is cut off"));
                    self.cut.insert(name);
                }
            }
            5 => {
                let share = self.rng.between(1, 4);
                let names: Vec<NodeName> = self.machines.keys().cloned().collect();
                self.say(format_args!("the network is cut in two"));
                self.cut.extend(
                    names.into_iter().enumerate().filter(|(at, _)| *at as u64 % 4 < share).map(|(_, name)| name),
                );
            }
            6 | 7 if !self.cut.is_empty() => {
                self.say("the network is whole");
                self.cut.clear();
            }
            8 => match self.control.running.is_some() {
                true => self.crash_control(),
                false => self.revive_control(),
            },
            9 => self.revive_control(),
            10 if self.control.running.is_some() => self.new_service(),
            11 if self.control.running.is_some() => {
                let keys = self.control.services();
                if let Some(key) = self.rng.pick(&keys).cloned() {
                    if self.rng.one_in(4) {
                        self.say(format_args!("{key} is deleted"));
                        self.control.write_service(&key, None);
                    } else {
                        self.write(&key);
                    }
                }
            }
            12 if self.control.running.is_some() => {
                let nodes = self.control.nodes();
                if let Some(name) = self.rng.pick(&nodes).cloned() {
                    let drains = self.rng.one_in(2);
                    self.say(format_args!("{name} is {}", if drains { "drained" } else { "open to work" }));
                    self.control.change_node(&name, |spec| (spec.unschedulable, spec.draining) = (drains, drains));
                }
            }
            13 if self.machines.len() < 8 => self.add_machine(),
            14 => {
                // Somebody repeats what was said long ago.
                let at = usize::try_from(self.rng.between(0, self.old.len().max(1) as u64)).unwrap();
                if let Some((name, message)) = self.old.get(at).cloned()
                    && self.machines.get(&name).is_some_and(|one| one.is_up)
                {
                    self.say(format_args!("{name} hears an old message again"));
                    self.hand_over(&name, message);
                }
            }
            15 => {
                self.say("a backup is taken");
                self.backup = Some(self.control.backup());
            }
            16 if self.rng.one_in(2) => {
                if let Some(backup) = self.backup.clone() {
                    self.crash_control();
                    self.say("the backup is restored");
                    self.control.restore(backup);
                    self.start_control();
                }
            }
            _ => {}
        }
    }

    /// Another process: what was its connection is none any more, however soon it is back.
    fn boot(&mut self, name: &NodeName) {
        self.unlink(name);
        self.machines.get_mut(name).expect("it was found").boot();
    }

    fn crash_control(&mut self) {
        self.say("the control plane crashes");
        self.control.crash();
        let linked: Vec<NodeName> = self.links.keys().cloned().collect();
        linked.iter().for_each(|name| self.unlink(name));
    }

    fn revive_control(&mut self) {
        if self.control.running.is_none() {
            self.say("the control plane starts");
            self.start_control();
        }
    }

    /// Nothing goes wrong from now on.
    fn mend(&mut self) {
        self.say("all is mended");
        // A connection ends with what it has lost last.
        let owing: Vec<NodeName> =
            self.links.iter().filter(|(_, link)| link.owes).map(|(name, _)| name.clone()).collect();
        owing.iter().for_each(|name| self.unlink(name));
        self.revive_control();
        self.cut.clear();
        let down: Vec<NodeName> = self.machines.values().filter(|one| !one.is_up).map(|one| one.name.clone()).collect();
        down.iter().for_each(|name| self.boot(name));
        for name in self.control.nodes() {
            self.control.change_node(&name, |spec| (spec.unschedulable, spec.draining) = (false, false));
        }
    }
}
