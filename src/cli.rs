//! What can be asked for.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    Run(Run),
    /// Translate manifests and say what is wrong with them; exit 1 where something is refused.
    Check(Check),
    /// Show the routing table, of manifests or of a running process.
    Routes(Routes),
    /// Say which listener, host, route and pods serve a URL, and why the others do not.
    Explain(Explain),
    /// Write the CustomResourceDefinitions as YAML.
    Crd,
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
