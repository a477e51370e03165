//! Flags of `tunnels`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Output, duration};
use crate::api::GatewayDuration;

/// Flags of `tunnels`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Tunnels {
    /// What to do with them; without it they are listed.
    #[command(subcommand)]
    pub action: Option<TunnelAction>,
    /// How they are listed.
    #[command(flatten)]
    pub list: ListTunnels,
}

/// What to do with WebSockets.
#[derive(Debug, Subcommand)]
pub enum TunnelAction {
    /// Close those that are selected, on both sides, with a Close frame.
    Close(CloseTunnels),
    /// Take a pod out of use: new WebSockets and requests go to others, and those that it has are
    /// closed one by one with 1012 (reconnect at once).
    Drain(DrainPod),
    /// Move WebSockets from pods that have many to pods that have few: some are closed with 1012 and
    /// come back to the pods that have the fewest.
    Rebalance(RebalanceTunnels),
}

/// Flags of `drain`.
#[derive(Debug, Args)]
pub struct DrainPod {
    /// Where it runs. Each replica drains what it has.
    #[command(flatten)]
    pub running: Running,
    /// The pod: IP or IP:PORT.
    #[arg(long, value_name = "ADDR")]
    pub pod: String,
    /// Over which time its WebSockets are closed.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub over: Duration,
    /// Use it again. A pod that leaves its Service is forgotten by itself.
    #[arg(long)]
    pub undo: bool,
    /// Only say how many it would be.
    #[arg(long)]
    pub dry_run: bool,
}

/// Flags of `rebalance`.
#[derive(Debug, Args)]
pub struct RebalanceTunnels {
    /// Where it runs. Each replica moves what it has.
    #[command(flatten)]
    pub running: Running,
    /// Of Services whose NAMESPACE/NAME:PORT has this in it; otherwise of all.
    #[arg(long, value_name = "TEXT")]
    pub service: Option<String>,
    /// By how much the pods of a Service may differ, in percent of what they hold on average.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub tolerance_percent: u8,
    /// Over which time they are closed.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub over: Duration,
    /// Only say how many it would be, and of which pods.
    #[arg(long)]
    pub dry_run: bool,
}

/// Flags of the list.
#[derive(Debug, Args)]
pub struct ListTunnels {
    /// Where it runs.
    #[command(flatten)]
    pub running: Running,
    /// Which.
    #[command(flatten)]
    pub selector: Selector,
    /// What is listed first: the oldest, the most silent, those with the most bytes, messages, or
    /// bytes a second.
    #[arg(long, value_enum, default_value = "age")]
    pub sort: Sort,
    /// How many are listed.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// List them again every second, until Ctrl-C.
    #[arg(long)]
    pub follow: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Flags of `close`.
#[derive(Debug, Args)]
pub struct CloseTunnels {
    /// Where it runs.
    #[command(flatten)]
    pub running: Running,
    /// Which.
    #[command(flatten)]
    pub selector: Selector,
    /// All there are, where nothing else is named.
    #[arg(long)]
    pub all: bool,
    /// The Close code that both peers are told: 1001 going away, 1008 policy, 1012 reconnect at once,
    /// 1013 try again later.
    #[arg(long, default_value_t = 1001, value_parser = close_code)]
    pub code: u16,
    /// Spread the closes over this time, so that their clients do not all come back at once.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub over: Duration,
    /// Only say how many it would be, and of which pods.
    #[arg(long)]
    pub dry_run: bool,
}

/// A running process.
#[derive(Debug, Args)]
pub struct Running {
    /// The admin port of the process.
    #[arg(
        long,
        value_name = "ADDR",
        env = "HOLDFAST_ADMIN",
        default_value = "127.0.0.1:9090"
    )]
    pub admin: SocketAddr,
}

/// Which WebSockets: those that have all that is named.
#[derive(Debug, Args)]
pub struct Selector {
    /// By their numbers.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub id: Vec<u64>,
    /// By part of the route: its object, host or path.
    #[arg(long, value_name = "TEXT")]
    pub route: Option<String>,
    /// By listener: NAMESPACE/LOADBALANCER/NAME, or the end of it.
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// By pod: IP or IP:PORT.
    #[arg(long, value_name = "ADDR")]
    pub pod: Option<String>,
    /// By client: IP.
    #[arg(long, value_name = "IP")]
    pub client: Option<std::net::IpAddr>,
    /// Open for at least so long.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Silent for at least so long.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub silent_for: Option<Duration>,
    /// With at least so many bytes a second, over their whole lives.
    #[arg(long, value_name = "BYTES")]
    pub faster_than: Option<u64>,
}

/// What is listed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// The oldest.
    Age,
    /// The most silent.
    Silent,
    /// Those with the most bytes.
    Bytes,
    /// Those with the most messages.
    Messages,
    /// Those with the most bytes a second.
    Rate,
}

impl Sort {
    /// As the admin port names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Silent => "silent",
            Self::Bytes => "bytes",
            Self::Messages => "messages",
            Self::Rate => "rate",
        }
    }
}

impl Selector {
    /// As parameters of the admin port.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let Self {
            id,
            route,
            listener,
            pod,
            client,
            older_than,
            silent_for,
            faster_than,
        } = self;
        let long = |duration: &Option<Duration>| {
            duration.map(|duration| GatewayDuration(duration).to_string())
        };
        let ids: Vec<String> = id.iter().map(ToString::to_string).collect();
        [
            ("id", (!ids.is_empty()).then(|| ids.join(","))),
            ("route", route.clone()),
            ("listener", listener.clone()),
            ("pod", pod.clone()),
            ("client", client.map(|client| client.to_string())),
            ("olderThan", long(older_than)),
            ("silentFor", long(silent_for)),
            ("fasterThan", faster_than.map(|rate| rate.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// A code that the proxy may close with.
fn close_code(text: &str) -> Result<u16, String> {
    match text {
        "1001" => Ok(1001),
        "1008" => Ok(1008),
        "1012" => Ok(1012),
        "1013" => Ok(1013),
        _ => Err("one of 1001, 1008, 1012, 1013 is expected".to_owned()),
    }
}
