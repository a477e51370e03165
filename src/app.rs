//! Everything, put together: built with its sockets bound, run, drained.
//!
//! ```text
//! Config ─▶ App::start ─▶ control thread: source ─▶ Control ─▶ DataPlane (Publish)
//!                    │                    Leader, admin port
//!                    └──▶ data threads:   listeners, connections, tunnels
//! App::shutdown ─▶ lame ─▶ drain ─▶ forced
//! ```
//!
//! Two runtimes, so that a rebuild of the table never delays a frame. The data plane is one
//! work-stealing runtime: with a runtime and a `SO_REUSEPORT` socket per core the relay costs the
//! same on two cores, and such listeners reset queued connections when they close.

pub mod data_plane;
mod drainer;
pub mod exposition;
mod lead;
pub mod observe;
mod pod_deadlines;
mod rebalancer;
mod tunnels;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::data_plane::DataPlane;
use self::drainer::{Drainer, Wake};
use crate::admin::Admin;
use crate::admission::Ledger;
use crate::balance::Registry;
use crate::config::{Config, Source};
use crate::control::{Control, Told};
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::proxy::access_log::AccessLog;
use crate::proxy::listeners::Listeners;
use crate::routing::{ListenerId, Snapshot};
use crate::shutdown::{Shutdown, Windows};
use crate::source::{DirectorySource, Update};
use crate::tls::self_signed::self_signed;
use crate::tls::{PodTls, ServerTls};
use crate::translate::report::Report;
use crate::websocket::{Cause, TunnelTable};

/// For how long the access log may take to be written at the end.
const LOG_DEADLINE: Duration = Duration::from_secs(2);
/// How often tunnels are looked for that opened after the drain window.
const LATE_TUNNELS: Duration = Duration::from_millis(100);

/// A running process.
#[derive(Debug)]
pub struct App {
    proxy: Arc<Proxy>,
    listeners: Arc<Listeners>,
    told: Told,
    leading: Option<watch::Receiver<bool>>,
    admin: Option<SocketAddr>,
    windows: Windows,
    shutdown: Shutdown,
    control: Option<JoinHandle<()>>,
    data: DataRuntime,
}

/// The data plane's threads. Dropped without waiting: a runtime may not be dropped where others
/// are polled otherwise, and an [`App`] may be.
#[derive(Debug)]
struct DataRuntime(Option<Runtime>);

impl DataRuntime {
    fn stop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for DataRuntime {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Tunnels that were told to end.
    pub tunnels: usize,
    /// Whether everything had ended before the deadline.
    pub clean: bool,
}

impl App {
    /// Builds and starts everything. Sockets of the admin port are bound when this returns;
    /// listeners are when [`App::ready`] does.
    ///
    /// # Errors
    /// A directory that cannot be read, credentials that cannot be used, an admin port that cannot be bound, or a system without
    /// threads or random numbers.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let data = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.workers.max(1))
            .thread_name("data")
            .enable_all()
            .build()
            .context("cannot start the threads of the data plane")?;
        let handle = data.handle().clone();
        let data = DataRuntime(Some(data));
        let shutdown = Shutdown::default();
        let access_log = if config.access_log {
            AccessLog::start(std::io::stdout())?
        } else {
            AccessLog::off()
        };
        let snapshot: Arc<ArcSwap<Snapshot>> = Arc::default();
        let fallback = Arc::new(self_signed(&["holdfast.invalid"])?);
        let proxy = Arc::new(Proxy {
            server_tls: ServerTls::new(Arc::clone(&snapshot), fallback)?,
            pod_tls: PodTls::new()?,
            snapshot,
            registry: Arc::new(Registry::default()),
            ledger: Ledger::default(),
            overload: Arc::default(),
            tunnels: TunnelTable::new(),
            metrics: Arc::new(Metrics::default()),
            access_log,
            deadlines: config.deadlines,
            tasks: TaskTracker::new(),
            leaving: AtomicBool::new(false),
        });
        let listeners = Arc::new(Listeners::new(
            Arc::clone(&proxy),
            config.binding,
            handle.clone(),
        ));
        let wake = Wake::default();
        let publisher = DataPlane::new(Arc::clone(&proxy), Arc::clone(&listeners), wake.clone());
        let drainer = Drainer::new(Arc::clone(&proxy), wake.clone());
        let (mut control, told) = Control::new(
            config.settings,
            Arc::clone(&proxy.registry),
            publisher,
            Arc::clone(&proxy.metrics),
        );

        let mut leader = None;
        let mut leading = None;
        if let (Source::Cluster(cluster), Some(controller)) = (&config.source, config.controller) {
            let (lead, outcome, leads) = lead::leader(controller, &proxy);
            control = control
                .with_outcome(outcome)
                .with_problems(leads.problems.clone());
            leading = Some(leads.leading);
            leader = Some((lead, cluster.server.clone()));
        }

        // The source outlives the signal: changes are served until the process has ended.
        let stop = shutdown.forced.clone();
        let admin = config.admin.map(Admin::bind).transpose()?;
        let admin_address = admin.as_ref().map(Admin::address);
        let handles = observe::handles(&proxy, &told, leading.clone(), &shutdown, &handle, &wake);
        let resign = shutdown.begun.clone();
        let housekeeping = handle.spawn(Arc::clone(&proxy).keep_house());
        let watching = handle.spawn(config.gauge.watch(Arc::clone(&proxy.overload)));
        // A runtime may not be dropped where others are polled.
        let control_runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the control plane")?;
        let updates = match start_source(config.source, &control_runtime, stop.clone()) {
            Ok(updates) => updates,
            Err(error) => {
                control_runtime.shutdown_background();
                return Err(error);
            }
        };
        let control = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                control_runtime.block_on(async {
                    let serve_admin = async {
                        if let Some(admin) = admin {
                            admin.serve(handles, stop.clone()).await;
                        }
                    };
                    let lead = async {
                        let Some((leader, server)) = leader else {
                            return;
                        };
                        // A client of its own: watches and writes do not wait for one another.
                        match server.client() {
                            Ok(client) => leader.run(client, resign).await,
                            Err(error) => tracing::error!(%error, "this replica never leads"),
                        }
                    };
                    let run = control.run(updates, stop.clone());
                    // Not on the threads of the data plane: it looks at every tunnel.
                    let drain = stop.run_until_cancelled(drainer.run());
                    tokio::join!(run, serve_admin, lead, drain);
                });
                housekeeping.abort();
                watching.abort();
            })
            .context("cannot start the thread of the control plane")?;

        Ok(Self {
            proxy,
            listeners,
            told,
            leading,
            admin: admin_address,
            windows: config.windows,
            shutdown,
            control: Some(control),
            data,
        })
    }

    /// Waits until the first snapshot is served.
    pub async fn ready(&self) {
        let mut generation = self.told.generation.clone();
        // The sender lives in the control loop, which ends only at shutdown.
        drop(generation.wait_for(|&generation| generation > 0).await);
    }

    /// Waits until a snapshot newer than `generation` is served, and answers which.
    pub async fn published_after(&self, generation: u64) -> u64 {
        let mut receiver = self.told.generation.clone();
        match receiver.wait_for(|&now| now > generation).await {
            Ok(now) => *now,
            Err(_) => generation,
        }
    }

    /// How many snapshots have been published.
    #[must_use]
    pub fn generation(&self) -> u64 {
        *self.told.generation.borrow()
    }

    /// Where listeners are bound.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<ListenerId, SocketAddr> {
        self.listeners.addresses()
    }

    /// Where the admin port is bound.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Whether this replica writes to the API server.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.leading
            .as_ref()
            .is_some_and(|leading| *leading.borrow())
    }

    /// What is wrong at the moment.
    #[must_use]
    pub fn reports(&self) -> Arc<Vec<Report>> {
        self.told.reports.load_full()
    }

    /// Open WebSockets.
    #[must_use]
    pub fn tunnels(&self) -> &TunnelTable {
        &self.proxy.tunnels
    }

    /// Counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.proxy.metrics
    }

    /// Ends cleanly: see [`crate::shutdown`].
    pub async fn shutdown(mut self) -> Drained {
        let Windows {
            delay,
            drain,
            grace,
        } = self.windows;
        self.shutdown.begun.cancel();
        self.proxy.leaving.store(true, Ordering::Relaxed);
        tokio::time::sleep(delay).await;
        self.listeners.stop();
        self.listeners.drain();
        let tasks = &self.proxy.tasks;
        tasks.close();
        let tunnels = &self.proxy.tunnels;
        let mut told = 0;
        let ending = async {
            told = tunnels.drain(|_| true, drain, Cause::Shutdown).await;
            // Some have their handshake under way when the window closes.
            let late = async {
                loop {
                    told += tunnels.end_all(Cause::Shutdown);
                    tokio::time::sleep(LATE_TUNNELS).await;
                }
            };
            tokio::select! {
                waited = tokio::time::timeout(grace, tasks.wait()) => waited.is_ok(),
                never = late => never,
            }
        };
        let open = tunnels.len();
        let clean = tokio::select! {
            biased;
            () = tasks.wait() => true,
            clean = ending => clean,
        };
        let tunnels = told.max(open);
        self.stop();
        Drained { tunnels, clean }
    }

    /// Ends everything at once.
    fn stop(&mut self) {
        self.shutdown.begun.cancel();
        self.shutdown.forced.cancel();
        if let Some(control) = self.control.take() {
            // It has nothing to wait for but the token.
            drop(control.join());
        }
        self.data.stop();
        self.proxy.access_log.flush(LOG_DEADLINE);
    }
}

/// Starts the source; an API server is watched on the control plane's runtime.
fn start_source(
    source: Source,
    control: &Runtime,
    stop: CancellationToken,
) -> anyhow::Result<mpsc::Receiver<Update>> {
    Ok(match source {
        Source::Directory(path) => DirectorySource::start(path, stop)?,
        Source::Cluster(cluster) => {
            let _on_control = control.enter();
            let client = cluster.server.client()?;
            cluster.start(client, stop)
        }
    })
}

/// Tests and callers that fail half-way leave no thread behind.
impl Drop for App {
    fn drop(&mut self) {
        self.stop();
    }
}
