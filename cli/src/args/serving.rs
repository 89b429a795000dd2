//! Of the verbs that serve: the registry, when nodes are given up, and TLS on the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use skiff_api::quantity::{Bytes, Span};
use skiff_registry::server::Pattern;
use skiff_scheduler::plan::liveness::LivenessOptions;

/// The cluster's registry.
#[derive(Debug, Parser)]
pub(crate) struct RegistryArgs {
    /// More tokens for the registry, YAML: a list of {name, sha256, pull, push, delete}, each of the last three a list of
    /// repositories such as "shop/*". A changed file is read by itself
    #[arg(long, value_name = "FILE")]
    pub registry_tokens: Option<PathBuf>,
    /// Let anybody pull these repositories, such as "pub/*"; may be repeated; without a value, all
    #[arg(long, value_name = "REPOSITORIES", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    pub anonymous_pull: Vec<Pattern>,
    /// The largest blob that may be pushed
    #[arg(long, value_name = "SIZE", default_value = "16Gi")]
    pub blob_max: Bytes,
    /// Another registry that may be copied from without TLS, HOST or HOST:PORT; may be repeated
    #[arg(long, value_name = "REGISTRY", env = "SKIFF_PLAIN_HTTP", value_delimiter = ',')]
    pub plain_http: Vec<String>,
    /// Where images of another registry are looked for first; may be repeated
    #[arg(long, value_name = "REGISTRY=HOST[:PORT]", env = "SKIFF_MIRRORS", value_delimiter = ',')]
    pub mirror: Vec<MirrorOf>,
}

/// `REGISTRY=HOST[:PORT]`: a registry, and where its images are too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MirrorOf {
    pub of: String,
    pub at: String,
}

impl std::str::FromStr for MirrorOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((of, at)) if !of.is_empty() && !at.is_empty() && !at.contains('/') => {
                Ok(Self { of: of.to_owned(), at: at.to_owned() })
            }
            _ => Err(format!(
                "{text:?} is not a mirror (hint: write REGISTRY=HOST[:PORT], such as docker.io=mirror.lan)"
            )),
        }
    }
}

/// TLS on the gateway.
#[derive(Debug, Parser)]
pub(crate) struct TlsArgs {
    /// Where services answer over TLS; port 0 takes a free one
    #[arg(long, value_name = "ADDR", requires_all = ["tls_cert", "tls_key"])]
    pub gateway_tls: Option<SocketAddr>,
    /// A certificate with its chain, PEM; may be repeated, each with its --tls-key. Clients get the one that has the
    /// host they ask for, else the first. Renewed files are read by themselves
    #[arg(long, value_name = "FILE", requires = "gateway_tls")]
    pub tls_cert: Vec<PathBuf>,
    /// The key of the certificate at the same place, PEM
    #[arg(long, value_name = "FILE", requires = "gateway_tls")]
    pub tls_key: Vec<PathBuf>,
    /// Answer plain HTTP with a redirect to https on this port, which is the one that clients see: mostly 443
    #[arg(long, value_name = "PORT", requires = "gateway_tls")]
    pub gateway_redirect: Option<u16>,
}

/// When nodes are given up.
#[derive(Debug, Parser)]
pub(crate) struct LivenessArgs {
    /// How long a node may not be heard until what it has is placed elsewhere; services may ask for longer with
    /// `offline.replaceAfter`
    #[arg(long, value_name = "SPAN", default_value = "4s", value_parser = span)]
    pub dead_after: Span,
    /// From the start on, how long no node is given up: so long, all of them may take to come back
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span)]
    pub start_grace: Span,
}

/// A node that redials is heard again within two seconds; beyond a day nobody waits.
fn span(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    match (2..=86_400).contains(&span.as_duration().as_secs()) {
        true => Ok(span),
        false => Err("it is 2s to 24h".to_owned()),
    }
}

impl From<LivenessArgs> for LivenessOptions {
    fn from(args: LivenessArgs) -> Self {
        let ms = |span: Span| u64::try_from(span.as_duration().as_millis()).unwrap_or(u64::MAX);
        Self { dead_after_ms: ms(args.dead_after), grace_ms: ms(args.start_grace) }
    }
}

/// The engine that runs containers.
#[derive(Debug, Parser)]
pub(crate) struct DockerArgs {
    /// The socket of the machine's Docker engine, or `none`: then this node runs no containers. Default: /var/run/docker.sock
    /// if it is there
    #[arg(long, value_name = "SOCKET", env = "SKIFF_DOCKER")]
    pub docker: Option<PathBuf>,
}

impl DockerArgs {
    pub(crate) fn socket(self) -> Option<PathBuf> {
        match self.docker {
            Some(none) if none.as_os_str() == "none" => None,
            Some(socket) => Some(socket),
            None => Some(PathBuf::from("/var/run/docker.sock")).filter(|socket| socket.exists()),
        }
    }
}
