//! Why a container does not run.

use std::time::Duration;

use bollard::errors::Error as Call;
use skiff_api::quantity::Bytes;
use skiff_registry::client;
use skiff_registry::sign::Refusal;

use crate::doorway;

/// What an engine says may be a page.
const MESSAGE_CHARS_MAX: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("this node has no Docker engine (hint: install Docker, and start the node again)")]
    NoEngine,
    #[error("failed to reach the Docker engine at {socket} (hint: is it running?)")]
    Unreachable {
        socket: String,
        #[source]
        source: Call,
    },
    #[error("the Docker engine did not {what} within {} s (hint: does it hang?)", after.as_secs())]
    Hangs { what: &'static str, after: Duration },
    #[error("the Docker engine refused to {what}: {message}")]
    Refused { what: &'static str, status: u16, message: String },
    #[error("failed to pull image {image}")]
    Pull {
        image: String,
        #[source]
        source: Box<client::Error>,
    },
    #[error("image {image} is no container image that can be used: {why}")]
    Unfit { image: String, why: String },
    #[error("failed to keep the layers of image {image}")]
    Scratch {
        image: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the image may not run here: {0}")]
    NotSigned(#[source] Box<Refusal>),
    #[error("there is no free network of {subnets} for it")]
    NoNetwork { subnets: u32 },
    #[error("{0}")]
    Exited(String),
    #[error("it did not listen on port {port} within {} s; {lines}", after.as_secs())]
    NotListening { port: u16, after: Duration, lines: String },
    #[error("it was not well within {} s: {why}; {lines}", after.as_secs())]
    Unhealthy { why: String, after: Duration, lines: String },
    #[error("its port {port} takes no connection: {why}")]
    NoConnection { port: u16, why: String },
    #[error("a limit of {memory} is too little for an engine (hint: raise limits.memory)")]
    LittleMemory { memory: Bytes },
    #[error("failed to write what it reads from files")]
    Files {
        #[source]
        source: std::io::Error,
    },
    #[error("hostPath {path} {why}")]
    HostPath { path: String, why: String },
    #[error("the engine's volume {name} is not this node's (hint: remove it, `docker volume rm {name}`)")]
    ForeignVolume { name: String },
    #[error("it has a volume, and nobody says whose (hint: run the same version of skiff on the control plane)")]
    NoOwner,
    #[error(transparent)]
    Doorway(#[from] doorway::Error),
}

impl Error {
    pub(super) fn of(what: &'static str, socket: &str, error: Call) -> Self {
        match error {
            Call::DockerResponseServerError { status_code, message } => {
                let message = message.chars().take(MESSAGE_CHARS_MAX).collect();
                Self::Refused { what, status: status_code, message }
            }
            Call::DockerStreamError { error } => {
                Self::Refused { what, status: 500, message: error.chars().take(MESSAGE_CHARS_MAX).collect() }
            }
            source => Self::Unreachable { socket: socket.to_owned(), source },
        }
    }

    /// What was asked about is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// One word for programs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoEngine | Self::Unreachable { .. } | Self::Hangs { .. } => "EngineUnavailable",
            Self::Pull { .. } | Self::Unfit { .. } | Self::Scratch { .. } => "PullFailed",
            Self::NotSigned(_) => "NotSigned",
            Self::Exited(_) => "Exited",
            Self::Unhealthy { .. } => "Unhealthy",
            Self::NotListening { .. } | Self::NoConnection { .. } => "NotListening",
            Self::HostPath { .. } | Self::ForeignVolume { .. } | Self::NoOwner => "VolumeUnavailable",
            Self::Doorway(doorway::Error::Rules(_)) => "FirewallUnavailable",
            Self::Refused { .. }
            | Self::NoNetwork { .. }
            | Self::LittleMemory { .. }
            | Self::Files { .. }
            | Self::Doorway(_) => "StartFailed",
        }
    }
}
