//! The commands.

mod admin;
pub mod cluster;
mod controller;
pub mod inspection;
pub mod pod;
pub mod serve;
pub mod tunnels;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{Cli, Command};

/// Runs a command to its end.
///
/// # Errors
/// What kept it from being done, in words for the person who typed it.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Demo(demo) => serve::demo(demo),
        Command::Run(run) => serve::serve(*run),
        Command::Check(check) => inspection::check(&check),
        Command::Routes(routes) => inspection::routes(&routes),
        Command::Explain(explain) => inspection::explain(&explain),
        Command::Tunnels(tunnels) => tunnels::tunnels(&tunnels),
        Command::Crd(crd) => cluster::crd(&crd),
        Command::Uninstall(uninstall) => cluster::uninstall(uninstall),
        Command::Pod(pod) => pod::pod(pod),
    }
}

/// Writes a result to standard output. A reader that has gone, such as `head`, is no failure.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// For what waits more than it works.
fn waiting_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
}
