//! Machines for a fleet, as network namespaces behind one switch.
//!
//! ```text
//!   [server] 10.83.0.2 ──┐
//!   [node-1] 10.83.0.3 ──┼── bridge in a namespace of its own
//!   [client] 10.83.0.4 ──┘
//! ```
//! Nothing of the machine that the test runs on is touched: no address, route or rule of its own. A program runs in a
//! namespace by `ip netns exec`, a thread of the test by entering it. All namespaces are gone when this is dropped; those
//! of a test that was killed go when the next one begins.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Tells the fleets of one test program apart.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// What each namespace of ours begins with; the process id follows.
const PREFIX: &str = "skifftest-";

/// Where `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

#[derive(Debug)]
pub struct Machines {
    prefix: String,
    addresses: BTreeMap<String, Ipv4Addr>,
}

impl Machines {
    /// A switch, and no machine yet. The error says what this machine lacks.
    ///
    /// # Errors
    /// Without root, or without `ip` or `iptables`.
    pub fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        for program in ["ip", "iptables"] {
            let found = Command::new(program).arg("-V").output();
            found.map_err(|error| format!("there is no {program} (packages iproute2 and iptables): {error}"))?;
        }
        remove_left_overs();
        let prefix = format!("{PREFIX}{}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let machines = Self { prefix, addresses: BTreeMap::new() };
        let switch = machines.namespace("switch");
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        Ok(machines)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// One more machine, plugged in.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn add(&mut self, name: &str) -> Ipv4Addr {
        let number = u8::try_from(self.addresses.len() + 2).expect("a test has a few machines");
        let address = Ipv4Addr::new(10, 83, 0, number);
        let (own, switch, port) = (self.namespace(name), self.namespace("switch"), format!("p{number}"));
        let network = format!("{address}/24");
        let steps: [&[&str]; 7] = [
            &["netns", "add", &own],
            &["-n", &own, "link", "set", "lo", "up"],
            &["-n", &own, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &switch],
            &["-n", &switch, "link", "set", &port, "master", "br0"],
            &["-n", &switch, "link", "set", &port, "up"],
            &["-n", &own, "addr", "add", &network, "dev", "eth0"],
            &["-n", &own, "link", "set", "eth0", "up"],
        ];
        for step in steps {
            ip(step).unwrap_or_else(|error| panic!("{error}"));
        }
        self.addresses.insert(name.to_owned(), address);
        address
    }

    /// # Panics
    /// When there is no such machine.
    pub fn address(&self, name: &str) -> Ipv4Addr {
        self.addresses[name]
    }

    /// A program on a machine. The process that is started becomes the program.
    pub fn command(&self, name: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(name)]).arg(program);
        command
    }

    /// The same for a program that needs the machine's own file system, of which `ip` hides parts: all else but the network
    /// is as it is here.
    pub fn command_beside(&self, name: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={NAMES}/{}", self.namespace(name))).arg(program);
        command
    }

    /// Does something on a machine, in a thread of its own.
    ///
    /// # Panics
    /// When that does.
    #[track_caller]
    pub fn on<T: Send>(&self, name: &str, doing: impl FnOnce() -> T + Send) -> T {
        let path = Path::new(NAMES).join(self.namespace(name));
        let done = thread::scope(|scope| scope.spawn(move || enter(&path, doing)).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Whether everything that a machine sends and gets is lost from now on, without a word to anybody.
    ///
    /// # Panics
    /// When the rules cannot be changed.
    #[track_caller]
    pub fn cut(&self, name: &str, is_cut: bool) {
        for (chain, direction) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            let change = if is_cut { "-A" } else { "-D" };
            let rule = ["iptables", "-w", change, chain, direction, "eth0", "-j", "DROP"];
            let own = self.namespace(name);
            let exec = [&["netns", "exec", &own][..], &rule].concat();
            ip(&exec).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Whether a part of what a machine sends and gets, in percent, is lost from now on.
    ///
    /// # Panics
    /// When the rules cannot be changed.
    #[track_caller]
    pub fn lose(&self, name: &str, percent: u32, is_lost: bool) {
        let (own, share) = (self.namespace(name), format!("{:.2}", f64::from(percent) / 100.0));
        for (chain, direction) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            let change = if is_lost { "-A" } else { "-D" };
            let chance = ["-m", "statistic", "--mode", "random", "--probability", &share];
            let rule = ["iptables", "-w", change, chain, direction, "eth0", "-j", "DROP"];
            let exec = [&["netns", "exec", &own][..], &rule, &chance].concat();
            ip(&exec).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        remove(|name| name.starts_with(&self.prefix));
    }
}

/// What the threads of a namespace do.
fn enter<T>(path: &Path, doing: impl FnOnce() -> T) -> T {
    let namespace = File::open(path).expect("the namespace is there");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
    doing()
}

/// Namespaces of test programs that are gone.
fn remove_left_overs() {
    let is_gone = |name: &str| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    remove(is_gone);
}

fn remove(which: impl Fn(&str) -> bool) {
    let names = fs::read_dir(NAMES).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| which(name)) {
        // Somebody else may have been faster.
        drop(ip(&["netns", "del", &name]));
    }
}

fn ip(args: &[&str]) -> Result<Output, String> {
    let command = format!("ip {}", args.join(" "));
    let output =
        Command::new("ip").args(args).output().map_err(|error| format!("failed to run `{command}`: {error}"))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!("`{command}` failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn machines_reach_one_another_until_one_is_cut_off() {
        let mut machines = match Machines::new() {
            Ok(machines) => machines,
            Err(why) => {
                eprintln!("SKIPPED: {why}");
                return;
            }
        };
        let address = machines.add("a");
        machines.add("b");
        let listener = machines.on("a", || TcpListener::bind((address, 4000)).unwrap());
        let reach = |within: Duration| {
            machines.on("b", || {
                let to = (address, 4000).into();
                let mut stream = TcpStream::connect_timeout(&to, within).ok()?;
                listener.accept().unwrap().0.write_all(b"!").unwrap();
                let mut said = String::new();
                stream.read_to_string(&mut said).ok()?;
                Some(said)
            })
        };
        // A packet may be lost while the switch learns its machines; the next try follows a second later.
        let (is_there, is_gone) = (Duration::from_secs(20), Duration::from_millis(300));
        assert_eq!(reach(is_there).as_deref(), Some("!"));
        machines.cut("b", true);
        assert_eq!(reach(is_gone), None);
        machines.cut("b", false);
        assert_eq!(reach(is_there).as_deref(), Some("!"));
        let namespace = machines.namespace("a");
        drop(machines);
        assert!(!Path::new(NAMES).join(namespace).exists());
    }
}
