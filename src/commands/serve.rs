//! `run` and `demo`: a process that serves until it is told to end.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::{controller, waiting_runtime};
use crate::app::{App, Drained};
use crate::cli::{Demo, Logging, Run, Switch};
use crate::config::Config;
use crate::demo::Pods;
use crate::proxy::listeners::Binding;
use crate::routing::ListenerId;
use crate::shutdown::{Signals, Windows};
use crate::source::{ApiServer, ClusterSource};
use crate::telemetry;

/// Runs the controller until a signal.
///
/// # Errors
/// What kept it from starting.
pub fn serve(run: Run) -> anyhow::Result<ExitCode> {
    let Run {
        manifests,
        mut namespace,
        controller,
        admin,
        bind_address,
        any_port,
        workers,
        shutdown_delay,
        drain_window,
        drain_grace,
        logging,
    } = run;
    // The main thread only waits: for signals, and for the end.
    let runtime = waiting_runtime()?;
    let mut config = match manifests {
        Some(directory) => Config::new(directory),
        None => {
            let server = runtime.block_on(ApiServer::infer())?;
            // An empty environment variable is an empty name.
            namespace.retain(|name| !name.is_empty());
            Config::cluster(ClusterSource::new(server, namespace))
        }
    };
    controller::configure(&mut config, controller);
    config.admin = Some(admin);
    config.binding = Binding {
        address: bind_address,
        any_port,
    };
    if let Some(workers) = workers {
        config.workers = workers.into();
    }
    config.windows = Windows {
        delay: shutdown_delay,
        drain: drain_window,
        grace: drain_grace,
    };
    start_logs(&mut config, &logging)?;
    runtime.block_on(async {
        let mut signals = Signals::install()?;
        let app = App::start(config)?;
        if let Some(admin) = app.admin_address() {
            tracing::info!(address = %admin, "admin port");
        }
        tokio::select! {
            () = app.ready() => {}
            () = signals.next() => return finish(app, &mut signals).await,
        }
        if any_port {
            print_addresses(&app)?;
        }
        tracing::info!("ready");
        signals.next().await;
        finish(app, &mut signals).await
    })
}

/// Runs the demo until a signal.
///
/// # Errors
/// What kept it from starting.
pub fn demo(demo: Demo) -> anyhow::Result<ExitCode> {
    let Demo {
        manifests,
        bind_address,
        admin,
        echo,
        chat,
        logging,
        drain_window,
    } = demo;
    if !manifests.is_dir() {
        bail!(
            "{} is not a directory; run the demo from the repository, or name its manifests with \
             --manifests",
            manifests.display()
        );
    }
    let mut config = Config::new(manifests.clone());
    config.admin = Some(admin);
    config.binding = Binding {
        address: Some(bind_address),
        any_port: false,
    };
    config.windows = Windows {
        delay: std::time::Duration::ZERO,
        drain: drain_window,
        ..Windows::default()
    };
    start_logs(&mut config, &logging)?;
    waiting_runtime()?.block_on(async {
        let mut signals = Signals::install()?;
        let stop = CancellationToken::new();
        let pods = Pods::start(&echo, &chat, stop.clone())
            .await
            .context("cannot start the pods of the demo")?;
        let app = App::start(config)?;
        tokio::select! {
            () = app.ready() => {}
            () = signals.next() => return finish(app, &mut signals).await,
        }
        let addresses: Vec<(ListenerId, SocketAddr)> = app.addresses().into_iter().collect();
        let admin = app.admin_address().unwrap_or(admin);
        write_stdout(&welcome(&addresses, admin, &manifests))?;
        signals.next().await;
        let code = finish(app, &mut signals).await;
        pods.stop().await;
        code
    })
}

/// Ends in good order, or at once at a second signal.
async fn finish(app: App, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    tracing::info!(
        tunnels = app.tunnels().len(),
        "shutting down; a second signal ends it at once"
    );
    tokio::select! {
        Drained { tunnels, clean } = app.shutdown() => {
            tracing::info!(tunnels, clean, "ended");
            Ok(ExitCode::SUCCESS)
        }
        () = signals.next() => {
            tracing::warn!("second signal: ended at once");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn start_logs(config: &mut Config, logging: &Logging) -> anyhow::Result<()> {
    config.access_log = logging.access_log == Switch::On;
    telemetry::start(&logging.log, logging.log_format)
}

fn print_addresses(app: &App) -> anyhow::Result<()> {
    let mut lines = String::new();
    for (listener, address) in app.addresses() {
        lines.push_str(&format!("listener {listener} {address}\n"));
    }
    if let Some(admin) = app.admin_address() {
        lines.push_str(&format!("admin {admin}\n"));
    }
    write_stdout(&lines)
}

fn welcome(
    listeners: &[(ListenerId, SocketAddr)],
    admin: SocketAddr,
    manifests: &std::path::Path,
) -> String {
    let mut text = String::from("\nHoldfast demo is running.\n\n");
    for (listener, address) in listeners {
        let scheme = if &*listener.name == "https" {
            "https"
        } else {
            "http"
        };
        let port = address.port();
        text.push_str(&format!(
            "  {:<6} {scheme}://localhost:{port}/   {scheme}://chat.localhost:{port}/   {scheme}://echo.localhost:{port}/\n",
            listener.name
        ));
    }
    text.push_str(&format!(
        "  admin  http://{admin}/readyz  /metrics  /routes  /findings  /tunnels\n\n\
         Open the chat in a browser, then edit the files in {} and watch its\n\
         WebSocket stay open. Ctrl-C closes every WebSocket cleanly and ends.\n\n",
        manifests.display()
    ));
    text
}

fn write_stdout(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
