//! Everything about an object, for people.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::Value;
use skiff_api::Kind;
use skiff_api::PublicKey;
use skiff_api::resource::ReplicaLimits;
use skiff_registry::sign::fingerprint;

use crate::output::row::{self, Namespaces, Width, text};
use crate::output::table;

/// Wide enough for the longest label of the head.
const LABEL_COLUMNS: usize = 14;

/// The text of `skiff describe`. `replicas` and `events` are those of the object.
pub(crate) fn render(kind: Kind, object: &Value, replicas: &[Value], events: &[Value], now: Timestamp) -> String {
    let mut out = String::new();
    let at = |pointer: &str| text(object.pointer(pointer));
    line(&mut out, "Name", &at("/metadata/name"));
    if kind.is_namespaced() {
        line(&mut out, "Namespace", &at("/metadata/namespace"));
    }
    for (title, pointer) in [("Labels", "/metadata/labels"), ("Annotations", "/metadata/annotations")] {
        let pairs: Vec<_> = pairs(object.pointer(pointer)).map(|(key, value)| format!("{key}={value}")).collect();
        line(&mut out, title, if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(", ") }.as_str());
    }
    line(
        &mut out,
        "Created",
        &format!("{} ({} ago)", at("/metadata/created"), row::age(&at("/metadata/created"), now)),
    );
    match kind {
        Kind::Service => service(&mut out, object, now),
        Kind::Job => job(&mut out, object),
        Kind::Replica => replica(&mut out, object, now),
        Kind::Node => node(&mut out, object, now),
        Kind::Revision => tree(&mut out, "Template", object.pointer("/spec/template")),
        Kind::Namespace => line(&mut out, "Grants", &grants(object)),
        Kind::ImagePolicy => policy(&mut out, object),
        Kind::Config => tree(&mut out, "Data", object.pointer("/spec/data")),
        Kind::Secret => line(&mut out, "Keys", &keys(object)),
        Kind::Token => tree(&mut out, "Token", object.pointer("/spec")),
        Kind::Event => {}
    }
    if matches!(kind, Kind::Service | Kind::Job | Kind::Node) {
        section(&mut out, "Replicas", Kind::Replica, replicas, Width::Wide, now);
    }
    section(&mut out, "Events", Kind::Event, events, Width::Wide, now);
    out
}

fn job(out: &mut String, object: &Value) {
    let at = |pointer: &str| text(object.pointer(pointer));
    line(out, "Image", &at("/spec/image"));
    let count = |name: &str| object.pointer(&format!("/status/{name}")).and_then(Value::as_u64).unwrap_or(0);
    if object.pointer("/spec/schedule").is_some() {
        let zone = at("/spec/timeZone");
        let zone = if zone.is_empty() { "UTC" } else { zone.as_str() };
        line(out, "Schedule", &format!("{} ({zone})", at("/spec/schedule")));
        for (title, pointer) in [("Last", "/status/lastScheduled"), ("Next", "/status/nextScheduled")] {
            let time = at(pointer);
            line(out, title, if time.is_empty() { "<none>" } else { &time });
        }
        line(out, "Jobs", &format!("{} not ended", count("active")));
    } else {
        let (active, succeeded, failed) = (count("active"), count("succeeded"), count("failed"));
        let wanted = at("/spec/completions");
        line(out, "Tasks", &format!("{succeeded} of {wanted} succeeded, {failed} failed, {active} active"));
        line(out, "Retries", &at("/spec/retries"));
        for (title, pointer) in
            [("Deadline", "/spec/deadline"), ("Started", "/status/started"), ("Finished", "/status/finished")]
        {
            if object.pointer(pointer).is_some() {
                line(out, title, &at(pointer));
            }
        }
    }
    line(out, "Status", &row::job_status(object));
    let message = at("/status/conditions/0/message");
    if !message.is_empty() {
        line(out, "Reason", &message);
    }
    line(out, "Allows", &grants(object));
    for (title, pointer) in [("Placement", "/spec/placement"), ("Environment", "/spec/env")] {
        if object.pointer(pointer).is_some() {
            tree(out, title, object.pointer(pointer));
        }
    }
    for (title, pointer) in [("Config", "/spec/config"), ("Secrets", "/spec/secrets")] {
        if let Some(list) = object.pointer(pointer) {
            line(out, title, &sources(object, list));
        }
    }
}

fn service(out: &mut String, object: &Value, now: Timestamp) {
    let at = |pointer: &str| text(object.pointer(pointer));
    line(out, "Image", &at("/spec/image"));
    line(out, "Routes", &row::routes(object).join(", "));
    let status = |name: &str| object.pointer(&format!("/status/{name}")).and_then(Value::as_u64).unwrap_or(0);
    let replicas = format!(
        "{} wanted, {} there, {} updated, {} ready",
        at("/spec/replicas"),
        status("replicas"),
        status("updated"),
        status("ready")
    );
    line(out, "Replicas", &replicas);
    line(out, "Revision", &at("/status/revision"));
    let home = at("/status/home/node");
    if !home.is_empty() {
        line(out, "Volumes", &format!("on {home}"));
    }
    line(out, "Reserves", &format!("memory {}, cpu {} each", at("/spec/resources/memory"), at("/spec/resources/cpu")));
    let limits: ReplicaLimits = decoded(object.pointer("/spec/limits"));
    let memory = limits.memory_or_default(&decoded(object.pointer("/spec/instance")));
    let cpu = limits.cpu.map_or_else(|| "unlimited".to_owned(), |cpu| cpu.to_string());
    line(out, "Limits", &format!("memory {memory}, cpu {cpu} together"));
    let sandbox = match at("/spec/instance/requests").as_str() {
        "1" | "" => format!("memory {}, fresh for each request", at("/spec/instance/memory")),
        many => {
            let (memory, idle) = (at("/spec/instance/memory"), at("/spec/instance/idle"));
            format!("memory {memory}, up to {many} requests each, {idle} idle")
        }
    };
    line(out, "Sandbox", &sandbox);
    let timeout = |name: &str| at(&format!("/spec/http/timeout/{name}"));
    let limits = format!(
        "first byte {}, idle {}, total {}; {} requests in flight",
        timeout("firstByte"),
        timeout("idle"),
        timeout("total"),
        at("/spec/http/inFlight")
    );
    line(out, "HTTP", &limits);
    line(out, "Allows", &grants(object));
    let callers = object.pointer("/spec/http/callers").map(|list| entries(list).join(", "));
    line(out, "Callers", &callers.unwrap_or_else(|| format!("{}/*", at("/metadata/namespace"))));
    for (title, pointer) in [("Placement", "/spec/placement"), ("Update", "/spec/update"), ("Offline", "/spec/offline")]
    {
        if object.pointer(pointer).is_some() {
            tree(out, title, object.pointer(pointer));
        }
    }
    if object.pointer("/spec/env").is_some() {
        tree(out, "Environment", object.pointer("/spec/env"));
    }
    for (title, pointer) in [("Config", "/spec/config"), ("Secrets", "/spec/secrets")] {
        if let Some(list) = object.pointer(pointer) {
            line(out, title, &sources(object, list));
        }
    }
    if let Some(list) = object.pointer("/spec/keyvalue").and_then(Value::as_array) {
        let shown = list.iter().map(|grant| match grant.get("redis").or_else(|| grant.get("scope")) {
            Some(scope) => format!("{} ({})", text(grant.get("bucket")), text(Some(scope))),
            None => text(grant.get("bucket")),
        });
        line(out, "Buckets", &shown.collect::<Vec<_>>().join(", "));
    }
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let rows = conditions.into_iter().flatten().map(|condition| {
        let at = |name: &str| text(condition.get(name));
        vec![at("type"), at("status"), at("reason"), row::age(&at("since"), now), at("message")]
    });
    block(out, "Conditions", &table::render(&["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], rows.collect()));
}

/// `cart, stripe (in the environment)`
fn sources(service: &Value, names: &Value) -> String {
    let in_env = service.pointer("/spec/envFrom").map(entries).unwrap_or_default();
    let shown = entries(names).into_iter().map(|name| match in_env.contains(&name) {
        true => format!("{name} (in the environment)"),
        false => name,
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The keys of a Secret: nobody sees more.
fn keys(object: &Value) -> String {
    let data = object.pointer("/spec/data").and_then(Value::as_object);
    data.into_iter().flatten().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
}

/// What is left out has its default.
fn decoded<T: serde::de::DeserializeOwned + Default>(value: Option<&Value>) -> T {
    value.and_then(|value| T::deserialize(value).ok()).unwrap_or_default()
}

/// `services cart, ops/*; http https://api.example.com`
fn grants(object: &Value) -> String {
    let lists = ["services", "http", "private", "tcp"].into_iter().filter_map(|field| {
        let entries = entries(object.pointer(&format!("/spec/allow/{field}"))?);
        (!entries.is_empty()).then(|| format!("{field} {}", entries.join(", ")))
    });
    let lists: Vec<_> = lists.collect();
    if lists.is_empty() { "<none>".to_owned() } else { lists.join("; ") }
}

fn entries(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|entry| text(Some(entry))).collect()
}

fn replica(out: &mut String, object: &Value, now: Timestamp) {
    let at = |pointer: &str| text(object.pointer(pointer));
    line(out, "Service", &at("/spec/service"));
    line(out, "Revision", &at("/spec/revision"));
    line(out, "Node", &at("/spec/node"));
    line(out, "Phase", &format!("{} (for {})", at("/status/phase"), row::age(&at("/status/since"), now)));
    for (title, pointer) in
        [("Reason", "/status/reason"), ("Message", "/status/message"), ("Retries", "/status/retries")]
    {
        if !at(pointer).is_empty() {
            line(out, title, &at(pointer));
        }
    }
}

fn policy(out: &mut String, object: &Value) {
    line(out, "Repositories", &row::repositories(object));
    let keys = object.pointer("/spec/keys").map(entries).unwrap_or_default();
    let rows = keys
        .iter()
        .filter_map(|key| key.parse().ok())
        .map(|key: PublicKey| vec![key.algorithm().name().to_owned(), fingerprint(&key).to_string()]);
    block(out, "Keys", &table::render(&["ALGORITHM", "FINGERPRINT"], rows.collect()));
}

fn node(out: &mut String, object: &Value, now: Timestamp) {
    let at = |pointer: &str| text(object.pointer(pointer));
    line(out, "Status", &format!("{} (for {})", at("/status/liveness"), row::age(&at("/status/since"), now)));
    for (title, pointer) in
        [("Cordoned", "/spec/unschedulable"), ("Draining", "/spec/draining"), ("Site", "/status/site")]
    {
        if !at(pointer).is_empty() {
            line(out, title, &at(pointer));
        }
    }
    line(
        out,
        "Taints",
        &object.pointer("/spec/taints").map_or_else(|| "<none>".to_owned(), |list| entries(list).join(", ")),
    );
    line(out, "Version", &at("/status/version"));
    line(out, "Platform", &at("/status/platform"));
    line(out, "Gateway", &at("/status/gateway"));
    line(out, "Capacity", &format!("memory {}, cpu {}", at("/status/capacity/memory"), at("/status/capacity/cpu")));
    line(
        out,
        "Engine",
        &format!("{}, {} instances at once", at("/status/engine/name"), at("/status/engine/instances")),
    );
    let docker = object.pointer("/status/docker").and_then(Value::as_str).unwrap_or("<none>");
    line(out, "Docker", docker);
    tree(out, "Choices", object.pointer("/status/engine/choices"));
}

fn line(out: &mut String, title: &str, value: &str) {
    let title = format!("{title}:");
    let text = format!("{title:LABEL_COLUMNS$}{value}");
    out.push_str(text.trim_end());
    out.push('\n');
}

/// A map of any depth, indented under its title.
fn tree(out: &mut String, title: &str, value: Option<&Value>) {
    let mut body = String::new();
    branch(&mut body, value, 0);
    block(out, title, &body);
}

fn branch(out: &mut String, value: Option<&Value>, depth: usize) {
    for (key, value) in pairs(value) {
        let indent = "  ".repeat(depth);
        // Writing to a String does not fail.
        let _ = match value {
            Value::Object(_) => writeln!(out, "{indent}{key}:"),
            other => writeln!(out, "{indent}{key}: {}", text(Some(other))),
        };
        branch(out, Some(value), depth + 1);
    }
}

fn pairs(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn section(out: &mut String, title: &str, kind: Kind, objects: &[Value], width: Width, now: Timestamp) {
    let header = row::header(kind, Namespaces::Hidden, width);
    let rows = objects.iter().map(|object| row::cells(kind, object, Namespaces::Hidden, width, now)).collect();
    match objects {
        [] => line(out, title, "<none>"),
        _ => block(out, title, &table::render(&header, rows)),
    }
}

fn block(out: &mut String, title: &str, body: &str) {
    out.push_str(title);
    out.push_str(":\n");
    for line in body.lines() {
        out.push_str("  ");
        out.push_str(line);
        out.push('\n');
    }
}
