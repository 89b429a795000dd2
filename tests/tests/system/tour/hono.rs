//! Hono's example app answers under Skiff as it does under Node, request by request.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::projects::{Dev, command};
use serde_json::{Value, json};
use skiff_tests::{Cluster, Request, guest};

/// Method, path, headers, body.
type Asked = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

const ASKED: &[Asked] = &[
    ("GET", "/api/boats", &[], ""),
    ("HEAD", "/api/boats", &[], ""),
    ("GET", "/api/boats?least=4", &[], ""),
    ("GET", "/api/boats?least=4&least=100", &[], ""),
    ("GET", "/api/boats?least=many", &[], ""),
    ("GET", "/api/boats?least=%34", &[], ""),
    ("GET", "/api/boats/punt", &[], ""),
    ("GET", "/api/boats/p%C3%BCnt", &[], ""),
    ("GET", "/api/boats/punt/", &[], ""),
    ("GET", "/api/boats/", &[], ""),
    ("GET", "/api//boats", &[], ""),
    ("POST", "/api/trips", &[("content-type", "application/json")], r#"{"boat":"punt","knots":3,"hours":2.5}"#),
    ("POST", "/api/trips", &[], r#"{"boat":"skiff","knots":3,"hours":2}"#),
    ("POST", "/api/trips", &[], r#"{"boat":"raft","knots":3,"hours":2}"#),
    ("POST", "/api/trips", &[], r#"{"boat":"punt","knots":-1,"hours":2}"#),
    ("POST", "/api/trips", &[], r#"{"boat":"punt","knots":"3","hours":2}"#),
    ("POST", "/api/trips", &[], "{"),
    ("POST", "/api/trips", &[], ""),
    ("PUT", "/api/trips", &[], "{}"),
    ("DELETE", "/api/boats/punt", &[], ""),
    ("OPTIONS", "/api/boats", &[("origin", "https://example.com")], ""),
    ("GET", "/api/log", &[], ""),
    ("GET", "/api/old-boats", &[], ""),
    ("GET", "/api/nowhere", &[("accept", "text/html")], ""),
    ("GET", "/api", &[], ""),
];

/// The app itself, asked without a server.
const UNDER_NODE: &str = "
import app from './index.js';
let text = '';
for await (const piece of process.stdin) text += piece;
const answers = [];
for (const [method, path, headers, body] of JSON.parse(text)) {
  const answer = await app.fetch(new Request('http://boats.example' + path, { method, headers, body: body || undefined }));
  answers.push([answer.status, Object.fromEntries(answer.headers), await answer.text()]);
}
console.log(JSON.stringify(answers));
";

/// What a server adds, or says by itself about how it sends a body.
const OF_THE_SERVER: [&str; 4] = ["content-length", "date", "transfer-encoding", "connection"];

/// Status, headers, body.
type Answer = (u16, BTreeMap<String, String>, String);

fn under_node() -> Vec<Answer> {
    // Where the component was made, with what npm fetched for it.
    let folder = guest("api-hono").parent().unwrap().join("../guests-js/api-hono");
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--eval", UNDER_NODE]).current_dir(folder);
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let asked = ASKED.iter().map(|(method, path, headers, body)| json!([method, path, headers, body]));
    node.stdin.take().unwrap().write_all(Value::from_iter(asked).to_string().as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn under_skiff() -> Vec<Answer> {
    let cluster = Cluster::start();
    cluster.skiff(&["push", "api-hono", guest("api-hono").to_str().unwrap()]).ok();
    cluster.write("skiff.yaml", include_str!("../../../../examples/api-hono/skiff.yaml"));
    cluster.skiff(&["apply", "--wait", "--timeout", "600s", "-f", "skiff.yaml"]).ok();
    ask_all(cluster.gateway_addr())
}

/// As `skiff dev` runs it: by an engine that reads it.
fn under_dev() -> Vec<Answer> {
    let mut cluster = Cluster::start();
    // Only for its folder and its commands: `dev` starts a cluster of its own.
    cluster.terminate();
    cluster.skiff(&["new", "boats", "--lang", "js", "--template", "api"]).ok();
    let dev = Dev::start(command(&cluster, "boats", &["dev", "--local", "--gateway", "127.0.0.1:0"]));
    let started = dev.says("its services answer at http://");
    dev.says("served after ");
    ask_all(started.rsplit("http://").next().unwrap().parse().unwrap())
}

fn ask_all(gateway: SocketAddr) -> Vec<Answer> {
    let ask = |(method, path, headers, body): &Asked| {
        let request = Request::new(gateway, method, path).host("boats.example").body(*body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.send().unwrap();
        let headers = answer.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        (answer.status, headers, answer.text())
    };
    ASKED.iter().map(ask).collect()
}

#[test]
#[ignore = "long: compiles a JavaScript engine"]
fn an_app_of_hono_answers_as_under_node() {
    let of_the_app = |(status, mut headers, body): Answer| {
        headers.retain(|name, _| !OF_THE_SERVER.contains(&name.as_str()));
        (status, headers, body)
    };
    let under_node: Vec<Answer> = under_node().into_iter().map(of_the_app).collect();
    for (way, answers) in [("built", under_skiff()), ("dev", under_dev())] {
        for ((asked, node), skiff) in ASKED.iter().zip(&under_node).zip(answers) {
            assert_eq!(of_the_app(skiff), *node, "{way}: {asked:?}");
        }
    }
}
