//! A fleet: one `skiff server` and some `skiff node`, each a process of its own, and everything a test does to them.
//!
//! ```text
//! FOLDER/              temporary; kept when the test fails
//!   context.json       SKIFF_CONFIG of the server and of every command
//!   server/ server.log
//!   NODE/   NODE.log   data folder and log of each node
//! ```
//! Either all of them are on this machine's loopback, or each is on a machine of its own ([`machines`]): then they can be
//! cut off from one another, and the test's own requests and commands come from one more machine, the client.

pub mod load;
pub mod machines;
pub mod process;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{clean, finish};
use crate::fleet::machines::Machines;
use crate::fleet::process::Process;
use crate::http::{Request, Response};
use crate::places::skiff_binary;
use crate::run::Run;
use crate::wait::eventually;

/// Ports on machines of their own.
const API_PORT: u16 = 7070;
const GATEWAY_PORT: u16 = 8080;
/// In which a server gives nobody up, and a little more.
const GRACE: Duration = Duration::from_secs(31);
const CLIENT: &str = "client";
const SERVER: &str = "server";

/// A server and its nodes; killed, and waited for, when dropped.
#[derive(Debug)]
pub struct Fleet {
    /// Ended before the machines that they are on.
    server: Option<Process>,
    nodes: BTreeMap<String, Node>,
    machines: Option<Machines>,
    api: SocketAddr,
    server_args: Vec<String>,
    /// When the server was ready, last.
    since: Instant,
    /// None only while it is dropped.
    folder: Option<TempDir>,
}

#[derive(Debug)]
struct Node {
    process: Option<Process>,
    gateway: SocketAddr,
    args: Vec<String>,
}

/// A replica, as `get replicas` has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    pub name: String,
    pub service: String,
    pub node: String,
    pub phase: String,
}

impl Fleet {
    /// A server on this machine's loopback, ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn on_loopback() -> Self {
        Self::on_loopback_with(&[])
    }

    /// The same with more arguments of `skiff server`.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn on_loopback_with(server_args: &[&str]) -> Self {
        Self::start(None, server_args)
    }

    /// A server on a machine of its own, ready; nothing, and a loud word, where there cannot be such machines.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn on_machines(test: &str) -> Option<Self> {
        Self::on_machines_with(test, &[])
    }

    /// The same with more arguments of `skiff server`.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn on_machines_with(test: &str, server_args: &[&str]) -> Option<Self> {
        let mut machines = match Machines::new() {
            Ok(machines) => machines,
            Err(why) => {
                eprintln!("SKIPPED: {test} did NOT run: {why}");
                return None;
            }
        };
        machines.add(SERVER);
        machines.add(CLIENT);
        Some(Self::start(Some(machines), server_args))
    }

    fn start(machines: Option<Machines>, server_args: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("skiff-fleet-").tempdir().expect("there is room for a folder");
        let api = match &machines {
            Some(machines) => SocketAddr::new(IpAddr::V4(machines.address(SERVER)), API_PORT),
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        let server_args = server_args.iter().map(|&arg| arg.to_owned()).collect();
        let nodes = BTreeMap::new();
        let since = Instant::now();
        let mut fleet = Self { server: None, nodes, machines, api, server_args, since, folder: Some(folder) };
        fleet.start_server();
        fleet
    }

    /// Starts the server, the first time or again, where it listened before.
    ///
    /// # Panics
    /// When it is running, or does not get ready.
    #[track_caller]
    pub fn start_server(&mut self) {
        assert!(self.server.is_none(), "the server is running");
        let mut command = self.command_on(SERVER, &["server", "--listen", &self.api.to_string(), "--data"]);
        command.arg(self.path(SERVER)).args(&self.server_args);
        let mut process = Process::spawn("`skiff server`", command, &self.path("server.log"));
        let line = process.ready();
        let api = line.strip_prefix("ready api=https://").and_then(|rest| rest.split(' ').next()?.parse().ok());
        self.api = api.unwrap_or_else(|| panic!("a first line that is not ready: {line:?}"));
        self.server = Some(process);
        self.since = Instant::now();
    }

    /// Waits until the server has known its nodes for long enough to give one up.
    #[track_caller]
    pub fn until_past_grace(&self) {
        eventually("the grace after the server's start is over", || (self.since.elapsed() > GRACE).then_some(()));
    }

    /// Ends the server as a crash does.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn kill_server(&mut self) {
        self.server.take().expect("the server is running").kill9();
    }

    /// Ends the server in order, and returns its exit code.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn terminate_server(&mut self) -> Option<i32> {
        self.server.take().expect("the server is running").terminate()
    }

    /// The server's address for nodes and commands.
    pub fn server_url(&self) -> String {
        format!("https://{}", self.api)
    }

    /// A token for one node.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn token(&self) -> String {
        self.skiff(&["token", "create", "--node"]).ok().stdout.trim().to_owned()
    }

    /// A new node with a new token, ready and linked.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn join(&mut self, name: &str, args: &[&str]) {
        self.join_with(name, &self.token(), args);
    }

    /// The same, with a token that there is.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn join_with(&mut self, name: &str, token: &str, args: &[&str]) {
        self.plug(name);
        let url = self.server_url();
        let all = [&["--join", &url, "--token", token, "--name", name], args].concat();
        let node = Node { process: None, gateway: self.nowhere(name), args: owned(&all) };
        self.nodes.insert(name.to_owned(), node);
        self.start_node(name);
        // It has its identity, and never needs the token again.
        let node = self.nodes.get_mut(name).expect("it was just inserted");
        node.args = owned(args);
        self.until_liveness(name, "Alive");
    }

    /// A machine for a node, where there are machines.
    pub fn plug(&mut self, name: &str) {
        if let Some(machines) = &mut self.machines {
            machines.add(name);
        }
    }

    /// Where a node's gateway may listen.
    fn nowhere(&self, name: &str) -> SocketAddr {
        match &self.machines {
            Some(machines) => SocketAddr::new(IpAddr::V4(machines.address(name)), GATEWAY_PORT),
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }

    /// Starts a node again on its data folder, where its gateway listened before. It serves when this returns.
    ///
    /// # Panics
    /// When it is running, or does not get ready.
    #[track_caller]
    pub fn start_node(&mut self, name: &str) {
        self.start_node_that_says(name);
    }

    /// The same, with the line in which it says that it is ready.
    ///
    /// # Panics
    /// When it is running, or does not get ready.
    #[track_caller]
    pub fn start_node_that_says(&mut self, name: &str) -> String {
        let gateway = self.nodes[name].gateway.to_string();
        let args = self.nodes[name].args.clone();
        assert!(self.nodes[name].process.is_none(), "node {name} is running");
        let mut command = self.node_command(name, &gateway);
        command.args(args);
        let mut process = Process::spawn(&format!("node {name}"), command, &self.path(&format!("{name}.log")));
        let line = process.ready();
        let gateway = line.split_once(" gateway=http://").filter(|_| line.starts_with("ready node="));
        let gateway = gateway.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let node = self.nodes.get_mut(name).expect("it was started");
        node.gateway = gateway.unwrap_or_else(|| panic!("a first line that is not ready: {line:?}"));
        node.process = Some(process);
        line
    }

    /// `skiff node` on that machine and its data folder, for tests of starts that fail.
    pub fn node_command(&self, name: &str, gateway: &str) -> Command {
        let mut command = self.command_on(name, &["node", "--gateway", gateway, "--data"]);
        command.arg(self.path(name));
        if self.machines.is_none() {
            // The usual port is there once for all of them.
            command.args(["--peer", "127.0.0.1:0"]);
        }
        command
    }

    /// Ends a node as a crash does.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn kill_node(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).expect("there is such a node");
        node.process.take().expect("the node is running").kill9();
    }

    /// Ends a node in order, and returns its exit code.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn terminate_node(&mut self, name: &str) -> Option<i32> {
        let node = self.nodes.get_mut(name).expect("there is such a node");
        node.process.take().expect("the node is running").terminate()
    }

    /// The process of a node.
    ///
    /// # Panics
    /// When it is not running.
    pub fn node(&mut self, name: &str) -> &mut Process {
        self.nodes.get_mut(name).and_then(|node| node.process.as_mut()).expect("the node is running")
    }

    /// The process of a node.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn pid_of(&self, name: &str) -> u32 {
        self.nodes.get(name).and_then(|node| node.process.as_ref()).expect("the node is running").pid()
    }

    pub fn node_names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// What a node logged since it started last.
    ///
    /// # Panics
    /// When it is not running.
    pub fn node_log(&self, name: &str) -> String {
        self.nodes[name].process.as_ref().expect("the node is running").log()
    }

    /// The process id of the server.
    ///
    /// # Panics
    /// When it is not running.
    pub fn server_pid(&self) -> u32 {
        self.server.as_ref().expect("the server is running").pid()
    }

    /// What the server logged since it started last.
    ///
    /// # Panics
    /// When it is not running.
    pub fn server_log(&self) -> String {
        self.server.as_ref().expect("the server is running").log()
    }

    /// The machines.
    ///
    /// # Panics
    /// When the fleet is on loopback.
    pub fn machines(&self) -> &Machines {
        self.machines.as_ref().expect("the fleet is on machines")
    }

    pub fn gateway(&self, node: &str) -> SocketAddr {
        self.nodes[node].gateway
    }

    /// Does something where clients are.
    #[track_caller]
    pub fn as_client<T: Send>(&self, doing: impl FnOnce() -> T + Send) -> T {
        match &self.machines {
            Some(machines) => machines.on(CLIENT, doing),
            None => doing(),
        }
    }

    /// What a node's gateway answers to `GET path` for this host, if it answers.
    pub fn get(&self, node: &str, host: &str, path: &str) -> Option<Response> {
        let gateway = self.gateway(node);
        self.as_client(|| Request::new(gateway, "GET", path).host(host).send().ok())
    }

    /// Asks until a node's gateway answers so.
    ///
    /// # Panics
    /// When it never does.
    #[track_caller]
    pub fn eventually_answers(&self, node: &str, host: &str, path: &str, status: u16) -> Response {
        let what = format!("node {node} answers {path} of {host} with {status}");
        eventually(&what, || self.get(node, host, path).filter(|response| response.status == status))
    }

    /// Runs a command against this fleet to its end.
    #[track_caller]
    pub fn skiff(&self, args: &[&str]) -> Run {
        finish(self.command_on(CLIENT, args), args, b"")
    }

    /// As [`Fleet::skiff`], with these bytes as standard input.
    #[track_caller]
    pub fn skiff_with_input(&self, args: &[&str], input: &[u8]) -> Run {
        finish(self.command_on(CLIENT, args), args, input)
    }

    /// A command against this fleet, for tests that talk to it as it runs. Killing and waiting for it is the test's part.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_on(CLIENT, args)
    }

    fn command_on(&self, machine: &str, args: &[&str]) -> Command {
        let program = skiff_binary();
        let mut command = match &self.machines {
            Some(machines) => machines.command(machine, &program),
            None => Command::new(program),
        };
        command.args(args);
        clean(&mut command, self.root());
        command
    }

    /// All replicas that there are, sorted.
    #[track_caller]
    pub fn replicas(&self) -> Vec<Placed> {
        let list = self.skiff(&["get", "replicas", "-A", "-o", "json"]).ok().json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let placed = |item: &Value| Placed {
            name: text(&item["metadata"]["name"]),
            service: text(&item["spec"]["service"]),
            node: text(&item["spec"]["node"]),
            phase: text(&item["status"]["phase"]),
        };
        let mut all: Vec<_> = list["items"].as_array().into_iter().flatten().map(placed).collect();
        all.sort();
        all
    }

    /// Asks until the replicas are so, and returns them.
    ///
    /// # Panics
    /// When they never are, with what they are.
    #[track_caller]
    pub fn until_replicas(&self, what: &str, is_so: impl Fn(&[Placed]) -> bool) -> Vec<Placed> {
        let mut last = Vec::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(what, || {
                last = self.replicas();
                is_so(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("{what}: {last:#?}\nserver:\n{}", self.server_log()))
    }

    /// Asks until a node is so.
    ///
    /// # Panics
    /// When it never is.
    #[track_caller]
    pub fn until_liveness(&self, name: &str, liveness: &str) {
        eventually(&format!("node {name} is {liveness}"), || (self.liveness(name) == liveness).then_some(()));
    }

    pub fn liveness(&self, name: &str) -> String {
        let node = self.skiff(&["get", "node", name, "-o", "json"]);
        match node.code {
            Some(0) => node.json()["status"]["liveness"].as_str().unwrap_or_default().to_owned(),
            _ => String::new(),
        }
    }

    fn root(&self) -> &Path {
        self.folder.as_ref().expect("only a drop takes the folder").path()
    }

    /// A path in the test's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file into the test's own folder, and returns its path as text.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("the file can be written");
        path.to_str().expect("temporary folders have plain names").to_owned()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take()
            && thread::panicking()
        {
            eprintln!("kept {}", folder.keep().display());
        }
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}
