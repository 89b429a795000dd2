//! Of the verbs for a service's folder: new, build, deploy, dev.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use skiff_api::quantity::Span;
use skiff_api::{ImageRef, Name};

use super::NamespaceArgs;
use crate::project::{Lang, Template};

#[derive(Debug, Parser)]
pub(crate) struct NewArgs {
    /// The service's name
    pub name: Name,
    /// In which language
    #[arg(long, value_enum, default_value_t = Lang::Rust)]
    pub lang: Lang,
    /// What it starts as
    #[arg(long, value_enum, default_value_t = Template::Http)]
    pub template: Template,
    /// The folder to make [default: the name]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Parser)]
pub(crate) struct BuildArgs {
    /// The service's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// Copy the component to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, Parser)]
pub(crate) struct DeployArgs {
    /// The service's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// A manifest, or a folder of them; may be repeated [default: skiff.yaml in the service's folder]
    #[arg(short, long = "file", value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Which service of the manifest the folder's component is for, where several could be
    #[arg(long, value_name = "NAME")]
    pub service: Option<Name>,
    #[command(flatten)]
    pub changes: ChangeArgs,
    /// How long to wait until it answers
    #[arg(long, default_value = "5m")]
    pub timeout: Span,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    pub deploy: DeployArgs,
    /// Make a whole component at each change, as build and deploy do, and no engine that reads the source
    #[arg(long)]
    pub full: bool,
    /// Start a cluster for this, even where there is one
    #[arg(long)]
    pub local: bool,
    /// Where its services answer
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub gateway: SocketAddr,
}

/// What is other than in the manifests.
#[derive(Debug, Clone, Default, Parser)]
pub(crate) struct ChangeArgs {
    /// What is different here: documents that name an object by kind and name, and what to change of it; may be repeated
    #[arg(long, value_name = "FILE")]
    pub overlay: Vec<PathBuf>,
    /// Run this image in that service instead of the one in its manifest; may be repeated
    #[arg(long, value_name = "SERVICE=IMAGE")]
    pub set_image: Vec<SetImage>,
}

/// `SERVICE=IMAGE`.
#[derive(Debug, Clone)]
pub(crate) struct SetImage {
    pub service: Name,
    pub image: ImageRef,
}

impl std::str::FromStr for SetImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (service, image) = text.split_once('=').ok_or("write SERVICE=IMAGE, such as cart=cart:1.5")?;
        let service = service.parse().map_err(|error| format!("{service:?}: {error}"))?;
        let image = image.parse().map_err(|error| format!("{image:?}: {error}"))?;
        Ok(Self { service, image })
    }
}
