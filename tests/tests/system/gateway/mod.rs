//! The gateway as an operator starts it: TLS, redirects, the access log, and flags that do not fit.

mod tls;

use std::fs;

use serde_json::Value;
use skiff_tests::{Cluster, Request, eventually, guest};

const PROBE_HOST: &str = "probe.default.localhost";

fn run_probe(cluster: &Cluster) {
    cluster.skiff(&["push", "probe", guest("probe").to_str().unwrap()]).ok();
    cluster.skiff(&["run", "probe"]).ok();
}

#[test]
fn each_request_is_a_line_of_the_access_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let mut cluster = Cluster::builder().arg("--access-log").arg(path.to_str().unwrap()).start();
    run_probe(&cluster);
    let get = |path: &str| Request::new(cluster.gateway_addr(), "GET", path).host(PROBE_HOST);
    assert_eq!(get("/echo?password=secret").header("traceparent", "00-1-2-01").send().unwrap().status, 200);
    assert_eq!(get("/panic").send().unwrap().status, 500);
    assert_eq!(get("/bytes?n=1000000").send().unwrap().status, 200);
    assert_eq!(cluster.get_host("nobody.localhost", "/").status, 404);
    let lines = || -> Vec<Value> {
        fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let lines = eventually("four lines are written", || Some(lines()).filter(|lines| lines.len() == 4));
    assert_eq!(lines[0]["path"], "/echo", "the query is where secrets are: {}", lines[0]);
    assert_eq!((&lines[0]["status"], &lines[0]["complete"]), (&200.into(), &true.into()), "{}", lines[0]);
    assert_eq!((&lines[0]["service"], &lines[0]["namespace"]), (&"probe".into(), &"default".into()), "{}", lines[0]);
    assert_eq!((&lines[0]["traceparent"], &lines[0]["scheme"]), (&"00-1-2-01".into(), &"http".into()));
    assert_eq!((&lines[1]["status"], &lines[1]["error"]), (&500.into(), &"guest-trap".into()), "{}", lines[1]);
    assert_eq!((&lines[2]["bytes"], &lines[2]["complete"]), (&1_000_000.into(), &true.into()), "{}", lines[2]);
    assert_eq!((&lines[3]["error"], &lines[3]["service"]), (&"no-route".into(), &Value::Null), "{}", lines[3]);
    // The last line is written before the process ends.
    assert_eq!(cluster.get_host(PROBE_HOST, "/").status, 200);
    assert_eq!(cluster.terminate(), Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 5);
}

#[test]
fn flags_that_do_not_fit_are_refused_before_anything_is_written() {
    let cluster = Cluster::start();
    let data = cluster.path("refused").to_str().unwrap().to_owned();
    let up = |args: &[&str]| {
        let mut all = vec!["up", "--data", &data, "--listen", "127.0.0.1:0", "--gateway", "127.0.0.1:0"];
        all.extend_from_slice(args);
        cluster.skiff(&all)
    };
    let missing = cluster.path("none.pem").to_str().unwrap().to_owned();
    let tls = ["--gateway-tls", "127.0.0.1:0"];
    assert!(up(&tls).fails_with(2).stderr.contains("--tls-cert"));
    assert!(up(&["--gateway-redirect", "443"]).fails_with(2).stderr.contains("--gateway-tls"));
    let pair = ["--tls-cert", &missing, "--tls-key", &missing];
    let said = up(&[&tls[..], &pair].concat()).fails_with(4).stderr;
    assert!(said.contains("none.pem"), "{said}");
    let said = up(&[&tls[..], &pair, &["--tls-cert", &missing]].concat()).fails_with(4).stderr;
    assert!(said.contains("2 --tls-cert and 1 --tls-key"), "{said}");
    let said = up(&["--access-log", "/nonexistent/access.log"]).fails_with(4).stderr;
    assert!(said.contains("/nonexistent/access.log"), "{said}");
}
