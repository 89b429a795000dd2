//! Of `skiff run`.

use clap::Parser;
use skiff_api::quantity::Span;
use skiff_api::{ImageRef, Name};

use super::NamespaceArgs;

#[derive(Debug, Parser)]
pub(crate) struct RunArgs {
    /// The image to run
    pub image: ImageRef,
    /// Run it once, as a job: print what it writes, end with its exit code, and delete it
    #[arg(long, conflicts_with_all = ["replicas", "path", "host"])]
    pub rm: bool,
    /// Pass standard input on to it, until it ends
    #[arg(short, long, requires = "rm")]
    pub interactive: bool,
    /// Tell it that its standard streams are a terminal
    #[arg(short, long, requires = "rm")]
    pub tty: bool,
    /// The service's name [default: the last part of the image's; with --rm, that and some letters]
    #[arg(long)]
    pub name: Option<Name>,
    /// How many replicas
    #[arg(long, default_value_t = 1)]
    pub replicas: u32,
    /// Route this path prefix to it
    #[arg(long)]
    pub path: Option<String>,
    /// Route this host to it
    #[arg(long)]
    pub host: Option<String>,
    /// Set a variable, KEY=VALUE; may be repeated
    #[arg(short, long = "env", value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// How long to wait until it answers; with --rm, until it begins
    #[arg(long, default_value = "60s")]
    pub timeout: Span,
    /// Arguments of the component, behind --
    #[arg(last = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}
