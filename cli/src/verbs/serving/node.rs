//! A node of this machine, without its link.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use skiff_api::NodeName;
use skiff_disk::Disk;
use skiff_host::capabilities::SystemNames;
use skiff_host::compile::{Compiler, Limits};
use skiff_host::gateway::{self, AccessLogTo, GatewayOptions, PairFiles, TlsOptions};
use skiff_host::sandbox::SandboxOptions;
use skiff_host::{Node, NodeHandle, NodeOptions};
use skiff_registry::ClientOptions;

use super::listen::listen;
use super::process::program;
use crate::args::TlsArgs;
use crate::exit::{Exit, Failure};

/// What the operator says of the gateway.
pub(in crate::verbs) struct GatewayArgs {
    pub(in crate::verbs) plain: SocketAddr,
    pub(in crate::verbs) tls: TlsArgs,
    pub(in crate::verbs) access_log: Option<PathBuf>,
}

impl GatewayArgs {
    /// The gateway's doors, open but not yet answered.
    pub(in crate::verbs) fn open(self) -> Result<GatewayOptions, Failure> {
        let Self { plain, tls, access_log } = self;
        let TlsArgs { gateway_tls, tls_cert, tls_key, gateway_redirect } = tls;
        if tls_cert.len() != tls_key.len() {
            let (certs, keys) = (tls_cert.len(), tls_key.len());
            let text = format!(
                "{certs} --tls-cert and {keys} --tls-key are given (hint: each certificate needs its key, in the same order)"
            );
            return Err(Failure::message(Exit::Invalid, text));
        }
        let mut options = GatewayOptions::from(listen("the gateway", "--gateway", plain)?);
        if let Some(addr) = gateway_tls {
            let listener = listen("the gateway's TLS", "--gateway-tls", addr)?;
            let pairs = tls_cert.into_iter().zip(tls_key).map(|(cert, key)| PairFiles { cert, key }).collect();
            options.tls = Some(TlsOptions { listener, pairs, redirect_port: gateway_redirect });
        }
        options.access_log = access_log.map(|path| match path.as_os_str() == "-" {
            true => AccessLogTo::Stdout,
            false => AccessLogTo::File(path),
        });
        Ok(options)
    }
}

/// The options of a node in that folder, which the caller may change.
pub(in crate::verbs) fn options(
    data: PathBuf,
    disk: Disk,
    gateway: GatewayOptions,
    registry: ClientOptions,
) -> Result<NodeOptions, Failure> {
    Ok(NodeOptions {
        data,
        name: machine_name(),
        gateway,
        advertise: None,
        uid: None,
        site: String::new(),
        labels: BTreeMap::new(),
        peer: None,
        buckets: None,
        tunnels: None,
        registry,
        compiler: Compiler::new(program()?, disk.clone(), Limits::default()),
        disk,
        sandbox: SandboxOptions::default(),
        docker: None,
        names: Arc::new(SystemNames::default()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        drain: NodeOptions::DRAIN,
    })
}

pub(in crate::verbs) async fn start(options: NodeOptions) -> Result<NodeHandle, Failure> {
    Node::start(options).await.map_err(failure)
}

/// What the operator named and the node could not use is theirs to mend.
fn failure(error: skiff_host::Error) -> Failure {
    let exit = match &error {
        skiff_host::Error::Gateway(gateway::Error::Certificate(_) | gateway::Error::AccessLog { .. }) => Exit::Invalid,
        _ => Exit::Internal,
    };
    Failure::new(exit, error).during("failed to start the node")
}

/// The machine's name, made to fit.
pub(in crate::verbs) fn machine_name() -> NodeName {
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let fitting = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = host.chars().map(fitting).take(63).collect();
    let name = name.trim_matches('-');
    NodeName::new(if name.is_empty() { "node" } else { name })
}
