//! Nodes: machines that run instances.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::Uid;
use crate::quantity::{Bytes, MilliCpu};
use crate::resource::{Kind, Object, Spec, is_label_key, is_label_value};

pub type Node = Object<NodeSpec>;

/// Memory and CPU: of a node, or reserved by a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Resources {
    #[serde(default = "small_memory")]
    pub memory: Bytes,
    #[serde(default = "small_cpu")]
    pub cpu: MilliCpu,
}

/// A component that waits takes some kilobytes, its loaded code a hundred or two, and an instance at work rarely more than
/// the rest of this. Ten thousand of them fit a machine with 16 GiB.
fn small_memory() -> Bytes {
    Bytes::mebi(1)
}

/// None: a component that waits for requests takes no processor time, and any share of it, reserved ten thousand times, is
/// more than a small machine has. Whoever needs a share at all times says so.
fn small_cpu() -> MilliCpu {
    MilliCpu(0)
}

impl Resources {
    pub const ZERO: Self = Self { memory: Bytes(0), cpu: MilliCpu(0) };

    /// What a replica reserves when its manifest says nothing: a component that waits for requests needs little.
    pub fn small() -> Self {
        Self { memory: small_memory(), cpu: small_cpu() }
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
            cpu: MilliCpu(self.cpu.0.saturating_add(other.cpu.0)),
        }
    }

    /// Whether the other fits into it.
    pub fn holds(self, other: Self) -> bool {
        other.memory <= self.memory && other.cpu <= self.cpu
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            memory: Bytes(self.memory.0.saturating_sub(other.memory.0)),
            cpu: MilliCpu(self.cpu.0.saturating_sub(other.cpu.0)),
        }
    }
}

/// Whether a node takes work. Beside this, people give it labels; all else it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Cordoned: it keeps what it has and gets nothing new.
    #[serde(skip_serializing_if = "is_false")]
    pub unschedulable: bool,
    /// What it has moves to other nodes, each replica once its successor answers.
    #[serde(skip_serializing_if = "is_false")]
    pub draining: bool,
    /// What keeps services away that do not tolerate it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub taints: Vec<Taint>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Keeps services away from a node: `KEY[=VALUE]:EFFECT`, as kubectl writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: Effect,
}

/// What a taint does to services that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// No new replicas.
    NoSchedule,
    /// No new replicas while another node has room.
    PreferNoSchedule,
    /// No new replicas, and those that are there move away.
    NoExecute,
}

/// Why a text is no taint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a taint (hint: write KEY=VALUE:EFFECT or KEY:EFFECT; effects are NoSchedule, PreferNoSchedule and NoExecute)"
)]
pub struct InvalidTaint {
    text: String,
}

impl Effect {
    pub const ALL: [Self; 3] = [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute];

    pub fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

impl FromStr for Taint {
    type Err = InvalidTaint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || InvalidTaint { text: text.chars().take(80).collect() };
        let (label, effect) = text.split_once(':').ok_or_else(fail)?;
        let effect = Effect::ALL.into_iter().find(|known| known.name() == effect).ok_or_else(fail)?;
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        match is_label_key(key) && is_label_value(value) {
            true => Ok(Self { key: key.to_owned(), value: value.to_owned(), effect }),
            false => Err(fail()),
        }
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.value.is_empty() { "" } else { "=" };
        write!(f, "{}{separator}{}:{}", self.key, self.value, self.effect.name())
    }
}

impl Serialize for Taint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Taint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A change of what people set on a node; what it does not name stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NodeChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
    /// Labels to set, or with `null` to take away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// Taints to add; one of the same key and effect is replaced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub taint: Vec<Taint>,
    /// Taints to take away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untaint: Vec<TaintName>,
}

/// Taints by key, and by effect if it is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TaintName {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

impl TaintName {
    pub fn names(&self, taint: &Taint) -> bool {
        taint.key == self.key && self.effect.as_ref().is_none_or(|effect| effect == taint.effect.name())
    }
}

impl NodeChange {
    /// Carries the change out.
    pub fn apply(&self, labels: &mut BTreeMap<String, String>, spec: &mut NodeSpec) {
        spec.unschedulable = self.unschedulable.unwrap_or(spec.unschedulable);
        spec.draining = self.draining.unwrap_or(spec.draining);
        for (key, value) in &self.labels {
            match value {
                Some(value) => _ = labels.insert(key.clone(), value.clone()),
                None => _ = labels.remove(key),
            }
        }
        spec.taints.retain(|taint| !self.untaint.iter().any(|name| name.names(taint)));
        for taint in &self.taint {
            spec.taints.retain(|other| (&other.key, other.effect) != (&taint.key, taint.effect));
            spec.taints.push(taint.clone());
        }
        spec.taints.sort();
    }
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Liveness {
    Alive,
    /// It cannot be heard: it gets no requests and no new replicas, and keeps those that it has.
    #[default]
    Suspect,
    /// It could not be heard for so long that its replicas are placed elsewhere.
    Dead,
}

impl Liveness {
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "Alive",
            Self::Suspect => "Suspect",
            Self::Dead => "Dead",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    pub liveness: Liveness,
    /// When its liveness changed.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
    /// Tells one run of the node's process from another.
    pub incarnation: Uid,
    /// Skiff's version there.
    pub version: String,
    /// `linux/x86_64`.
    pub platform: String,
    /// Where its gateway answers, `HOST:PORT`.
    pub gateway: String,
    /// Where it answers other nodes, `HOST:PORT`. Empty: it does not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// Nodes of one site can dial one another. Empty: the only one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub site: String,
    /// What placement may reserve there.
    pub capacity: Resources,
    pub engine: EngineReport,
    /// The version of its Docker engine. Empty: it has none, and runs no containers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker: String,
}

/// What the node's sandbox chose for its machine, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EngineReport {
    /// `wasmtime 48.0.8`.
    pub name: String,
    /// Instances that can live at once.
    pub instances: u32,
    /// Every choice that depends on the machine, with its reason: `pagemap-scan: off (swap is on)`.
    pub choices: BTreeMap<String, String>,
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
    type Status = NodeStatus;
}

/// The label of a node's name, which nobody can change.
pub const NODE_LABEL: &str = "node";

/// The labels that a node has by itself.
pub fn own_labels(name: &str, status: &NodeStatus) -> [(&'static str, String); 4] {
    let (os, arch) = status.platform.split_once('/').unwrap_or((&status.platform, ""));
    [(NODE_LABEL, name.to_owned()), ("site", status.site.clone()), ("os", os.to_owned()), ("arch", arch.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_written_as_kubectl_writes_them() {
        for text in ["edge:NoSchedule", "edge=far:NoExecute", "a.b/c=d:PreferNoSchedule"] {
            assert_eq!(text.parse::<Taint>().unwrap().to_string(), text);
        }
        for text in ["", "edge", "edge:", "edge:noschedule", ":NoSchedule", "a b:NoSchedule", "a=b=c:NoSchedule"] {
            assert!(text.parse::<Taint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_change_touches_only_what_it_names() {
        let taint = |text: &str| text.parse::<Taint>().unwrap();
        let mut labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let taints = vec![taint("x=1:NoSchedule"), taint("y:NoExecute"), taint("y:NoSchedule")];
        let mut spec = NodeSpec { unschedulable: true, draining: true, taints };
        let change = NodeChange {
            draining: Some(false),
            labels: BTreeMap::from([("a".to_owned(), None), ("c".to_owned(), Some("3".to_owned()))]),
            taint: vec![taint("x=2:NoSchedule")],
            untaint: vec![TaintName { key: "y".to_owned(), effect: Some("NoExecute".to_owned()) }],
            ..NodeChange::default()
        };
        change.apply(&mut labels, &mut spec);
        assert_eq!(labels.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["b=2", "c=3"]);
        let shown: Vec<_> = spec.taints.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["x=2:NoSchedule", "y:NoSchedule"]);
        assert!(spec.unschedulable && !spec.draining);
    }
}
