//! What can be asked for.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod tunnels;

pub use tunnels::{
    CloseTunnels, DrainPod, ListTunnels, RebalanceTunnels, Running, Selector, Sort, TunnelAction,
    Tunnels,
};

use crate::api::GatewayDuration;
use crate::telemetry::LogFormat;

/// A Kubernetes ingress controller for WebSockets: controller and proxy in one process.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine without a cluster: built-in pods, the demo's manifests,
    /// HTTP on 8080, HTTPS on 8443, admin on 9090.
    Demo(Demo),
    /// Run the controller and its proxy.
    Run(Box<Run>),
    /// Translate manifests and say what is wrong with them; exit 1 where something is refused.
    Check(Check),
    /// Show the routing table, of manifests or of a running process.
    Routes(Routes),
    /// Say which listener, host, route and pods serve a URL, and why the others do not.
    Explain(Explain),
    /// List the open WebSockets of a running process, or close some.
    Tunnels(Box<Tunnels>),
    /// Write the CustomResourceDefinitions as YAML, or apply them to the cluster.
    Crd(Crd),
    /// Take back all that the controller wrote to the API server: owned Services, finalizers,
    /// statuses, the Lease. Run before the controller is removed, while it still runs.
    Uninstall(Uninstall),
    /// Run one of the demo's pods by itself, until SIGTERM.
    Pod(Pod),
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// The manifests to serve, and to edit while it runs.
    #[arg(long, value_name = "DIR", default_value = "manifests/demo")]
    pub manifests: PathBuf,
    /// Address of the listeners.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub bind_address: IpAddr,
    /// Address of the admin port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
    /// Addresses of the echo pods, as the manifests name them.
    #[arg(
        long,
        value_name = "ADDR",
        value_delimiter = ',',
        default_value = "127.0.0.1:7001,127.0.0.1:7002"
    )]
    pub echo: Vec<SocketAddr>,
    /// Addresses of the chat pods, as the manifests name them.
    #[arg(
        long,
        value_name = "ADDR",
        value_delimiter = ',',
        default_value = "127.0.0.1:7003"
    )]
    pub chat: Vec<SocketAddr>,
    /// How it writes logs.
    #[command(flatten)]
    pub logging: Logging,
    /// How it ends.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub drain_window: Duration,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Read Kubernetes objects from the YAML files of this directory, and follow their changes. By
    /// default the API server is watched: that of the kubeconfig, else that of the pod.
    #[arg(long, value_name = "DIR", env = "HOLDFAST_MANIFESTS")]
    pub manifests: Option<PathBuf>,
    /// Watch these namespaces only, and nothing outside of namespaces. No rights beyond them are
    /// needed then.
    #[arg(long, value_name = "NAMESPACE", env = "HOLDFAST_NAMESPACE", value_delimiter = ',', value_parser = namespace, conflicts_with = "manifests")]
    pub namespace: Vec<String>,
    /// Which objects are its own, and what it tells the API server.
    #[command(flatten)]
    pub controller: Controller,
    /// Address of the admin port: health, metrics, JSON.
    #[arg(
        long,
        value_name = "ADDR",
        env = "HOLDFAST_ADMIN",
        default_value = "127.0.0.1:9090"
    )]
    pub admin: SocketAddr,
    /// Address that listeners bind; by default every address of the host, IPv6 and IPv4.
    #[arg(long, value_name = "IP", env = "HOLDFAST_BIND_ADDRESS")]
    pub bind_address: Option<IpAddr>,
    /// Bind any free port instead of the listeners' own, and print which. For tests.
    #[arg(long, hide = true, env = "HOLDFAST_ANY_PORT")]
    pub any_port: bool,
    /// Threads of the data plane; by default one per core.
    #[arg(long, value_name = "N", env = "HOLDFAST_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// For how long connections are still accepted after SIGTERM, while readiness fails.
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_SHUTDOWN_DELAY", default_value = "5s", value_parser = duration)]
    pub shutdown_delay: Duration,
    /// Over which open WebSockets are closed then, evenly.
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_DRAIN_WINDOW", default_value = "20s", value_parser = duration)]
    pub drain_window: Duration,
    /// For how long requests and closing handshakes may take after that.
    #[arg(long, value_name = "DURATION", env = "HOLDFAST_DRAIN_GRACE", default_value = "10s", value_parser = duration)]
    pub drain_grace: Duration,
    /// How it writes logs.
    #[command(flatten)]
    pub logging: Logging,
}

/// Flags of `run` that concern a cluster.
#[derive(Clone, Debug, Args)]
pub struct Controller {
    /// The IngressClass that is ours where there is no object of this name: the value of the legacy
    /// annotation kubernetes.io/ingress.class, and with --namespace the name of the class.
    #[arg(
        long,
        value_name = "NAME",
        env = "HOLDFAST_INGRESS_CLASS",
        default_value = "holdfast"
    )]
    pub ingress_class: String,
    /// The LoadBalancer of Ingresses whose class has no parameters. By default they are served by
    /// listeners on ports 80 and 443 of the host.
    #[arg(long, value_name = "NAMESPACE/NAME", env = "HOLDFAST_LOAD_BALANCER", value_parser = namespaced_name)]
    pub load_balancer: Option<NamespacedName>,
    /// Where the Lease is.
    #[command(flatten)]
    pub lease: Lease,
    /// The pod's name, by which replicas are told apart in the Lease; by default the host's name
    /// and something random.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// Labels of the controller's pods, to which owned Services send. Without them no Service is
    /// made.
    #[arg(long, value_name = "LABEL=VALUE", env = "HOLDFAST_POD_SELECTOR", value_delimiter = ',', value_parser = label)]
    pub pod_selector: Vec<Option<(String, String)>>,
    /// The headless Service of the controller's pods, in their namespace. Its addresses are those of
    /// load balancers with exposure Host, and those that are asked for their open WebSockets.
    #[arg(long, value_name = "NAME", env = "HOLDFAST_PEERS_SERVICE")]
    pub peers_service: Option<String>,
    /// Addresses of load balancers with exposure Host instead: IP addresses or host names.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "HOLDFAST_PUBLISH_ADDRESS",
        value_delimiter = ','
    )]
    pub publish_address: Vec<String>,
}

/// Which Lease.
#[derive(Clone, Debug, Args)]
pub struct Lease {
    /// The controller's namespace, where the Lease and the owned Services are; by default the pod's,
    /// or that of the kubeconfig.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// The Lease by which replicas choose the one that writes to the API server.
    #[arg(
        long,
        value_name = "NAME",
        env = "HOLDFAST_LEASE",
        default_value = "holdfast"
    )]
    pub lease: String,
}

/// Flags of `crd`.
#[derive(Debug, Args)]
pub struct Crd {
    /// Apply them to the cluster of the kubeconfig, or of the pod, and wait until they are in force.
    #[arg(long)]
    pub apply: bool,
    /// For how long.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, requires = "apply")]
    pub timeout: Duration,
}

/// Flags of `uninstall`.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// The namespaces that the controller is limited to.
    #[arg(long, value_name = "NAMESPACE", env = "HOLDFAST_NAMESPACE", value_delimiter = ',', value_parser = namespace)]
    pub namespace: Vec<String>,
    /// Which Lease.
    #[command(flatten)]
    pub lease: Lease,
    /// How long all of it may take.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// Flags of `pod`.
#[derive(Debug, Args)]
pub struct Pod {
    /// Which pod.
    #[arg(value_enum)]
    pub kind: PodKind,
    /// Where it listens.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    pub address: SocketAddr,
    /// The pod's name, for its answers.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// The pod's namespace, for its answers.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// How it writes logs.
    #[command(flatten)]
    pub logging: Logging,
}

/// The demo's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PodKind {
    /// Answers what it saw as JSON; sends WebSocket messages back.
    Echo,
    /// A page where people write to each other.
    Chat,
}

/// A namespace and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacedName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// How logs are written.
#[derive(Clone, Debug, Args)]
pub struct Logging {
    /// Level of the process's own log on standard error, or a list of TARGET=LEVEL.
    #[arg(
        long,
        value_name = "FILTER",
        env = "HOLDFAST_LOG",
        default_value = "info"
    )]
    pub log: String,
    /// How the log is written.
    #[arg(long, value_enum, env = "HOLDFAST_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// One JSON line a request and a tunnel, on standard output.
    #[arg(long, value_enum, env = "HOLDFAST_ACCESS_LOG", default_value = "on")]
    pub access_log: Switch,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Files and directories of manifests.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Flags of `routes`.
#[derive(Debug, Args)]
pub struct Routes {
    /// Where the table comes from.
    #[command(flatten)]
    pub from: From,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The URL, such as `wss://chat.example.com/room`.
    pub url: String,
    /// Files and directories of manifests.
    #[arg(long, value_name = "PATH", required = true)]
    pub manifests: Vec<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Where a table comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct From {
    /// Files and directories of manifests.
    #[arg(long, value_name = "PATH")]
    pub manifests: Vec<PathBuf>,
    /// The admin port of a running process.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<GatewayDuration>()
        .map(|duration| duration.0)
        .map_err(|error| error.to_string())
}

/// A name as namespaces have it (RFC 1123 label), or nothing.
fn namespace(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = text.len() <= 63
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("not the name of a namespace".to_owned())
    }
}

fn namespaced_name(text: &str) -> Result<NamespacedName, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(NamespacedName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => Err("NAMESPACE/NAME is expected".to_owned()),
    }
}

/// None of an empty text: so is an environment variable that is not set.
fn label(text: &str) -> Result<Option<(String, String)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.split_once('=') {
        Some((label, value)) if !label.is_empty() => Ok(Some((label.to_owned(), value.to_owned()))),
        _ => Err("LABEL=VALUE is expected".to_owned()),
    }
}
