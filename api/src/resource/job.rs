//! Jobs: workloads that run to their end. A schedule makes a job recur: each time it makes a job of its own.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::grant::Allow;
use crate::id::{Name, RevisionName};
use crate::image::ImageRef;
use crate::quantity::Timeout;
use crate::resource::{
    BucketGrant, Condition, InstanceLimits, Kind, Object, Placement, ReplicaLimits, Resources, ServiceSpec, Spec,
    Template,
};
use crate::schedule::Schedule;

pub type Job = Object<JobSpec>;

/// What a job should do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// What to run: a component that exports `wasi:cli/run`. Stored with the digest that its tag had when it was applied.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub image: ImageRef,
    /// Arguments of the component behind its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// How many tasks must succeed. Default 1.
    #[serde(default = "JobSpec::one")]
    pub completions: u32,
    /// How many tasks run at once. Default 1.
    #[serde(default = "JobSpec::one")]
    pub parallelism: u32,
    /// How many tasks may fail before the job has failed. Each is followed by another, later each time. Default 3.
    #[serde(default = "JobSpec::default_retries")]
    pub retries: u32,
    /// How long it may take, from its first task on. Default none.
    #[serde(default = "JobSpec::never", skip_serializing_if = "Timeout::is_none")]
    pub deadline: Timeout,
    /// Stops its tasks, and begins no others until it is taken away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// How long it stays after its end. Default none: until it is deleted.
    #[serde(default = "JobSpec::never", skip_serializing_if = "Timeout::is_none")]
    pub expire: Timeout,
    /// When it recurs: `MINUTE HOUR DAY MONTH WEEKDAY`, as cron reads it, or `@hourly`, `@daily`, `@weekly`, `@monthly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub schedule: Option<Schedule>,
    /// Where the schedule's hours are counted: `Europe/Berlin`. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What happens where one has not ended when the next is due. Default `allow`.
    #[serde(default, skip_serializing_if = "Concurrency::is_default")]
    pub concurrency: Concurrency,
    /// How late one may begin that was missed. Default none: the last one that was missed begins however late it is.
    #[serde(default = "JobSpec::never", skip_serializing_if = "Timeout::is_none")]
    pub starting_deadline: Timeout,
    /// How many of those that have ended stay.
    #[serde(default, skip_serializing_if = "History::is_default")]
    pub history: History,
    /// What placement reserves on a node for each task. Default 1Mi and no CPU.
    #[serde(default = "Resources::small")]
    pub resources: Resources,
    /// What a task may use.
    #[serde(default, skip_serializing_if = "ReplicaLimits::is_default")]
    pub limits: ReplicaLimits,
    /// The limits of its sandbox.
    #[serde(default)]
    pub instance: InstanceLimits,
    /// Environment variables of the component.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Configs whose values it reads, through `wasi:config`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Name>,
    /// Secrets whose values it reads, in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Name>,
    /// Those of its Configs and Secrets whose keys are environment variables as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<Name>,
    /// Buckets that it uses, through `wasi:keyvalue`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keyvalue: Vec<BucketGrant>,
    /// What it may reach. Default: nothing. Never more than its namespace grants.
    #[serde(default, skip_serializing_if = "Allow::is_empty")]
    pub allow: Allow,
    /// Where its tasks may run, and where they should.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// Its task waits up to a minute for a client that attaches to its standard streams, and does not run ahead of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attach: bool,
    /// Its standard streams say that they are a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
}

impl JobSpec {
    /// A job that runs `image` once, with every default.
    pub fn new(image: ImageRef) -> Self {
        Self {
            image,
            args: Vec::new(),
            completions: 1,
            parallelism: 1,
            retries: Self::default_retries(),
            deadline: Timeout::None,
            suspend: false,
            expire: Timeout::None,
            schedule: None,
            time_zone: None,
            concurrency: Concurrency::default(),
            starting_deadline: Timeout::None,
            history: History::default(),
            resources: Resources::small(),
            limits: ReplicaLimits::default(),
            instance: InstanceLimits::default(),
            env: BTreeMap::new(),
            config: Vec::new(),
            secrets: Vec::new(),
            env_from: Vec::new(),
            keyvalue: Vec::new(),
            allow: Allow::default(),
            placement: Placement::default(),
            attach: false,
            tty: false,
        }
    }

    fn one() -> u32 {
        1
    }

    fn default_retries() -> u32 {
        3
    }

    fn never() -> Timeout {
        Timeout::None
    }

    /// A service of the same kind: what is asked of a service's image, grants, settings and limits is asked of a job's.
    pub fn as_service(&self) -> ServiceSpec {
        ServiceSpec {
            worker: Some(true),
            args: self.args.clone(),
            resources: self.resources,
            limits: self.limits,
            instance: self.instance.clone(),
            env: self.env.clone(),
            config: self.config.clone(),
            secrets: self.secrets.clone(),
            env_from: self.env_from.clone(),
            keyvalue: self.keyvalue.clone(),
            allow: self.allow.clone(),
            placement: self.placement.clone(),
            ..ServiceSpec::new(self.image.clone())
        }
    }

    /// The part of the spec that a task is made from: a change of it makes a job run again.
    pub fn template(&self) -> Template {
        self.as_service().template()
    }

    /// The job that a schedule makes: this one, once.
    #[must_use]
    pub fn once(&self) -> Self {
        Self {
            schedule: None,
            time_zone: None,
            concurrency: Concurrency::default(),
            starting_deadline: Timeout::None,
            history: History::default(),
            suspend: false,
            ..self.clone()
        }
    }
}

/// What happens where one run has not ended when the next is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Concurrency {
    /// Both run.
    #[default]
    Allow,
    /// The next is left out.
    Forbid,
    /// The first is stopped and deleted.
    Replace,
}

impl Concurrency {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How many jobs of a schedule stay that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct History {
    /// Default 3.
    pub succeeded: u32,
    /// Default 1.
    pub failed: u32,
}

impl History {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for History {
    fn default() -> Self {
        Self { succeeded: 3, failed: 1 }
    }
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    /// The generation that the controllers have seen.
    pub observed_generation: u64,
    /// Tasks that run or are about to; of a schedule, jobs that have not ended.
    pub active: u32,
    /// Tasks that have succeeded.
    pub succeeded: u32,
    /// Tasks that have failed. Those that were interrupted, because their node was lost or drained, are not among them.
    pub failed: u32,
    /// Those of both that are no objects any more.
    #[serde(skip_serializing_if = "Forgotten::is_default")]
    pub forgotten: Forgotten,
    /// The revision that its tasks are made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionName>,
    /// When its first task was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub started: Option<Timestamp>,
    /// When it ended, one way or the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub finished: Option<Timestamp>,
    /// Of a schedule: since when it counts as it is now. What would have been due before is not made up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub counted_from: Option<Timestamp>,
    /// Of a schedule: the last time that something was due, and was begun or left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub last_scheduled: Option<Timestamp>,
    /// Of a schedule: when the next is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub next_scheduled: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl JobStatus {
    pub fn condition(&self, name: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.name == name)
    }
}

/// Tasks that are counted and no objects any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Forgotten {
    pub succeeded: u32,
    pub failed: u32,
}

impl Forgotten {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Spec for JobSpec {
    const KIND: Kind = Kind::Job;
    type Status = JobStatus;
}
