//! Nothing is written when nothing happens: flash wears out, and disks want to sleep.

use std::io::{BufReader, Write};
use std::thread::sleep;
use std::time::Duration;

use skiff_tests::wait::{eventually, within};
use skiff_tests::{Cluster, guest, http};

use crate::is_long;
use crate::process::{bytes_written, files, ticks_used};

const REQUESTS: usize = 10_000;

/// Events and logs are written behind, after a second or less: then it must be over.
const CALM: Duration = Duration::from_secs(3);

#[test]
fn a_cluster_that_has_served_writes_nothing() {
    let cluster = Cluster::start();
    cluster.skiff(&["push", "hello", guest("hello").to_str().unwrap()]).ok();
    cluster.skiff(&["run", "hello", "--path", "/"]).ok();
    eventually("the first answer", || (cluster.get("/").status == 200).then_some(()));
    let mut connection = BufReader::new(http::connect(cluster.gateway_addr()).unwrap());
    for n in 0..REQUESTS {
        connection.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: idle\r\n\r\n").unwrap();
        assert_eq!(http::read_response(&mut connection).unwrap().status, 200, "request {n}");
    }
    let state = || (bytes_written(cluster.pid()), files(&cluster.data()));
    within(Duration::from_secs(30), "the cluster comes to rest", || {
        let before = state();
        sleep(CALM);
        (state() == before).then_some(())
    });

    let window = Duration::from_secs(if is_long() { 60 } else { 20 });
    let (before, ticks) = (state(), ticks_used(cluster.pid()));
    // Not to wait for something, but to see that it does not come.
    sleep(window);
    let after = state();
    eprintln!("idle for {window:?}: {} ticks of processor time", ticks_used(cluster.pid()) - ticks);
    assert_eq!(after.0, before.0, "bytes written");
    let changed: Vec<_> = after.1.iter().filter(|(path, stat)| before.1.get(*path) != Some(stat)).collect();
    assert!(changed.is_empty() && after.1.len() == before.1.len(), "files changed: {changed:?}");
    assert_eq!(cluster.get("/").status, 200);
}
