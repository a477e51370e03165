//! Tests of Holdfast on a Kubernetes cluster: the chart installed by Helm, real pods, clients that
//! come in through the addresses of Services.
//!
//! ```text
//! e2e/run.sh ─▶ the cluster, its images
//!            └▶ this program, in the cluster's network
//!                 run ─▶ scenario ─▶ Trial: a namespace of its own, the items that it reports
//!                                      ├─▶ cluster       objects, kubectl, Helm, trouble on demand
//!                                      ├─▶ installation  the chart: pods, leader, admin pages
//!                                      ├─▶ client        HTTP, TLS, WebSockets
//!                                      └─▶ load          clients that go on all the time
//! ```

mod browser;
mod client;
mod cluster;
mod diagnosis;
mod installation;
mod load;
mod manifests;
mod patience;
mod run;
mod scenario;
mod scenarios;
mod trial;

use std::process::ExitCode;

use clap::Parser;

/// Tests Holdfast on the cluster of `KUBECONFIG`.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Run only scenarios whose names contain one of these.
    filters: Vec<String>,
    /// List the scenarios and run none.
    #[arg(long)]
    list: bool,
    /// Leave the objects of a scenario that has failed, and end there.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run::run(&arguments)));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast-e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}
