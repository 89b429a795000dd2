//! Bad input of every kind: what Skiff says is compared as a whole, and hello answers all the while.
//!
//! - [`manifests`], [`references`], [`components`], [`commands`]: what people write, name and push.
//! - [`registry`], [`api`], [`gateway`]: what comes over the sockets.
//! - [`environment`]: ports, folders, files and disks.

mod api;
mod commands;
mod components;
mod environment;
mod gateway;
mod manifests;
mod references;
mod registry;

use skiff_tests::{Cluster, guest};

/// Where a service of that name answers that asks for nothing else.
const HELLO_HOST: &str = "hello.default.localhost";

/// A cluster that serves hello.
fn serving() -> Cluster {
    let cluster = Cluster::start();
    serve_hello(&cluster);
    cluster
}

fn serve_hello(cluster: &Cluster) {
    cluster.skiff(&["push", "hello", guest("hello").to_str().unwrap()]).ok();
    cluster.skiff(&["run", "hello"]).ok();
    still_serves("the start", cluster);
}

#[track_caller]
fn still_serves(after: &str, cluster: &Cluster) {
    assert_eq!(cluster.get_host(HELLO_HOST, "/").status, 200, "hello no longer answers after: {after}");
}

/// A body as a person wants to see it: short ones as they are.
fn shown(body: &[u8]) -> String {
    const SHOWN_MAX: usize = 400;
    match body.len() {
        0 => String::new(),
        1..=SHOWN_MAX => format!("{}\n", String::from_utf8_lossy(body)),
        // Roughly: a time in it is a digit shorter now and then.
        bytes => {
            let at_least = 1_usize << bytes.ilog2();
            format!("{} … (at least {at_least} bytes)\n", String::from_utf8_lossy(&body[..60]))
        }
    }
}
