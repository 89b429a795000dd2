//! Of `skiff create`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use skiff_api::Name;

use super::NamespaceArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum CreateVerb {
    /// Make a Secret; its values are sealed before they are kept, and never shown again
    Secret(CreateArgs),
    /// Make a Config
    #[command(visible_alias = "configmap")]
    Config(CreateArgs),
    /// Make a namespace
    #[command(visible_alias = "ns")]
    Namespace { name: Name },
}

#[derive(Debug, Parser)]
pub(crate) struct CreateArgs {
    pub name: Name,
    /// A value; KEY=- reads it from standard input, so that it is in no shell's history
    #[arg(long = "from-literal", value_name = "KEY=VALUE")]
    pub literals: Vec<String>,
    /// A value from a file, under its name or another key; - is standard input
    #[arg(long = "from-file", value_name = "[KEY=]FILE")]
    pub files: Vec<String>,
    /// Values from the lines KEY=VALUE of a file
    #[arg(long = "from-env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    /// Change one that is there: it has these keys then, and no others
    #[arg(long)]
    pub replace: bool,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}
