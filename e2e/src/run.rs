//! Runs scenarios one after the other: those on the shared installation first, then those that
//! install Holdfast themselves.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::Arguments;
use crate::cluster::Cluster;
use crate::diagnosis;
use crate::installation::{Installation, SHARED_VALUES};
use crate::patience::within;
use crate::scenario::{Ground, Scenario};
use crate::scenarios;
use crate::trial::Trial;

const SETUP_LIMIT: Duration = Duration::from_secs(120);

/// Runs what the arguments ask for.
///
/// # Errors
///
/// When there is no cluster, or Holdfast cannot be installed on it.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let scenarios = scenarios::all();
    let chosen: Vec<&Scenario> = scenarios
        .iter()
        .filter(|scenario| {
            let filters = &arguments.filters;
            filters.is_empty() || filters.iter().any(|part| scenario.name.contains(part))
        })
        .collect();
    if arguments.list {
        for scenario in chosen {
            eprintln!("{}", scenario.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        code = run_chosen(arguments, &chosen) => code,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("told to end")),
    }
}

async fn run_chosen(arguments: &Arguments, chosen: &[&Scenario]) -> Result<ExitCode> {
    let start = Instant::now();
    let cluster = Cluster::connect().await?;
    within("clearing the cluster", SETUP_LIMIT, cluster.clear()).await?;
    let mut passed = 0;
    let mut failed: Vec<&str> = Vec::new();
    for ground in [Ground::Shared, Ground::Bare] {
        let here: Vec<_> = chosen.iter().filter(|one| one.ground == ground).collect();
        if here.is_empty() {
            continue;
        }
        let shared = match ground {
            Ground::Bare => None,
            Ground::Shared => {
                let install = Installation::install(&cluster, "holdfast-system", SHARED_VALUES);
                let installed = within("installing the chart", SETUP_LIMIT, install).await;
                if installed.is_err() {
                    diagnosis::print(&cluster, &["holdfast-system".to_owned()]).await;
                }
                Some(installed?)
            }
        };
        for scenario in here {
            let outcome = run_one(scenario, &cluster, shared.clone(), arguments.keep).await;
            match outcome {
                Ok(()) => passed += 1,
                Err(_) if arguments.keep => return Ok(ExitCode::FAILURE),
                Err(_) => failed.push(scenario.name),
            }
            if ground == Ground::Bare {
                within("clearing the cluster", SETUP_LIMIT, cluster.clear()).await?;
            }
        }
        if let Some(shared) = shared {
            // What `helm uninstall` must leave behind is a scenario of its own.
            within("uninstalling the chart", SETUP_LIMIT, shared.uninstall()).await?;
            within("clearing the cluster", SETUP_LIMIT, cluster.clear()).await?;
        }
    }
    let took = start.elapsed().as_secs();
    eprintln!("\n{passed} passed, {} failed, {took} s", failed.len());
    for name in &failed {
        eprintln!("  failed: {name}");
    }
    Ok(if failed.is_empty() && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run_one(
    scenario: &Scenario,
    cluster: &Cluster,
    shared: Option<Installation>,
    keep: bool,
) -> Result<()> {
    eprintln!("\n{}", scenario.name);
    let start = Instant::now();
    let namespace = format!("t-{}", scenario.name.replace('_', "-"));
    // Names of namespaces have 63 characters, and suffixes come behind this one.
    let namespace: String = namespace.chars().take(50).collect();
    let namespace = namespace.trim_end_matches('-').to_owned();
    let trial = Arc::new(Trial::new(cluster.clone(), namespace, shared).await?);
    // A panic is a failure of this scenario alone.
    let work = AssertUnwindSafe(scenario.start(Arc::clone(&trial))).catch_unwind();
    let outcome = match tokio::time::timeout(scenario.limit, work).await {
        Ok(Ok(outcome)) => outcome.and_then(|()| trial.conclude()),
        Ok(Err(_)) => Err(anyhow!("panicked")),
        Err(_) => Err(anyhow!("not over after {:?}", scenario.limit)),
    };
    let took = start.elapsed().as_secs_f64();
    match &outcome {
        Ok(items) => {
            let items = match items {
                0 => String::new(),
                count => format!(" ({count} items)"),
            };
            eprintln!("ok   {took:6.1} s  {}{items}", scenario.name);
        }
        Err(error) => {
            eprintln!("FAIL {took:6.1} s  {}: {error:#}", scenario.name);
            diagnosis::print(cluster, &trial.namespaces()).await;
        }
    }
    if outcome.is_err() && keep {
        return outcome.map(|_| ());
    }
    let namespaces = trial.namespaces();
    let removal = cluster.remove_namespaces(&namespaces);
    within("removing the scenario's objects", SETUP_LIMIT, removal)
        .await
        .with_context(|| scenario.name)?;
    outcome.map(|_| ())
}
