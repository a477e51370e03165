//! `check`, `routes` and `explain`: answers about manifests, without serving them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::admin::{Method, ask};
use super::print;
use crate::cli::{Check, Explain, Output, Routes};
use crate::inspect;
use crate::routing::{Snapshot, UpstreamId};
use crate::source::read_once;
use crate::translate::finding::Severity;
use crate::translate::report::Report;
use crate::translate::{Settings, Translator, endpoint_finding, endpoints};
use crate::world::{Delta, Kind, World};

/// Manifests, translated.
struct Translated {
    world: World,
    snapshot: Snapshot,
    reports: Vec<Report>,
    skipped: Vec<String>,
}

/// Says what is wrong with manifests.
///
/// # Errors
/// Paths that do not exist.
pub fn check(check: &Check) -> anyhow::Result<ExitCode> {
    let translated = translate(&check.paths)?;
    let reports = &translated.reports;
    let mut text = match check.output {
        Output::Text => inspect::check::render_text(reports),
        Output::Json => inspect::check::render_json(reports),
    };
    if check.output == Output::Text {
        text.push_str(&seen(&translated));
    }
    print(&text)?;
    let refused = reports
        .iter()
        .any(|report| report.severity == Severity::Error);
    Ok(ExitCode::from(u8::from(refused)))
}

/// Shows the routing table.
///
/// # Errors
/// Paths that do not exist, or a process that does not answer.
pub fn routes(routes: &Routes) -> anyhow::Result<ExitCode> {
    let table = match routes.from.admin {
        Some(admin) => ask(Method::Get, admin, "/routes", &[])?,
        None => {
            let translated = translate(&routes.from.manifests)?;
            let pods = |upstream: &UpstreamId| endpoints(&translated.world, upstream);
            inspect::routes::json(&translated.snapshot, pods)
        }
    };
    print(&match routes.output {
        Output::Json => format!("{table:#}\n"),
        Output::Text => inspect::routes::text(&table)
            .context("the answer is not a routing table of this version")?,
    })
}

/// Says what becomes of a URL.
///
/// # Errors
/// Paths that do not exist, or a text that is no URL.
pub fn explain(explain: &Explain) -> anyhow::Result<ExitCode> {
    let translated = translate(&explain.manifests)?;
    let explanation = inspect::explain(&translated.snapshot, &explain.url)?;
    print(&match explain.output {
        Output::Text => explanation.to_string(),
        Output::Json => format!("{:#}\n", explanation.json()),
    })?;
    Ok(ExitCode::from(u8::from(!explanation.is_served())))
}

fn translate(paths: &[PathBuf]) -> anyhow::Result<Translated> {
    for path in paths {
        if !path.exists() {
            bail!("{}: no such file or directory", path.display());
        }
    }
    let reading = read_once(paths);
    let mut world = World::default();
    for object in reading.objects {
        world.apply(Delta::Apply(object));
    }
    let mut translator = Translator::new(Settings::default());
    let translation = translator.translate(&world, &[]);
    let without_endpoints = translation
        .entering
        .iter()
        .filter_map(|upstream| endpoint_finding(&world, upstream));
    let mut reports: Vec<Report> = translation
        .findings
        .iter()
        .map(Report::from)
        .chain(without_endpoints.map(|finding| Report::from(&finding)))
        .chain(reading.problems.iter().map(Report::from))
        .collect();
    reports.sort();
    reports.dedup();
    Ok(Translated {
        snapshot: translation.snapshot,
        world,
        reports,
        skipped: reading.skipped,
    })
}

/// What was looked at, so that silence is not taken for approval of what was never read.
fn seen(translated: &Translated) -> String {
    let counts: Vec<String> = Kind::ALL
        .iter()
        .map(|&kind| (kind, translated.world.count(kind)))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let mut text = match &*counts {
        [] => "nothing to check: no object that Holdfast reads\n".to_owned(),
        counts => format!("checked: {}\n", counts.join(", ")),
    };
    if !translated.skipped.is_empty() {
        let mut kinds = translated.skipped.clone();
        kinds.sort();
        kinds.dedup();
        text.push_str(&format!("not read: {}\n", kinds.join(", ")));
    }
    text
}
