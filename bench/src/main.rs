//! Side-by-side runs of Holdfast, nginx and HAProxy on loopback; `docs/performance.md` has the
//! method.
//!
//! ```text
//!   compare ─▶ Scene (backend process, certificate, directory)
//!           ─▶ Peers (configured, started)  ◀── client (this process) ──▶ checks every byte
//!           ─▶ measures ─▶ rows ─▶ Report ─▶ Markdown, JSON
//! ```

mod backend;
mod client;
mod cluster;
mod echo;
mod measure;
mod os;
mod peers;
mod plan;
mod report;
mod run;
mod soak;
mod statistics;
mod storm;
mod usage;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use run::{Measure, Options};

/// Compares Holdfast with nginx and HAProxy on this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every measure.
    Compare(Options),
    /// Processor time of a WebSocket message.
    Messages(Options),
    /// Processor time of opening and closing a WebSocket.
    Openings(Options),
    /// Processor time of an HTTP request.
    Requests(Options),
    /// Memory of idle WebSockets.
    Memory(Options),
    /// Processor time and memory of idle WebSockets with every policy on.
    Keepalive(Options),
    /// Configuration changes under live WebSockets.
    Changes(Options),
    /// Time from a changed file to the changed answer.
    Served(Options),
    /// Memory of Holdfast without traffic.
    Footprint(Options),
    /// Holdfast on a real API server, that of the kubeconfig.
    Cluster(cluster::Options),
    /// A crowd that reconnects at once, with and without the queue in front of pods.
    Storm(storm::Options),
    /// Many WebSockets that come and go: whether memory and open files stay as they are.
    Soak(soak::Options),
    /// The echo server that all of them need; they start it themselves.
    Backend {
        /// Where to listen.
        #[arg(required = true)]
        addresses: Vec<SocketAddr>,
    },
}

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode> {
    os::raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (measures, options): (&[Measure], _) = match Arguments::parse().command {
        Command::Compare(options) => (&Measure::ALL, options),
        Command::Messages(options) => (&[Measure::Messages], options),
        Command::Openings(options) => (&[Measure::Openings], options),
        Command::Requests(options) => (&[Measure::Requests], options),
        Command::Memory(options) => (&[Measure::Memory], options),
        Command::Keepalive(options) => (&[Measure::Keepalive], options),
        Command::Changes(options) => (&[Measure::Changes], options),
        Command::Served(options) => (&[Measure::Served], options),
        Command::Footprint(options) => (&[Measure::Footprint], options),
        Command::Cluster(options) => return runtime.block_on(cluster::run(options)),
        Command::Storm(options) => return runtime.block_on(storm::run(options)),
        Command::Soak(options) => return runtime.block_on(soak::run(options)),
        Command::Backend { addresses } => {
            runtime.block_on(backend::serve(&addresses))?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    runtime.block_on(run::run(measures, options))
}
