//! Names that lead elsewhere than they seem to, or elsewhere than a moment ago.
//!
//! The cluster runs with a file of hosts of its own, in a mount namespace, so that a case can change what a name means
//! between two requests as an attacker's name server does. Only root may make one: who is not skips these cases, and is
//! told so.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::case::{Attack, Case, Lane, case};
use crate::client::{ask, request};
use crate::world::World;

const REFUSED: &str = "skiff_outbound_refused_total";
/// Makes the file the machine's, for the process that comes after it.
const BIND: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";

/// The file of hosts.
pub(crate) struct Names {
    path: PathBuf,
    /// Nothing to see for a process that cannot have a file of its own.
    possible: bool,
    /// Cases change it in turns.
    turn: Mutex<()>,
}

impl Names {
    pub(crate) fn new(folder: &Path) -> Self {
        let path = folder.join("hosts");
        fs::write(&path, padded("127.0.0.1 localhost\n")).unwrap();
        let mut names = Self { path, possible: true, turn: Mutex::default() };
        let around = names.around();
        let tried = Command::new(around[0]).args(&around[1..]).arg("true").output();
        names.possible = tried.is_ok_and(|output| output.status.success());
        if !names.possible {
            eprintln!("SKIPPED: names that lead elsewhere (hint: they need root, and `unshare` of util-linux)");
        }
        names
    }

    /// What has to come before the command that is to see this file; nothing where it cannot.
    pub(crate) fn around(&self) -> Vec<&str> {
        let path = self.path.to_str().unwrap();
        let around = ["unshare", "--mount", "--propagation", "private", "sh", "-c", BIND, path];
        if self.possible { around.to_vec() } else { Vec::new() }
    }

    /// In place, as it is this very file that is mounted, and in one piece, as others read it meanwhile.
    fn set(&self, name: &str, address: &str) {
        let text = format!("127.0.0.1 localhost\n{address} {name}\n");
        File::options().write(true).open(&self.path).unwrap().write_all_at(padded(&text).as_bytes(), 0).unwrap();
    }
}

/// Always as long: what was there before is written over.
fn padded(text: &str) -> String {
    format!("{text:\n<200}")
}

/// What a guest of the service gets from a server by this name, which has first the one address, then the other.
fn rebound(service: &'static str, name: &'static str, addresses: &'static [&'static str]) -> Attack {
    Box::new(move |world: &World| {
        let _turn = world.names.turn.lock().unwrap();
        let came = addresses.iter().map(|address| {
            world.names.set(name, address);
            let path = format!("/fetch?url=http://{name}:{}/", world.outside.plain);
            let (words, response) = ask(world, &request("GET", service, &path, "", b""));
            format!("{words}: {}", response.map(|response| response.text()).unwrap_or_default().trim_end())
        });
        came.collect::<Vec<_>>().join(", then ")
    })
}

pub(crate) fn cases(world: &World) -> Vec<Case> {
    if !world.names.possible {
        return Vec::new();
    }
    let good = "200: 200 of 8 bytes, whole";
    let refused = "502: refused: ErrorCode::DestinationIpProhibited";
    let twice = || rebound("rebound", "rebind.example", &["127.0.0.2", "127.0.0.2"]);
    let both = format!("{good}, then {good}");
    let elsewhere = |what, name, address: &'static [&'static str]| {
        case(what, rebound("worldly", name, address), refused)
            .event("worldly", "OutboundDenied", address[0].trim_start_matches("::ffff:"))
            .counts(REFUSED, "why=\"address\"", 1)
            .twin(twice(), both.clone())
    };
    let cases = [
        // It was granted when it was asked for first.
        case(
            "a name that changes its address between two requests",
            rebound("rebound", "rebind.example", &["127.0.0.2", "127.0.0.1"]),
            format!("{good}, then {refused}"),
        )
        .event("rebound", "OutboundDenied", "127.0.0.1")
        .counts(REFUSED, "why=\"address\"", 1)
        .twin(twice(), both.clone()),
        elsewhere("a name that leads to the cloud's metadata", "meta.example", &["169.254.169.254"]),
        elsewhere("a name that leads to a private network", "private.example", &["10.1.2.3"]),
        elsewhere("a name that leads to a mapped address", "mapped.example", &["::ffff:127.0.0.1"]),
    ];
    cases.into_iter().map(|case| case.lane(Lane::Waiting)).collect()
}
