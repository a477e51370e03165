//! One run: which measures, of which proxies, and what becomes of the result.

use std::future::Future;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::measure::{changes, footprint, keepalive, memory, processor, served};
use crate::os;
use crate::peers::{Kind, Peer, Scene};
use crate::plan::Plan;
use crate::report::{Report, Row};

/// What a run can be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The proxies that take part.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "holdfast,nginx,haproxy"
    )]
    only: Vec<Kind>,
    /// The program of Holdfast.
    #[arg(long, default_value = "target/release/holdfast")]
    holdfast: PathBuf,
    /// A minute instead of ten: does everything work, are there large differences?
    #[arg(long)]
    quick: bool,
    /// Rounds over the proxies in the measures of processor time.
    #[arg(long)]
    rounds: Option<usize>,
    /// Milliseconds of one proxy's turn in a round.
    #[arg(long)]
    window: Option<u64>,
    /// Numbers of idle WebSockets whose memory is measured.
    #[arg(long, value_delimiter = ',')]
    idle: Option<Vec<usize>>,
    /// Writes the result to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the result to this file, as Markdown; the terminal has it in any case.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Fails where Holdfast misses a goal, or was not measured.
    #[arg(long)]
    strict: bool,
}

/// A group of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Memory,
    Messages,
    Openings,
    Requests,
    Keepalive,
    Changes,
    Served,
    Footprint,
}

/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(25 * 60);

impl Measure {
    /// All, in the order of the report. Memory comes last of what needs the peers: its thousands of
    /// closed connections wait in the kernel for a minute.
    pub(crate) const ALL: [Self; 8] = [
        Self::Messages,
        Self::Openings,
        Self::Requests,
        Self::Memory,
        Self::Keepalive,
        Self::Changes,
        Self::Served,
        Self::Footprint,
    ];

    /// It needs all proxies to run at the same time.
    fn is_paired(self) -> bool {
        matches!(self, Self::Messages | Self::Openings | Self::Requests)
    }

    /// It is about Holdfast alone.
    fn is_own(self) -> bool {
        matches!(self, Self::Keepalive | Self::Served | Self::Footprint)
    }
}

impl Options {
    fn plan(&self) -> Plan {
        let mut plan = if self.quick {
            Plan::quick()
        } else {
            Plan::full()
        };
        if let Some(rounds) = self.rounds {
            plan.rounds = rounds.max(1);
        }
        if let Some(window) = self.window {
            plan.window = Duration::from_millis(window.clamp(50, 60_000));
        }
        if let Some(idle) = &self.idle {
            plan.idle.clone_from(idle);
        }
        plan
    }
}

/// Runs the measures and prints the report. Whatever ends it – the last measure, an error, a panic,
/// a signal, the time limit –, the processes that it started end first, and what was measured until
/// then is reported.
///
/// # Errors
///
/// The scene cannot be set, no proxy is there, or the report cannot be written.
pub(crate) async fn run(measures: &[Measure], options: Options) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut report = Report::new();
    let cut_short = tokio::select! {
        collected = Box::pin(collect(measures, &options, &mut report)) => {
            collected?;
            None
        }
        _ = interrupt.recv() => Some("it was interrupted".to_owned()),
        _ = terminate.recv() => Some("it was terminated".to_owned()),
        _ = hang_up.recv() => Some("its terminal went away".to_owned()),
        () = tokio::time::sleep(LIMIT) => Some(format!("it took longer than {LIMIT:?}")),
    };
    let whole = cut_short.is_none();
    let notes = cut_short.map(|why| format!("the run is incomplete: {why}"));
    report.notes.extend(notes);
    note_bottlenecks(&mut report);
    // The files first: the terminal may be what went away.
    if let Some(file) = &options.markdown {
        write(file, report.to_string())?;
    }
    if let Some(file) = &options.json {
        write(file, serde_json::to_string_pretty(&report)?)?;
    }
    write!(stdout(), "\n{report}")?;
    // A goal that was not judged, for want of Holdfast or of nginx, was not reached.
    let missed = |row: &Row| row.goal.is_some() && row.met != Some(true);
    let missed = report.rows.is_empty() || report.rows.iter().any(missed);
    Ok(if whole && !(options.strict && missed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn write(file: &Path, text: String) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

async fn collect(measures: &[Measure], options: &Options, report: &mut Report) -> Result<()> {
    let mut plan = options.plan();
    fit_open_files(&mut plan, &mut report.notes)?;
    let scene = Scene::new(&options.holdfast).await?;
    for &kind in &options.only {
        match kind.version(&scene) {
            Ok(version) => {
                report.versions.insert(kind, version);
            }
            Err(error) => report
                .notes
                .push(format!("{} is left out: {error:#}", kind.name())),
        }
    }
    if report.versions.is_empty() {
        bail!("no proxy to measure: {}", report.notes.join("; "));
    }

    let mut peers = Vec::new();
    if measures.iter().any(|measure| measure.is_paired()) {
        for kind in report.versions.keys() {
            match Peer::start(*kind, &scene).await {
                Ok(peer) => peers.push(peer),
                Err(error) => report.notes.push(format!("{error:#}")),
            }
        }
    }
    for &measure in measures {
        if !measure.is_paired() {
            peers.clear();
        }
        if measure.is_own() && !report.versions.contains_key(&Kind::Holdfast) {
            continue;
        }
        if let Err(error) = take(measure, &scene, &peers, &plan, report).await {
            report.notes.push(format!("{measure:?} failed: {error:#}"));
        }
    }
    Ok(())
}

async fn take(
    measure: Measure,
    scene: &Scene,
    peers: &[Peer],
    plan: &Plan,
    report: &mut Report,
) -> Result<()> {
    let kinds: Vec<Kind> = report.versions.keys().copied().collect();
    let notes = &mut report.notes;
    let rows = match measure {
        Measure::Messages => boxed(processor::messages(scene, peers, plan)).await,
        Measure::Openings => boxed(processor::openings(scene, peers, plan)).await,
        Measure::Requests => boxed(processor::requests(scene, peers, plan)).await,
        Measure::Memory => boxed(memory::idle(scene, &kinds, plan)).await,
        Measure::Keepalive => boxed(keepalive::pings(scene, plan)).await,
        Measure::Changes => boxed(changes::under_load(scene, &kinds, plan, notes)).await,
        Measure::Served => boxed(served::new_ingresses(scene, plan)).await,
        Measure::Footprint => boxed(footprint::resident(scene, plan)).await,
    };
    report.rows.extend(rows?);
    Ok(())
}

/// The measures' futures are large, and one at a time is alive.
fn boxed<'run, T>(
    measure: impl Future<Output = T> + 'run,
) -> std::pin::Pin<Box<dyn Future<Output = T> + 'run>> {
    Box::pin(measure)
}

/// Leaves out what the limit of open files does not allow: a proxied connection takes a proxy two.
fn fit_open_files(plan: &mut Plan, notes: &mut Vec<String>) -> Result<()> {
    let most = usize::try_from(os::raise_open_files()?)?.saturating_sub(300) / 2;
    plan.idle.retain(|size| {
        let fits = (300..=most).contains(size);
        if !fits {
            notes.push(format!(
                "memory of {size} tunnels is left out: it is measured from 300 to {most}, for which \
                 the limit of open files is enough"
            ));
        }
        fits
    });
    Ok(())
}

/// Warns of rows that say more about this tool than about the proxies.
fn note_bottlenecks(report: &mut Report) {
    let busy = |row: &Row| {
        row.cells
            .values()
            .filter_map(|cell| cell.shares)
            .any(|shares| shares.generator.max(shares.backend) > 0.9)
    };
    let rows = report.rows.iter().filter(|row| busy(row));
    let notes: Vec<String> = rows
        .map(|row| {
            format!(
                "{}: the generator or the backend was at its limit",
                row.name
            )
        })
        .collect();
    report.notes.extend(notes);
}
