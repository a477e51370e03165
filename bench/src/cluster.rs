//! Holdfast on a real API server: `make bench-cluster`.
//!
//! ```text
//!   this process ──writes──▶ API server ──watch──▶ holdfast run
//!        └───────────────── requests, WebSockets ──────▶ │ ──▶ backend (a process of its own)
//! ```
//!
//! Everything runs in the network of a cluster that was made for it; the backend listens on the
//! node's address, which EndpointSlices may name.

mod api_server;
mod controller;
mod load;
mod objects;
mod served;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use api_server::ApiServer;
use controller::{Controller, HTTP, HTTPS};
use load::Load;
use objects::{INGRESS, LOAD_BALANCER, NAMESPACE, SECRET, SERVICE, SLICE};
use served::{Stopwatch, Write, until};

use crate::client::reconnecting::Reconnecting;
use crate::client::request::{Requests, get};
use crate::client::trust;
use crate::client::wire::HOST;
use crate::peers::process::Spawned;
use crate::peers::{Certificate, Kind};
use crate::report::{Goal, Report, Row};
use crate::statistics::percentile;

/// What the run can be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The program of Holdfast.
    #[arg(long, default_value = "target/release/holdfast")]
    holdfast: PathBuf,
    /// The sizes, in Ingresses.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    sizes: Vec<usize>,
    /// Writes of each kind that are timed at each size.
    #[arg(long, default_value_t = 100)]
    timed: usize,
    /// Seconds of each part under load.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Writes the result to this file, as Markdown; the terminal has it in any case.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// Ports of the backend, at the node's address.
const BACKENDS: [u16; 2] = [8_201, 8_202];
/// How many write at once.
const WRITERS: usize = 16;
/// WebSockets and new requests a second while others change.
const TUNNELS: usize = 500;
const REQUESTS: u32 = 100;
/// Other changes a second.
const CHANGES: u32 = 10;

/// Runs it.
///
/// # Errors
///
/// A cluster or a Holdfast that does not work; what misses its goal is in the report.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new();
    let mut bench = Bench::start(&options).await?;
    let rows = bench.run(&options).await?;
    report.rows = rows;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    report.versions.insert(Kind::Holdfast, version);
    std::io::stdout().write_all(report.to_string().as_bytes())?;
    if let Some(path) = &options.markdown {
        std::fs::write(path, report.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Bench {
    api: ApiServer,
    controller: Option<Controller>,
    stopwatch: Stopwatch,
    holdfast: PathBuf,
    node: IpAddr,
    directory: tempfile::TempDir,
    ingresses: usize,
    _backend: Spawned,
}

impl Bench {
    async fn start(options: &Options) -> Result<Self> {
        let api = ApiServer::connect().await?;
        let nodes = api.send("GET", "/api/v1/nodes", None).await?;
        let node = objects::node_address(&nodes).context("the cluster has no node")?;
        let directory = tempfile::tempdir()?;
        let applied = Command::new(&options.holdfast)
            .args(["crd", "--apply"])
            .status()?;
        anyhow::ensure!(applied.success(), "the CRDs cannot be applied");
        let backends = BACKENDS.map(|port| SocketAddr::new(node, port));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("backend");
        command.args(backends.map(|address| address.to_string()));
        let log = directory.path().join("backend.log");
        let backend = Spawned::start(&mut command, "the backend", &log)?;
        prepare(&api, backends).await?;
        let controller = Controller::start(&options.holdfast, directory.path(), node, None).await?;
        Ok(Self {
            stopwatch: Stopwatch {
                api: api.clone(),
                target: controller.target(),
                tls: trust::full_handshakes()?,
                backends,
                number: 0,
            },
            api,
            controller: Some(controller),
            holdfast: options.holdfast.clone(),
            node,
            directory,
            ingresses: 0,
            _backend: backend,
        })
    }

    fn controller(&self) -> Result<&Controller> {
        self.controller.as_ref().context("holdfast does not run")
    }

    async fn run(&mut self, options: &Options) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let last = options.sizes.last().copied().unwrap_or_default();
        let mut first_cost = None;
        let mut first_median = None;
        for &size in &options.sizes {
            eprintln!("{size} Ingresses …");
            let flood = self.grow_to(size).await?;
            if size == last && options.sizes.len() > 1 {
                rows.extend(flood);
            }
            eprintln!("  waiting until all statuses are written …");
            self.controller()?.rest().await;
            let most = match size {
                ..=100 => 20.0,
                101..=1_000 => 25.0,
                _ => 60.0,
            };
            rows.push(value(
                format!("RSS, {size} Ingresses"),
                "MB",
                most,
                self.controller()?.resident(),
            ));
            rows.extend(
                self.served(size, options.timed, &mut first_median, last)
                    .await?,
            );
            let cost = self.request_cost().await?;
            let first = *first_cost.get_or_insert(cost);
            if size == last {
                rows.push(value(
                    format!(
                        "processor time of a request at {size} Ingresses, to that at the fewest"
                    ),
                    "ratio",
                    1.1,
                    cost / first,
                ));
            }
        }
        rows.extend(self.served_among_changes(last, options).await?);
        rows.extend(self.traffic_among_changes(last, options).await?);
        rows.extend(self.restart(last).await?);
        Ok(rows)
    }

    /// Adds Ingresses by many writers at once.
    async fn grow_to(&mut self, size: usize) -> Result<Vec<Row>> {
        let first = self.ingresses;
        let before = self.controller()?.cpu();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let api = self.api.clone();
            writers.spawn(async move {
                let mut last = None;
                for number in (first + writer..size).step_by(WRITERS) {
                    let name = format!("i-{number}");
                    let host = format!("{name}.{HOST}");
                    let ingress = objects::ingress(&name, &host, "echo-0");
                    api.create(INGRESS, &ingress).await?;
                    last = Some((host, Instant::now()));
                }
                anyhow::Ok(last)
            });
        }
        let mut lasts = Vec::new();
        while let Some(written) = writers.join_next().await {
            lasts.extend(written??);
        }
        self.ingresses = size;
        let Some(acknowledged) = lasts.iter().map(|(_, at)| *at).max() else {
            return Ok(Vec::new());
        };
        let mut client = Reconnecting::new(self.stopwatch.target.clone());
        for (host, _) in &lasts {
            until(&mut client, host, acknowledged, |status, _| status == 200).await?;
        }
        let took = acknowledged.elapsed();
        let spent = self.controller()?.cpu().since(&before);
        let title = format!("{} Ingresses added by {WRITERS} writers", size - first);
        Ok(vec![
            value(
                format!("{title}: the last one served after the last write"),
                "s",
                0.5,
                took.as_secs_f64(),
            ),
            value(
                format!("{title}: processor time of Holdfast until then"),
                "s",
                3.0,
                spent.as_secs_f64(),
            ),
        ])
    }

    async fn served(
        &mut self,
        size: usize,
        timed: usize,
        first_median: &mut Option<f64>,
        last: usize,
    ) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut medians = Vec::new();
        for write in Write::ALL {
            eprintln!("  {} …", write.name());
            let times = self.stopwatch.times(write, timed).await?;
            let title = format!("{}, served among {size} Ingresses", write.name());
            let of = |at| percentile(&times, at).unwrap_or(f64::INFINITY);
            rows.push(value(format!("{title}, p50"), "ms", 5.0, of(0.5)));
            rows.push(value(format!("{title}, p99"), "ms", 20.0, of(0.99)));
            medians.push(of(0.5));
        }
        let mean = medians.iter().sum::<f64>() / medians.len() as f64;
        let first = *first_median.get_or_insert(mean);
        if size == last {
            rows.push(value(
                format!("mean of these p50 at {size} Ingresses, to that at the fewest"),
                "ratio",
                1.5,
                mean / first,
            ));
        }
        Ok(rows)
    }

    /// Processor time of Holdfast for a request on a kept connection, µs.
    async fn request_cost(&self) -> Result<f64> {
        const COUNT: u32 = 20_000;
        let controller = self.controller()?;
        let mut connection = Requests::open(&controller.target()).await?;
        let request = get(HOST);
        for _ in 0..COUNT / 10 {
            connection.send(&request).await?;
        }
        let before = controller.cpu();
        for _ in 0..COUNT {
            connection.send(&request).await?;
        }
        let spent = controller.cpu().since(&before);
        Ok(spent.as_secs_f64() * 1e6 / f64::from(COUNT))
    }

    async fn served_among_changes(&mut self, size: usize, options: &Options) -> Result<Vec<Row>> {
        eprintln!("changes among {CHANGES} others a second …");
        let others = self.others();
        let mut times = Vec::new();
        for write in Write::ALL {
            times.extend(self.stopwatch.times(write, options.timed / 2).await?);
        }
        drop(others);
        let title = format!("any change among {CHANGES} others a second and {size} Ingresses");
        let of = |at| percentile(&times, at).unwrap_or(f64::INFINITY);
        Ok(vec![
            value(format!("{title}, p50"), "ms", 10.0, of(0.5)),
            value(format!("{title}, the slowest"), "ms", 50.0, of(1.0)),
        ])
    }

    /// Changes of Ingresses that nobody asks for, until it is dropped.
    fn others(&self) -> JoinSet<Result<()>> {
        let api = self.api.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut beat = interval(Duration::from_secs(1) / CHANGES);
            for number in 0_u64.. {
                beat.tick().await;
                let name = format!("other-{}", number / 2);
                if number % 2 == 0 {
                    let host = format!("{name}.{HOST}");
                    let ingress = objects::ingress(&name, &host, "echo-1");
                    api.create(INGRESS, &ingress).await?;
                } else {
                    api.delete(INGRESS, &name).await?;
                }
            }
            Ok(())
        });
        tasks
    }

    async fn traffic_among_changes(&self, size: usize, options: &Options) -> Result<Vec<Row>> {
        eprintln!("{TUNNELS} WebSockets and {REQUESTS} requests a second among changes …");
        let time = Duration::from_secs(options.seconds);
        let load = Load::start(&self.controller()?.target(), TUNNELS, REQUESTS).await?;
        sleep(Duration::from_secs(3)).await;
        let mut failures = load.take().failures;
        sleep(time).await;
        let quiet = load.take();
        let others = self.others();
        sleep(time).await;
        let changing = load.take();
        drop(others);
        failures += quiet.failures + changing.failures + load.stop().await.failures;
        let (messages, requests) = (quiet.p99(), changing.p99());
        let title = format!("{CHANGES} changes a second among {size} Ingresses");
        let ratio = |name: &str, quiet: f64, changing: f64| {
            value(
                format!("{title}: p99 of {name}, to that without ({quiet:.2} ms)"),
                "ratio",
                1.5,
                changing / quiet,
            )
        };
        Ok(vec![
            value(
                format!("{title}: WebSockets dropped, messages lost, requests failed"),
                "",
                0.0,
                failures as f64,
            ),
            ratio("WebSocket messages", messages.0, requests.0),
            ratio("new requests", messages.1, requests.1),
        ])
    }

    async fn restart(&mut self, size: usize) -> Result<Vec<Row>> {
        eprintln!("restart …");
        // It ends here, by SIGTERM.
        self.controller = None;
        let host = format!("i-0.{HOST}");
        let directory = self.directory.path();
        let controller =
            Controller::start(&self.holdfast, directory, self.node, Some(&host)).await?;
        let rows = vec![
            value(
                format!("restart at {size} Ingresses until ready"),
                "s",
                2.0,
                controller.started_in.as_secs_f64(),
            ),
            value(
                format!("restart at {size} Ingresses: answers other than 200 before"),
                "",
                0.0,
                controller.wrong_answers as f64,
            ),
            value(
                format!("RSS after a restart at {size} Ingresses"),
                "MB",
                60.0,
                controller.resident(),
            ),
        ];
        self.controller = Some(controller);
        Ok(rows)
    }
}

/// Everything but the many Ingresses.
async fn prepare(api: &ApiServer, backends: [SocketAddr; 2]) -> Result<()> {
    let namespace = serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
    });
    api.send("POST", "/api/v1/namespaces", Some(&namespace))
        .await?;
    let class = objects::ingress_class();
    let classes = "/apis/networking.k8s.io/v1/ingressclasses";
    api.send("POST", classes, Some(&class)).await?;
    api.create(LOAD_BALANCER, &objects::load_balancer(HTTP, HTTPS))
        .await?;
    for (number, backend) in backends.into_iter().enumerate() {
        let name = format!("echo-{number}");
        api.create(SERVICE, &objects::service(&name)).await?;
        api.create(SLICE, &objects::slice(&name, backend)).await?;
    }
    api.create(SERVICE, &objects::service("moving")).await?;
    api.create(SLICE, &objects::slice("moving", backends[0]))
        .await?;
    let certificate = objects::secret("bench", &Certificate::generate()?);
    api.create(SECRET, &certificate).await?;
    for (name, host, service) in [
        ("switch", format!("switch.{HOST}"), "echo-0"),
        ("moving", format!("moving.{HOST}"), "moving"),
    ] {
        api.create(INGRESS, &objects::ingress(name, &host, service))
            .await?;
    }
    let ingress = objects::tls_ingress("bench", HOST, "echo-0", "bench");
    api.create(INGRESS, &ingress).await
}

fn value(name: String, unit: &'static str, most: f64, value: f64) -> Row {
    Row::new(name, unit, Some(Goal::Value(most)))
        .with(Kind::Holdfast, value)
        .judged()
}
