//! The kernel's rules for the containers of a node.
//!
//! ```text
//! nat     PREROUTING --in by a bridge of ours--> SKIFF-x: to the doorway, for names and the ports of what is granted
//! filter  INPUT      --in by a bridge of ours--> SKIFF-x: what belongs to a connection, or was redirected; the rest is reset
//!         FORWARD      in or out by a bridge of ours: nothing
//! ```
//! All of it is written as a whole each time, in one transaction for each table, so it does not matter what was there
//! before: a node that was killed finds its own rules and replaces them. They are of this node alone, by the names of its
//! bridges and of its chain, and are taken away with its last container. Rules of others are never touched.
//!
//! The program is `iptables`, as the engine uses it. In IPv6, in which containers have no address, all is dropped where there
//! is an `ip6tables`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use skiff_api::grant::Ports;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::door::NAMES;

const V4: &str = "iptables";
const V4_RESTORE: &str = "iptables-restore";
const V6: &str = "ip6tables";
/// Seconds that the programs wait for others that change rules.
const LOCK_SECS: &str = "10";
/// For one of them to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Services are commonly started with less.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The same rule is there once, unless somebody has copied it.
const COPIES_MAX: u32 = 8;

/// What leads to a doorway.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) gateway: Ipv4Addr,
    pub(super) ports: Ports,
    /// Where the doorway listens.
    pub(super) udp: u16,
    pub(super) tcp: u16,
}

/// The ways of a node, by bridge.
pub(super) type Ways = BTreeMap<String, Way>;

/// The rules of one node.
#[derive(Debug)]
pub(super) struct Firewall {
    chain: String,
    /// All of the node's bridges, as rules name them.
    bridges: String,
}

/// A rule in a chain that everybody has.
struct Jump {
    table: &'static str,
    chain: &'static str,
    rule: Vec<String>,
}

impl Firewall {
    /// `own` is in the names of a node's bridges.
    pub(super) fn new(own: &str) -> Self {
        Self { chain: format!("SKIFF-{own}"), bridges: format!("{own}+") }
    }

    /// Puts the rules where they are not, and takes away the ways that are not these. An error is why that cannot be.
    pub(super) async fn set(&self, ways: &Ways) -> Result<(), String> {
        run(V4_RESTORE, &["--noflush", "--wait", LOCK_SECS], Some(&self.text(ways))).await?;
        for jump in self.jumps() {
            self.put(V4, &jump).await?;
        }
        for jump in self.jumps_v6() {
            // A machine without IPv6 needs none.
            if let Err(why) = self.put(V6, &jump).await {
                tracing::debug!(why, "no rules for containers in IPv6");
                break;
            }
        }
        Ok(())
    }

    /// Takes them all away.
    pub(super) async fn clear(&self) {
        for (program, jumps) in [(V4, self.jumps()), (V6, self.jumps_v6())] {
            for jump in jumps {
                for _ in 0..COPIES_MAX {
                    if change(program, &jump, "-D").await.is_err() {
                        break;
                    }
                }
            }
        }
        for table in ["nat", "filter"] {
            for what in ["-F", "-X"] {
                // It may not be there.
                drop(run(V4, &["-w", LOCK_SECS, "-t", table, what, &self.chain], None).await);
            }
        }
    }

    /// First in its chain, unless it is there.
    async fn put(&self, program: &str, jump: &Jump) -> Result<(), String> {
        if change(program, jump, "-C").await.is_ok() {
            return Ok(());
        }
        change(program, jump, "-I").await
    }

    /// What `iptables-restore` reads: naming a chain empties it.
    fn text(&self, ways: &Ways) -> String {
        let chain = &self.chain;
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
        };
        line(format_args!("*filter\n:{chain} - [0:0]"));
        line(format_args!("-A {chain} -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT"));
        line(format_args!("-A {chain} -p tcp -j REJECT --reject-with tcp-reset"));
        line(format_args!("-A {chain} -j REJECT --reject-with icmp-port-unreachable\nCOMMIT"));
        line(format_args!("*nat\n:{chain} - [0:0]"));
        for (bridge, Way { gateway, ports, udp, tcp }) in ways {
            let from = format!("-A {chain} -i {bridge} -d {gateway}/32");
            line(format_args!("{from} -p udp --dport {NAMES} -j REDIRECT --to-ports {udp}"));
            let redirect = format!("-j REDIRECT --to-ports {tcp}");
            match ports {
                Ports::Any => line(format_args!("{from} -p tcp {redirect}")),
                Ports::These(ports) => {
                    for port in [NAMES].iter().chain(ports) {
                        line(format_args!("{from} -p tcp --dport {port} {redirect}"));
                    }
                }
            }
        }
        line(format_args!("COMMIT"));
        text
    }

    fn jumps(&self) -> Vec<Jump> {
        let to_chain = ["-i", &self.bridges, "-j", &self.chain].map(str::to_owned).to_vec();
        let mut jumps = vec![
            Jump { table: "filter", chain: "INPUT", rule: to_chain.clone() },
            Jump { table: "nat", chain: "PREROUTING", rule: to_chain },
        ];
        jumps.extend(self.no_way_through());
        jumps
    }

    fn jumps_v6(&self) -> Vec<Jump> {
        let drop = ["-i", &self.bridges, "-j", "DROP"].map(str::to_owned).to_vec();
        let mut jumps = vec![Jump { table: "filter", chain: "INPUT", rule: drop }];
        jumps.extend(self.no_way_through());
        jumps
    }

    fn no_way_through(&self) -> [Jump; 2] {
        ["-i", "-o"].map(|direction| Jump {
            table: "filter",
            chain: "FORWARD",
            rule: [direction, &self.bridges, "-j", "DROP"].map(str::to_owned).to_vec(),
        })
    }
}

async fn change(program: &str, jump: &Jump, how: &str) -> Result<(), String> {
    let mut args = vec!["-w", LOCK_SECS, "-t", jump.table, how, jump.chain];
    args.extend(jump.rule.iter().map(String::as_str));
    run(program, &args, None).await
}

/// Runs a program to its end. An error says what it said.
async fn run(program: &str, args: &[&str], input: Option<&str>) -> Result<(), String> {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").map_or_else(|_| PATH.to_owned(), |path| format!("{path}:{PATH}"));
    command.args(args).env("PATH", path).kill_on_drop(true);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let done = async {
        let mut child = command.spawn()?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // One that does not read it says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let failed = |why: &dyn std::fmt::Display| format!("{program}: {why}");
    let output = match timeout(PATIENCE, done).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(failed(&"it is not installed")),
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(failed(&"it does not end")),
    };
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(failed(&said.lines().next().unwrap_or("it failed and says nothing").trim()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_lead_from_one_bridge_to_one_doorway() {
        let way = |last: u8, ports| Way { gateway: Ipv4Addr::new(198, 18, 0, last), ports, udp: 4001, tcp: 4002 };
        let ways = Ways::from([
            ("skf1234aaaaaaaa".to_owned(), way(1, Ports::These(vec![80]))),
            ("skf1234bbbbbbbb".to_owned(), way(9, Ports::Any)),
        ]);
        let text = Firewall::new("skf1234").text(&ways);
        let expected = "\
*filter
:SKIFF-skf1234 - [0:0]
-A SKIFF-skf1234 -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT
-A SKIFF-skf1234 -p tcp -j REJECT --reject-with tcp-reset
-A SKIFF-skf1234 -j REJECT --reject-with icmp-port-unreachable
COMMIT
*nat
:SKIFF-skf1234 - [0:0]
-A SKIFF-skf1234 -i skf1234aaaaaaaa -d 198.18.0.1/32 -p udp --dport 53 -j REDIRECT --to-ports 4001
-A SKIFF-skf1234 -i skf1234aaaaaaaa -d 198.18.0.1/32 -p tcp --dport 53 -j REDIRECT --to-ports 4002
-A SKIFF-skf1234 -i skf1234aaaaaaaa -d 198.18.0.1/32 -p tcp --dport 80 -j REDIRECT --to-ports 4002
-A SKIFF-skf1234 -i skf1234bbbbbbbb -d 198.18.0.9/32 -p udp --dport 53 -j REDIRECT --to-ports 4001
-A SKIFF-skf1234 -i skf1234bbbbbbbb -d 198.18.0.9/32 -p tcp -j REDIRECT --to-ports 4002
COMMIT
";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn a_program_that_fails_says_why() {
        let missing = run("skiff-has-no-such-program", &[], None).await.unwrap_err();
        assert_eq!(missing, "skiff-has-no-such-program: it is not installed");
        let failed = run("sh", &["-c", "cat >&2; exit 3"], Some("out of cheese\nmore\n")).await.unwrap_err();
        assert_eq!(failed, "sh: out of cheese");
        assert_eq!(run("sh", &["-c", "read line; test \"$line\" = ok"], Some("ok\n")).await, Ok(()));
    }
}
