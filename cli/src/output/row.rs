//! One object as a row of a table.

use jiff::Timestamp;
use serde_json::Value;
use skiff_api::Kind;
use skiff_api::resource::{Token, TokenState};

/// The columns of a kind; `wide` adds some.
pub(crate) fn header(kind: Kind, namespaced: Namespaces, width: Width) -> Vec<&'static str> {
    let mut columns = Vec::new();
    if namespaced == Namespaces::Shown && kind.is_namespaced() {
        columns.push("NAMESPACE");
    }
    let (narrow, wide): (&[_], &[_]) = match kind {
        Kind::Service => (&["NAME", "READY", "REVISION", "IMAGE", "AGE"], &["ROUTES"]),
        Kind::Job => (&["NAME", "STATUS", "COMPLETIONS", "SCHEDULE", "DURATION", "AGE"], &["NEXT", "IMAGE"]),
        Kind::Replica => (&["NAME", "PHASE", "NODE", "RETRIES", "AGE"], &["REVISION", "MESSAGE"]),
        Kind::Revision => (&["NAME", "SERVICE", "NUMBER", "IMAGE", "AGE"], &[]),
        Kind::Node => (&["NAME", "STATUS", "VERSION", "AGE"], &["PLATFORM", "GATEWAY", "MEMORY", "CPU"]),
        Kind::Namespace => (&["NAME", "AGE"], &[]),
        Kind::ImagePolicy => (&["NAME", "REPOSITORIES", "KEYS", "AGE"], &[]),
        Kind::Config | Kind::Secret => (&["NAME", "DATA", "AGE"], &[]),
        Kind::Token => (&["NAME", "STATE", "USED", "EXPIRES", "AGE"], &["LABELS"]),
        Kind::Event => (&["LAST", "TYPE", "REASON", "OBJECT", "MESSAGE"], &["COUNT"]),
    };
    columns.extend(narrow);
    if width == Width::Wide {
        columns.extend(wide);
    }
    columns
}

/// Whether the namespace is a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespaces {
    Shown,
    Hidden,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Narrow,
    Wide,
}

/// The cells of an object under [`header`].
pub(crate) fn cells(kind: Kind, object: &Value, namespaced: Namespaces, width: Width, now: Timestamp) -> Vec<String> {
    header(kind, namespaced, width).into_iter().map(|column| cell(kind, object, column, now)).collect()
}

fn cell(kind: Kind, object: &Value, column: &str, now: Timestamp) -> String {
    let at = |pointer: &str| text(object.pointer(pointer));
    match column {
        "NAMESPACE" => at("/metadata/namespace"),
        "NAME" => at("/metadata/name"),
        "AGE" => age(&at("/metadata/created"), now),
        "READY" => format!("{}/{}", or_zero(at("/status/ready")), at("/spec/replicas")),
        "REVISION" if kind == Kind::Service => at("/status/revision"),
        "REVISION" => at("/spec/revision"),
        "IMAGE" if kind == Kind::Revision => image(&at("/spec/template/image")),
        "IMAGE" => image(&at("/spec/image")),
        "REPOSITORIES" => repositories(object),
        "DATA" => object.pointer("/spec/data").and_then(Value::as_object).map_or(0, serde_json::Map::len).to_string(),
        "KEYS" => object.pointer("/spec/keys").and_then(Value::as_array).map_or(0, Vec::len).to_string(),
        "ROUTES" => routes(object).join(","),
        "PHASE" => at("/status/phase"),
        "NODE" => at("/spec/node"),
        "RETRIES" => or_zero(at("/status/retries")),
        "MESSAGE" if kind == Kind::Event => at("/spec/message"),
        "MESSAGE" => at("/status/message"),
        "SERVICE" => at("/spec/service"),
        "NUMBER" => at("/spec/number"),
        "STATUS" if kind == Kind::Job => job_status(object),
        "COMPLETIONS" if object.pointer("/spec/schedule").is_some() => String::new(),
        "COMPLETIONS" => format!("{}/{}", or_zero(at("/status/succeeded")), at("/spec/completions")),
        "SCHEDULE" => at("/spec/schedule"),
        "DURATION" => duration(object, now),
        "NEXT" => at("/status/nextScheduled"),
        "STATUS" => {
            let is = |pointer: &str| object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
            let work = match (is("/spec/draining"), is("/spec/unschedulable")) {
                (true, _) => ",Draining",
                (false, true) => ",Cordoned",
                (false, false) => "",
            };
            format!("{}{work}", at("/status/liveness"))
        }
        "STATE" => token_state(object, now),
        "USED" => format!("{}/{}", or_zero(at("/status/used")), at("/spec/uses")),
        "EXPIRES" => at("/spec/expires"),
        "LABELS" => labels(object.pointer("/spec/labels")),
        "VERSION" => at("/status/version"),
        "PLATFORM" => at("/status/platform"),
        "GATEWAY" => at("/status/gateway"),
        "MEMORY" => at("/status/capacity/memory"),
        "CPU" => at("/status/capacity/cpu"),
        "LAST" => age(&at("/spec/last"), now),
        "TYPE" => at("/spec/type"),
        "REASON" => at("/spec/reason"),
        "COUNT" => at("/spec/count"),
        "OBJECT" => format!("{}/{}", at("/spec/regarding/kind").to_lowercase(), at("/spec/regarding/name")),
        _ => String::new(),
    }
}

/// In one word: how it ended, or how it is.
pub(crate) fn job_status(job: &Value) -> String {
    let is_suspended = job.pointer("/spec/suspend") == Some(&Value::Bool(true));
    if job.pointer("/spec/schedule").is_some() {
        return if is_suspended { "Suspended" } else { "Scheduled" }.to_owned();
    }
    let condition = job.pointer("/status/conditions/0");
    let at = |pointer: &str| text(condition.and_then(|condition| condition.pointer(pointer)));
    match (at("/type").as_str(), condition.and_then(|condition| condition.get("status")) == Some(&Value::Bool(true))) {
        (ended, true) => ended.to_owned(),
        _ => match at("/reason") {
            reason if reason.is_empty() => "Pending".to_owned(),
            reason => reason,
        },
    }
}

/// From its first task to its end, or to now.
fn duration(job: &Value, now: Timestamp) -> String {
    let at = |pointer: &str| text(job.pointer(pointer)).parse::<Timestamp>().ok();
    match at("/status/started") {
        Some(started) => age(&started.to_string(), at("/status/finished").unwrap_or(now)),
        None => String::new(),
    }
}

fn token_state(object: &Value, now: Timestamp) -> String {
    let token: Result<Token, _> = serde_json::from_value(object.clone());
    token.map(|token| TokenState::of(&token, now).name().to_owned()).unwrap_or_default()
}

fn labels(labels: Option<&Value>) -> String {
    let pairs = labels.and_then(Value::as_object).into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", text(Some(value)))).collect::<Vec<_>>().join(",")
}

/// Where a service answers: its routes, or its default host; a worker nowhere.
pub(crate) fn routes(service: &Value) -> Vec<String> {
    let at = |pointer: &str| text(service.pointer(pointer));
    if service.pointer("/spec/worker") == Some(&Value::Bool(true)) {
        return Vec::new();
    }
    match service.pointer("/spec/http/routes").and_then(Value::as_array) {
        Some(routes) if !routes.is_empty() => routes
            .iter()
            .map(|route| {
                let host = route.get("host").and_then(Value::as_str).unwrap_or("*");
                format!("{host}{}", text(route.get("path")))
            })
            .collect(),
        _ => vec![format!("{}.{}.localhost/", at("/metadata/name"), at("/metadata/namespace"))],
    }
}

/// An image with a short digest, as docker shows ids.
pub(crate) fn image(text: &str) -> String {
    match text.split_once("@sha256:") {
        Some((name, hex)) => format!("{name}@{}", hex.chars().take(12).collect::<String>()),
        None => text.to_owned(),
    }
}

/// A scalar as text; nothing for what is absent.
pub(crate) fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn or_zero(text: String) -> String {
    if text.is_empty() { "0".to_owned() } else { text }
}

/// How long ago, as kubectl shows it: `12s`, `5m`, `3h20m`, `2d4h`.
pub(crate) fn age(timestamp: &str, now: Timestamp) -> String {
    let Ok(then) = timestamp.parse::<Timestamp>() else { return String::new() };
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes < 2 => format!("{seconds}s"),
        () if hours < 1 => format!("{minutes}m"),
        () if days < 1 => format!("{hours}h{}m", minutes % 60),
        () => format!("{days}d{}h", hours % 24),
    }
}

/// Which images a policy is for.
pub(crate) fn repositories(policy: &Value) -> String {
    let list = policy.pointer("/spec/repositories").and_then(Value::as_array);
    list.map_or_else(|| "*".to_owned(), |list| list.iter().map(|entry| text(Some(entry))).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let now: Timestamp = "2026-01-03T00:00:00Z".parse().unwrap();
        for (then, shown) in [
            ("2026-01-02T23:59:30Z", "30s"),
            ("2026-01-02T23:55:00Z", "5m"),
            ("2026-01-02T20:40:00Z", "3h20m"),
            ("2026-01-01T20:00:00Z", "1d4h"),
            ("2026-01-04T00:00:00Z", "0s"),
        ] {
            assert_eq!(age(then, now), shown);
        }
    }
}
