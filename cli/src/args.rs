//! The command line.

mod create;
mod project;
mod reach;
mod rollout;
mod run;
mod serving;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use skiff_api::quantity::Span;
use skiff_api::resource::{is_label_key, is_label_value};
use skiff_api::validate::is_node_name;
use skiff_api::{ImageRef, Kind, Name, NodeName};
use skiff_host::uplink::Address;

pub(crate) use self::create::{CreateArgs, CreateVerb};
pub(crate) use self::project::{BuildArgs, ChangeArgs, DeployArgs, DevArgs, NewArgs, SetImage};
pub(crate) use self::reach::{ExecArgs, PortForwardArgs};
pub(crate) use self::rollout::{
    PsArgs, RmArgs, RolloutHistoryArgs, RolloutRestartArgs, RolloutStatusArgs, RolloutUndoArgs, RolloutVerb,
};
pub(crate) use self::run::RunArgs;
pub(crate) use self::serving::{DockerArgs, LivenessArgs, MirrorOf, RegistryArgs, TlsArgs};

/// Microservices as WebAssembly components, on one machine or a fleet.
#[derive(Debug, Parser)]
#[command(name = "skiff", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(subcommand)]
    pub verb: Verb,
}

const AFTER_HELP: &str = "Start with `skiff up`, then `skiff push hello hello.wasm` and `skiff run hello`.\n\
Exit codes: 0 done, 1 diff found differences, 2 usage, 3 not found, 4 invalid input, 5 conflict, 6 unauthorized,\n\
7 unreachable, 8 not ready in time, 9 address or data folder in use, 10 disk full, 70 internal error.";

/// Which control plane; without these, the one that `skiff up` wrote into the context.
#[derive(Debug, Clone, Parser)]
pub(crate) struct ServerArgs {
    /// The control plane, https://HOST:PORT, or http:// where it has no TLS
    #[arg(long, global = true, env = "SKIFF_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// The token to show it
    #[arg(long, global = true, env = "SKIFF_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The certificate of the cluster's own CA, PEM [default: the one in the context]
    #[arg(long, global = true, env = "SKIFF_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Which namespace.
#[derive(Debug, Clone, Parser)]
pub(crate) struct NamespaceArgs {
    /// The namespace
    #[arg(short, long, default_value = skiff_api::resource::DEFAULT_NAMESPACE)]
    pub namespace: Name,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a whole cluster in this process: control plane, registry and node
    Up(UpArgs),
    /// Run the control plane and the registry of a fleet, whose nodes are other machines
    Server(ControlArgs),
    /// Run a node of a cluster whose control plane is on another machine, or take nodes out of the cluster
    Node(NodeVerb),
    /// Make a folder with a new service in it
    New(NewArgs),
    /// Make the component of the service in a folder
    Build(BuildArgs),
    /// Run the service in a folder, and again whenever it changes; starts a cluster if there is none
    Dev(DevArgs),
    /// Build the service in a folder, push it, apply its manifest, and wait until it answers
    Deploy(DeployArgs),
    /// Push a component or a core wasip1 module to the cluster's registry, or to another
    Push(PushArgs),
    /// Write an image's component to a file
    Pull(PullArgs),
    /// List the images of the cluster's registry
    Images(ImagesArgs),
    /// Give an image of the cluster's registry another name
    Tag(TagArgs),
    /// Take tags or images out of the cluster's registry
    Rmi(RmiArgs),
    /// Show all that is known of a service; or what an image is made of, imports and exports, and could reach
    Inspect(InspectArgs),
    /// Sign an image with a key, so that policies accept it; or make a key
    Sign(SignArgs),
    /// Log in to a control plane, or to a registry
    Login(LoginArgs),
    /// Forget a login
    Logout(LogoutArgs),
    /// Make a service that runs an image; with --rm, run it to its end here
    Run(RunArgs),
    /// Create or change objects as manifests say
    Apply(ApplyArgs),
    /// Make a Secret, a Config or a namespace without a manifest
    #[command(subcommand)]
    Create(CreateVerb),
    /// Show what apply would change
    Diff(DiffArgs),
    /// List objects, or show one
    Get(GetArgs),
    /// Show everything about an object, with its events
    Describe(DescribeArgs),
    /// Change how many replicas a service has
    Scale(ScaleArgs),
    /// How far a change of a service is, what was rolled out before, and back to it
    #[command(subcommand)]
    Rollout(RolloutVerb),
    /// Show why a service's replicas are where they are, and what one that waits lacks
    Why(WhyArgs),
    /// Let nodes keep what they have and get nothing new
    Cordon(NodeArgs),
    /// Let nodes take work again
    Uncordon(NodeArgs),
    /// Cordon nodes and move what they have to others, without losing a request
    Drain(DrainArgs),
    /// Keep services off a node that do not tolerate it: KEY=VALUE:EFFECT, or KEY:EFFECT- to end that
    Taint(TaintArgs),
    /// Set labels of a node: KEY=VALUE, or KEY- to take one away
    Label(LabelArgs),
    /// Move replicas until nodes are evenly full
    Rebalance(RebalanceArgs),
    /// List replicas that run
    Ps(PsArgs),
    /// Print what a service, job or replica wrote
    Logs(LogsArgs),
    /// Run a command in a service's container
    Exec(ExecArgs),
    /// Let ports of this machine lead to a service's replica
    PortForward(PortForwardArgs),
    /// Remove services; those that run with --force
    Rm(RmArgs),
    /// Delete objects
    Delete(DeleteArgs),
    /// Write all of the cluster into a file, while it serves: objects, registry, buckets, and the keys of all
    Backup(BackupArgs),
    /// Fill an empty data folder from a backup, before `skiff server` or `skiff up` is started on it
    Restore(RestoreArgs),
    /// Tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Print a completion script for a shell
    Completions { shell: Shell },
    /// Print this program's version, and the control plane's if there is one
    Version,
    #[command(name = skiff_host::compile::VERB, hide = true, disable_help_flag = true)]
    CompileComponent(CompileArgs),
}

#[derive(Debug, Parser)]
pub(crate) struct UpArgs {
    /// Where everything is kept [default: skiff in the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the API and the registry listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Where services answer; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub gateway: SocketAddr,
    #[command(flatten)]
    pub tls: TlsArgs,
    #[command(flatten)]
    pub docker: DockerArgs,
    /// Write a line of JSON for each request to this file; - is standard output
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// A node of a cluster whose control plane is on another machine.
#[derive(Debug, Parser)]
pub(crate) struct NodeRunArgs {
    /// The control plane, https://HOST:PORT; needed at the first start, and when it has moved
    #[arg(long, value_name = "URL")]
    pub join: Option<Address>,
    /// Where everything is kept [default: skiff-node in the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The node's name, for good [default: the machine's]
    #[arg(long, value_parser = node_name)]
    pub name: Option<NodeName>,
    /// Where services answer; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    pub gateway: SocketAddr,
    /// Where others reach this machine: HOST, or HOST:PORT if the gateway has another port there [default: the address
    /// that the control plane is reached from]
    #[arg(long, value_name = "HOST[:PORT]", value_parser = host)]
    pub advertise: Option<String>,
    /// Where other nodes ask for services that are here; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7071")]
    pub peer: SocketAddr,
    /// Serve /metrics and /healthz in plain HTTP at this address of the machine's own, such as 127.0.0.1:9070
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Nodes of one site can dial one another
    #[arg(long, value_parser = site)]
    pub site: Option<String>,
    /// A label of the node, KEY=VALUE, for when the cluster first sees it; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = node_label)]
    pub label: Vec<(String, String)>,
    #[command(flatten)]
    pub tls: TlsArgs,
    #[command(flatten)]
    pub docker: DockerArgs,
    /// Write a line of JSON for each request to this file; - is standard output
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
}

fn node_name(text: &str) -> Result<NodeName, String> {
    match is_node_name(text) {
        true => Ok(NodeName::new(text)),
        false => Err("a node's name has up to 253 letters, digits, '-', '.' and '_'".to_owned()),
    }
}

fn host(text: &str) -> Result<String, String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte);
    match !text.is_empty() && text.len() <= 260 && text.bytes().all(is_fine) {
        true => Ok(text.to_owned()),
        false => Err("this is no host (hint: write a name or an address, such as 10.0.0.7)".to_owned()),
    }
}

fn site(text: &str) -> Result<String, String> {
    match is_label_value(text) {
        true => Ok(text.to_owned()),
        false => Err("a site is a label's value: up to 63 letters, digits, '-', '_' and '.'".to_owned()),
    }
}

fn node_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').filter(|(key, value)| is_label_key(key) && is_label_value(value)) {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err("this is no label (hint: write KEY=VALUE)".to_owned()),
    }
}

#[derive(Debug, Parser)]
pub(crate) struct ControlArgs {
    /// Where everything is kept [default: skiff in the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the API, the registry and the nodes' links listen, with TLS; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7070")]
    pub listen: SocketAddr,
    /// A name or an address that others reach this machine by, for its certificate; may be repeated. Nodes and `skiff` do
    /// not need it, docker and curl do
    #[arg(long, value_name = "HOST")]
    pub name: Vec<String>,
    #[command(flatten)]
    pub liveness: LivenessArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Without a verb of its own, it runs a node.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NodeVerb {
    #[command(subcommand)]
    pub verb: Option<NodeSubverb>,
    #[command(flatten)]
    pub run: NodeRunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeSubverb {
    /// Take nodes out of the cluster for good: they are let in no more, and what they had is placed elsewhere
    Remove(NodeArgs),
}

#[derive(Debug, Parser)]
pub(crate) struct BackupArgs {
    /// The file to write; only its owner may read it
    pub file: PathBuf,
}

#[derive(Debug, Parser)]
pub(crate) struct RestoreArgs {
    /// A file of `skiff backup`
    pub file: PathBuf,
    /// The folder to fill [default: skiff in the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Parser)]
pub(crate) struct PushArgs {
    /// NAME or NAME:TAG; a name of one part is put under the namespace
    pub image: ImageRef,
    /// The .wasm file
    pub file: PathBuf,
    #[command(flatten)]
    pub plain: PlainHttp,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

/// Another registry without TLS.
#[derive(Debug, Clone, Parser)]
pub(crate) struct PlainHttp {
    /// Talk to another machine's registry without TLS if it has none; one on this machine may always do without
    #[arg(long)]
    pub plain_http: bool,
}

#[derive(Debug, Parser)]
pub(crate) struct PullArgs {
    /// An image of the cluster's registry, or of another: HOST/NAME:TAG
    pub image: ImageRef,
    /// The file to write [default: the last part of the image's name, with .wasm]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub plain: PlainHttp,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct ImagesArgs {
    /// Only those of this name
    pub name: Option<ImageRef>,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// Of every namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Print digests in full
    #[arg(long)]
    pub no_trunc: bool,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t = ImageFormat::Table)]
    pub output: ImageFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImageFormat {
    Table,
    Json,
    Yaml,
    Name,
}

#[derive(Debug, Parser)]
pub(crate) struct TagArgs {
    /// NAME, NAME:TAG or NAME@DIGEST
    pub source: ImageRef,
    /// NAME or NAME:TAG
    pub target: ImageRef,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct RmiArgs {
    /// NAME:TAG takes the tag away, NAME@DIGEST the image with all its tags
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<ImageRef>,
    /// Also an image that a service runs
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct SignArgs {
    /// An image of the cluster's registry, or of another: HOST/NAME:TAG. What its tag stands for now is signed
    #[arg(required_unless_present = "generate_key")]
    pub image: Option<ImageRef>,
    /// The private key: PKCS#8 in PEM, P-256 or Ed25519, or one of cosign's. SKIFF_KEY_PASSPHRASE or COSIGN_PASSWORD may
    /// hold its passphrase
    #[arg(long, value_name = "FILE", required_unless_present = "generate_key", requires = "image")]
    pub key: Option<PathBuf>,
    /// Make a key first, of P-256: FILE, and FILE.pub for policies. It gets the passphrase in SKIFF_KEY_PASSPHRASE, if
    /// there is one
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    pub generate_key: Option<PathBuf>,
    #[command(flatten)]
    pub plain: PlainHttp,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct LoginArgs {
    /// A registry, HOST or HOST:PORT [default: the control plane of --server, with --token]
    pub registry: Option<String>,
    /// Who logs in to a registry
    #[arg(short, long, requires = "registry")]
    pub username: Option<String>,
    /// Read the password, or the control plane's token, from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Also let docker log in to the cluster's registry
    #[arg(long, conflicts_with = "registry")]
    pub docker: bool,
    #[command(flatten)]
    pub plain: PlainHttp,
}

#[derive(Debug, Parser)]
pub(crate) struct LogoutArgs {
    /// A registry, HOST or HOST:PORT [default: the control plane]
    pub registry: Option<String>,
    /// Also docker's login to the cluster's registry
    #[arg(long, conflicts_with = "registry")]
    pub docker: bool,
}

#[derive(Debug, Parser)]
pub(crate) struct InspectArgs {
    /// A service, an image of the cluster's registry or of another, or a file such as ./cart.wasm. A name alone is that of a
    /// service if there is one, as docker prefers containers
    #[arg(value_name = "SERVICE|IMAGE|FILE")]
    pub component: String,
    /// Take it for that and nothing else
    #[arg(long, value_enum)]
    pub r#type: Option<InspectType>,
    #[command(flatten)]
    pub plain: PlainHttp,
    /// How to print it [default: json for a service, table for all else]
    #[arg(short, long, value_enum)]
    pub output: Option<InspectFormat>,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectFormat {
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectType {
    Service,
    Image,
}

/// Where manifests come from.
#[derive(Debug, Clone, Parser)]
pub(crate) struct FileArgs {
    /// A manifest, a folder of them, or - for standard input; may be repeated
    #[arg(short, long = "file", value_name = "FILE|DIR|-", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub changes: ChangeArgs,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub files: FileArgs,
    /// Check everything and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until every service is ready and every job has ended
    #[arg(long)]
    pub wait: bool,
    /// How long --wait waits
    #[arg(long, default_value = "60s")]
    pub timeout: Span,
}

#[derive(Debug, Parser)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub files: FileArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Debug, Parser)]
pub(crate) struct GetArgs {
    /// services, replicas, revisions, imagepolicies, nodes, namespaces, events or tokens
    pub kind: Kind,
    /// Only this one
    pub name: Option<String>,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// Of every namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only those with these labels: KEY=VALUE, KEY!=VALUE, KEY, !KEY, separated by commas
    #[arg(short = 'l', long = "selector", value_name = "LABELS", default_value = "")]
    pub labels: String,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Go on with what changes
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Parser)]
pub(crate) struct DescribeArgs {
    /// service, replica, revision, imagepolicy, node or namespace
    pub kind: Kind,
    pub name: String,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct ScaleArgs {
    pub service: ServiceName,
    #[arg(long)]
    pub replicas: u32,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct WhyArgs {
    pub service: ServiceName,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct NodeArgs {
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
}

#[derive(Debug, Parser)]
pub(crate) struct DrainArgs {
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// How long to wait until nothing is left there
    #[arg(long, default_value = "5m")]
    pub timeout: Span,
    /// Do not wait
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Parser)]
pub(crate) struct TaintArgs {
    /// node
    pub kind: Kind,
    pub name: String,
    /// KEY=VALUE:EFFECT or KEY:EFFECT; with a `-` behind it, it is taken away. Effects: NoSchedule, PreferNoSchedule,
    /// NoExecute
    #[arg(required = true, value_name = "TAINT")]
    pub taints: Vec<String>,
}

#[derive(Debug, Parser)]
pub(crate) struct LabelArgs {
    /// node
    pub kind: Kind,
    pub name: String,
    /// KEY=VALUE, or KEY- to take it away
    #[arg(required = true, value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Replace values that are there
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Debug, Parser)]
pub(crate) struct RebalanceArgs {
    /// Show what would move, and move nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Parser)]
pub(crate) struct LogsArgs {
    /// SERVICE, service/NAME or replica/NAME
    pub target: String,
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines of each replica
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// Only lines of the last so long, such as 5m
    #[arg(long, value_name = "SPAN")]
    pub since: Option<Span>,
    /// Put the time before each line
    #[arg(long)]
    pub timestamps: bool,
    /// Put the replica's name before each line
    #[arg(long)]
    pub prefix: bool,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Parser)]
pub(crate) struct DeleteArgs {
    /// service, config, secret, imagepolicy, namespace, replica or node
    #[arg(required_unless_present = "files", requires = "name")]
    pub kind: Option<Kind>,
    pub name: Option<String>,
    /// What these manifests name: a file, a folder, or - for standard input
    #[arg(short, long = "file", value_name = "FILE|DIR|-", conflicts_with = "kind")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub namespace: NamespaceArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Print the token of the current context; the registry takes it as the password of any user name
    Show,
    /// Make a token that machines join the cluster with, and print it; nobody sees it again
    Create(TokenCreateArgs),
    /// List the tokens that machines join with
    List,
    /// End tokens: no machine joins with them any more, and those that have joined stay
    Revoke(TokenRevokeArgs),
}

#[derive(Debug, Parser)]
pub(crate) struct TokenCreateArgs {
    /// For machines that become nodes
    #[arg(long, required = true)]
    pub node: bool,
    /// How many machines may join with it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub uses: u32,
    /// How long it may be used
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    pub ttl: Span,
    /// Label the machines that join with it, KEY=VALUE; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
}

#[derive(Debug, Parser)]
pub(crate) struct TokenRevokeArgs {
    /// As `skiff token list` shows them
    #[arg(required = true, value_name = "TOKEN")]
    pub ids: Vec<String>,
}

#[derive(Debug, Parser)]
pub(crate) struct CompileArgs {
    /// As the compiling process takes them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<std::ffi::OsString>,
}

/// `NAME` or `service/NAME`.
#[derive(Debug, Clone)]
pub(crate) struct ServiceName(pub Name);

impl std::str::FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = match text.split_once('/') {
            Some((kind, name)) => match kind.parse() {
                Ok(Kind::Service) => name,
                _ => return Err(format!("{kind:?} is not a kind that this verb takes (hint: write service/NAME)")),
            },
            None => text,
        };
        name.parse().map(Self).map_err(|error: skiff_api::id::InvalidName| error.to_string())
    }
}
