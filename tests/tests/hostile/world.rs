//! The cluster under attack, its services, and the books that are kept of what clients saw.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use skiff_tests::{Cluster, Response, guest};
use tempfile::TempDir;

use crate::names::Names;
use crate::outside::{Certificate, Outside};

/// The hostile service in each of the forms that cases need, and those that must not suffer.
const SERVICES: &str = r#"
{kind: Namespace, name: default, allow: {private: ["127.0.0.0/8", "::1"]}}
---
{kind: Service, name: innocent, image: hello}
---
# As a service is that says nothing.
{kind: Service, name: plain, image: hostile}
---
# The same, for cases whose events are looked for: only so many different ones are told in a minute.
{kind: Service, name: told, image: hostile}
---
# Short limits, so that cases that wait for them are quick.
{kind: Service, name: quick, image: hostile, http: {timeout: {firstByte: 2s, idle: 2s, total: 6s}}}
---
# No limits of time, so that others show.
{kind: Service, name: patient, image: hostile, http: {timeout: {firstByte: none, idle: none, total: none}}}
---
# Few at once.
{kind: Service, name: narrow, image: hostile, http: {inFlight: 4}}
---
# What it logs would push out the lines of others.
{kind: Service, name: noisy, image: hostile}
---
# As many at once as a connection may have.
{kind: Service, name: wide, image: hostile, http: {inFlight: 300}}
---
# Little memory, and little of the processor, for all of its instances together.
{kind: Service, name: bombs, image: hostile, limits: {memory: 256Mi}}
---
{kind: Service, name: throttled, image: hostile, limits: {cpu: 100m}, http: {timeout: {firstByte: 30s}}}
---
# Those that call others: some services; itself, also where only one fits; nobody, as nobody calls the shy one.
{kind: Service, name: caller, image: hostile, allow: {services: [plain, shy]}}
---
{kind: Service, name: ring, image: hostile, allow: {services: [ring]}}
---
{kind: Service, name: tight, image: hostile, http: {inFlight: 1, timeout: {firstByte: 2s}}, allow: {services: [tight]}}
---
{kind: Service, name: shy, image: hostile, http: {callers: [friend]}}
---
# Those that reach servers: this machine's, which are granted; any that are public.
{kind: Service, name: abroad, image: hostile, http: {timeout: {firstByte: 20s}}, allow: {http: ["https://localhost:*", "http://localhost:*"], private: ["127.0.0.1", "::1"]}}
---
{kind: Service, name: asker, image: hostile, http: {inFlight: 4}, allow: {http: ["http://localhost:*"], private: ["127.0.0.1", "::1"]}}
---
{kind: Service, name: worldly, image: hostile, allow: {http: ["http://*:*", "https://*:*"]}}
---
# Its name leads where it likes.
{kind: Service, name: rebound, image: hostile, allow: {http: ["http://rebind.example:*"], private: ["127.0.0.2"]}}
---
# What its clients gave up, and what they did not stay to see.
{kind: Service, name: deserted, image: hostile}
"#;

/// Every name above.
pub(crate) const NAMES: [&str; 19] = [
    "innocent",
    "wide",
    "bombs",
    "throttled",
    "plain",
    "quick",
    "patient",
    "narrow",
    "noisy",
    "deserted",
    "caller",
    "ring",
    "tight",
    "shy",
    "abroad",
    "asker",
    "worldly",
    "rebound",
    "told",
];

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) outside: Outside,
    pub(crate) names: Names,
    /// Of the gateway's door for TLS.
    pub(crate) certificate: Certificate,
    /// The gateway's own answers that clients saw, by code.
    seen: Mutex<BTreeMap<String, u64>>,
    _folder: TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = Certificate::of("secure.example");
        let [cert, key] = certificate.write(folder.path());
        let outside = Outside::start();
        let trusted = folder.path().join("trusted.pem");
        fs::write(&trusted, outside.trusted.pem()).unwrap();
        let tls = ["--gateway-tls", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
        let builder = tls.into_iter().fold(Cluster::builder(), |builder, arg| builder.arg(arg));
        let names = Names::new(folder.path());
        let builder = builder.around(&names.around());
        let cluster = builder.env("SSL_CERT_FILE", trusted.to_str().unwrap()).start();
        for name in ["hello", "hostile"] {
            cluster.skiff(&["push", name, guest(name).to_str().unwrap()]).ok();
        }
        cluster.write("services.yaml", SERVICES);
        cluster.skiff(&["apply", "-f", "services.yaml", "--wait"]).ok();
        // Certificate authorities are read when the first guest needs them.
        Self { cluster, outside, names, certificate, seen: Mutex::default(), _folder: folder }
    }

    /// Where a service answers that names no route.
    pub(crate) fn host(service: &str) -> String {
        format!("{service}.default.localhost")
    }

    /// Notes an answer if it is the gateway's own. Every answer that a client reads comes by here.
    pub(crate) fn note(&self, code: &str) {
        *self.seen.lock().unwrap().entry(code.to_owned()).or_default() += 1;
    }

    /// Begins the books anew.
    pub(crate) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    /// What clients saw of the gateway's own answers, by code.
    pub(crate) fn noted(&self) -> BTreeMap<String, u64> {
        self.seen.lock().unwrap().clone()
    }

    /// What an answer is in a few words.
    pub(crate) fn words(&self, response: &Response) -> String {
        match response.header("x-skiff-error") {
            Some(code) => {
                self.note(code);
                format!("{} {code}", response.status)
            }
            None => response.status.to_string(),
        }
    }

    /// All that the node counts.
    pub(crate) fn figures(&self) -> Figures {
        Figures::read(&self.cluster.api("GET", "/metrics").send().unwrap().text())
    }

    /// Memory of the process that is resident.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The part of it that is the process's own: files that are mapped, such as its program, the system takes back at will.
    pub(crate) fn own_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.cluster.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() << 10
    }

    /// What has most of that, for whoever looks for it: where it is, and how much in KiB.
    pub(crate) fn largest_mappings(&self) -> String {
        let maps = fs::read_to_string(format!("/proc/{}/smaps", self.cluster.pid())).unwrap();
        let (mut found, mut place) = (Vec::new(), String::new());
        for line in maps.lines() {
            match line.strip_prefix("Anonymous:") {
                Some(kib) => {
                    found.push((kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0), place.clone()))
                }
                None if line.split(' ').next().is_some_and(|word| word.contains('-')) => line.clone_into(&mut place),
                None => {}
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.iter().take(12).map(|(kib, place)| format!("{kib:>8} {place}\n")).collect()
    }

    /// The log of a service, all replicas and streams.
    pub(crate) fn log(&self, service: &str) -> String {
        let run = self.cluster.skiff(&["logs", service]);
        run.stdout + &run.stderr
    }

    /// Events about replicas of a service: `REASON MESSAGE` each.
    pub(crate) fn events(&self, service: &str) -> Vec<String> {
        let list = self.cluster.api("GET", "/v1/namespaces/default/events").send().unwrap().json();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let of_service = |event: &&serde_json::Value| {
            let name = event["spec"]["regarding"]["name"].as_str().unwrap_or_default();
            // A revision's or a replica's name goes on with a number, another service's with a word.
            let numbered =
                |rest: &str| rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            name.strip_prefix(service).is_some_and(|rest| rest.is_empty() || numbered(rest))
        };
        let words = |event: &serde_json::Value| {
            let part = |name: &str| event["spec"][name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", part("reason"), part("message"))
        };
        items.iter().filter(of_service).map(words).collect()
    }
}

/// Figures in Prometheus' text format.
pub(crate) struct Figures(Vec<(String, f64)>);

impl Figures {
    fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let split =
            |line: &str| line.rsplit_once(' ').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Self(lines.filter_map(split).collect())
    }

    /// The sum over all labels but those that are asked for, each `name="value"`.
    pub(crate) fn seconds(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |series: &str| {
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            found == name && labels.iter().all(|label| rest.trim_end_matches('}').split(',').any(|part| part == *label))
        };
        self.0.iter().filter(|(series, _)| fits(series)).map(|(_, value)| *value).sum()
    }

    /// The same of what is counted in whole numbers.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        self.seconds(name, labels) as u64
    }

    /// The values of a label of a metric.
    pub(crate) fn values(&self, name: &str, label: &str) -> Vec<String> {
        let of = |series: &str| {
            let (found, rest) = series.split_once('{')?;
            let value =
                rest.trim_end_matches('}').split(',').find_map(|part| part.strip_prefix(label)?.strip_prefix("=\""));
            (found == name).then(|| value.map(|value| value.trim_end_matches('"').to_owned()))?
        };
        let mut values: Vec<String> = self.0.iter().filter_map(|(series, _)| of(series)).collect();
        values.sort();
        values.dedup();
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_summed_over_labels() {
        let figures =
            Figures::read("# HELP a b\na{code=\"x\",r=\"1\"} 2\na{code=\"x\",r=\"2\"} 3\na{code=\"y\"} 5\nb 7\n");
        assert_eq!(figures.sum("a", &["code=\"x\""]), 5);
        assert_eq!(figures.sum("a", &[]), 10);
        assert_eq!(figures.sum("b", &[]), 7);
        assert_eq!(figures.values("a", "code"), ["x", "y"]);
    }
}
