//! Of `skiff rollout`, and of docker's words for listing and removing what runs.

use clap::{Parser, Subcommand};
use skiff_api::quantity::Span;

use super::{NamespaceArgs, ServiceName};

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// Wait until a service's replicas are of its newest revision and answer, and say how far it is
    Status(RolloutStatusArgs),
    /// List the revisions that are kept, and what each changed
    History(RolloutHistoryArgs),
    /// Go back to an earlier revision, as a new one
    Undo(RolloutUndoArgs),
    /// Replace all replicas with new ones of the same, as the service's `update` says
    Restart(RolloutRestartArgs),
}

#[derive(Debug, Parser)]
pub(crate) struct RolloutStatusArgs {
    pub service: ServiceName,
    /// How long to wait
    #[arg(long, default_value = "5m")]
    pub timeout: Span,
    /// Say how it is now, and do not wait
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct RolloutHistoryArgs {
    pub service: ServiceName,
    /// Show all of this one
    #[arg(long, value_name = "N")]
    pub revision: Option<u64>,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct RolloutUndoArgs {
    pub service: ServiceName,
    /// To this one, as `skiff rollout history` counts them [default: the one before]
    #[arg(long, value_name = "N")]
    pub to_revision: Option<u64>,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct RolloutRestartArgs {
    pub service: ServiceName,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct PsArgs {
    /// Also those that do not run: that wait for a node, start, or failed
    #[arg(short, long)]
    pub all: bool,
    /// Only names
    #[arg(short, long)]
    pub quiet: bool,
    /// Of every namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct RmArgs {
    #[arg(required = true, value_name = "SERVICE")]
    pub services: Vec<ServiceName>,
    /// Also while replicas run
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}
