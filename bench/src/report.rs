//! What a run found, and its forms: JSON for programs, Markdown for people.

mod markdown;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::peers::Kind;
use crate::statistics::median;
use crate::usage::CpuSpent;

/// All that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where and with what it ran.
    pub(crate) machine: Machine,
    /// Versions of the proxies that took part.
    pub(crate) versions: BTreeMap<Kind, String>,
    /// The results.
    pub(crate) rows: Vec<Row>,
    /// What was left out or went wrong.
    pub(crate) notes: Vec<String>,
}

/// The machine of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Processes that ran or wanted to, on average over the minute before the run.
    pub(crate) load_before: f64,
}

/// One measure, for all proxies that took part.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// What Holdfast should reach.
    pub(crate) goal: Option<Goal>,
    /// Whether it did; absent where Holdfast or the goal is.
    pub(crate) met: Option<bool>,
    pub(crate) cells: BTreeMap<Kind, Cell>,
}

/// What Holdfast should reach in a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At most this, as a ratio to nginx.
    Ratio(f64),
    /// At most this, in the unit of the row.
    Value(f64),
    /// At least this, in the unit of the row.
    AtLeast(f64),
}

/// One proxy's result in a row.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cell {
    /// In the unit of the row; the median where there were rounds.
    pub(crate) value: Option<f64>,
    /// To nginx: the median, least and greatest of the rounds' ratios.
    pub(crate) ratio: Option<Spread>,
    /// Who used the machine meanwhile.
    pub(crate) shares: Option<Shares>,
    /// Why there is no value.
    pub(crate) failure: Option<String>,
}

/// A median and what it lies between.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

/// Cores in use, medians of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Shares {
    pub(crate) proxy: f64,
    pub(crate) generator: f64,
    pub(crate) backend: f64,
    pub(crate) foreign: f64,
}

impl Report {
    /// An empty one, for a run that begins now.
    pub(crate) fn new() -> Self {
        Self {
            machine: Machine::here(),
            versions: BTreeMap::new(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Machine {
    /// This one, now.
    fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned());
        let load = read("/proc/loadavg");
        Self {
            processor,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load
                .split_whitespace()
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
        }
    }
}

impl Row {
    /// A row without results.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, goal: Option<Goal>) -> Self {
        Self {
            name: name.into(),
            unit,
            goal,
            met: None,
            cells: BTreeMap::new(),
        }
    }

    /// With this value of a proxy.
    pub(crate) fn with(mut self, kind: Kind, value: f64) -> Self {
        self.cells.entry(kind).or_default().value = Some(value);
        self
    }

    /// With these values, one each round; ratios are taken round by round.
    pub(crate) fn with_rounds(mut self, rounds: &BTreeMap<Kind, Vec<Option<f64>>>) -> Self {
        let base = rounds.get(&Kind::Nginx);
        for (kind, values) in rounds {
            let cell = self.cells.entry(*kind).or_default();
            let known: Vec<f64> = values.iter().copied().flatten().collect();
            cell.value = median(&known);
            let ratios: Vec<f64> = base
                .into_iter()
                .flat_map(|base| values.iter().zip(base))
                .filter_map(|(value, base)| Some((*value)? / (*base)?))
                .filter(|ratio| ratio.is_finite())
                .collect();
            cell.ratio = Spread::of(&ratios);
        }
        self
    }

    /// With the reason why a proxy has no result.
    pub(crate) fn with_failure(mut self, kind: Kind, failure: impl Into<String>) -> Self {
        self.cells.entry(kind).or_default().failure = Some(failure.into());
        self
    }

    /// Takes ratios to nginx where only values are known, and judges Holdfast by the goal.
    pub(crate) fn judged(mut self) -> Self {
        let base = self.cells.get(&Kind::Nginx).and_then(|cell| cell.value);
        if let Some(base) = base.filter(|base| *base != 0.0) {
            for cell in self.cells.values_mut() {
                if let (None, Some(value)) = (cell.ratio, cell.value) {
                    cell.ratio = Spread::of(&[value / base]);
                }
            }
        }
        self.met = self.cells.get(&Kind::Holdfast).and_then(|cell| {
            let goal = self.goal?;
            if cell.failure.is_some() {
                return Some(false);
            }
            Some(match goal {
                Goal::Ratio(most) => cell.ratio?.median <= most,
                Goal::Value(most) => cell.value? <= most,
                Goal::AtLeast(least) => cell.value? >= least,
            })
        });
        self
    }
}

impl Spread {
    /// Of some values; `None` of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            median: median(values)?,
            least: values.iter().copied().reduce(f64::min)?,
            greatest: values.iter().copied().reduce(f64::max)?,
        })
    }
}

impl Shares {
    /// The medians over some windows; `None` of nothing.
    pub(crate) fn of(windows: &[CpuSpent]) -> Option<Self> {
        let cores =
            |share: fn(&CpuSpent) -> f64| median(&windows.iter().map(share).collect::<Vec<_>>());
        Some(Self {
            proxy: cores(|window| window.proxy_cores)?,
            generator: cores(|window| window.generator_cores)?,
            backend: cores(|window| window.backend_cores)?,
            foreign: cores(|window| window.foreign_cores)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(holdfast: &[f64], nginx: &[f64]) -> BTreeMap<Kind, Vec<Option<f64>>> {
        let known = |values: &[f64]| values.iter().copied().map(Some).collect();
        BTreeMap::from([
            (Kind::Holdfast, known(holdfast)),
            (Kind::Nginx, known(nginx)),
        ])
    }

    #[test]
    fn ratios_are_paired_round_by_round() {
        // The machine was twice as slow in the second round: a ratio of medians would see 1.
        let rounds = rounds(&[10.0, 20.0, 10.0], &[20.0, 40.0, 10.0]);
        let row = Row::new("row", "µs", Some(Goal::Ratio(0.5)))
            .with_rounds(&rounds)
            .judged();
        assert_eq!(
            row.cells[&Kind::Holdfast].ratio.map(|r| r.median),
            Some(0.5)
        );
        assert_eq!(row.cells[&Kind::Holdfast].value, Some(10.0));
        assert_eq!(row.met, Some(true));
    }

    #[test]
    fn goals_judge_holdfast_alone() {
        let row = |goal, value| Row::new("row", "B", Some(goal)).with(Kind::Holdfast, value);
        assert_eq!(row(Goal::Value(2.0), 2.0).judged().met, Some(true));
        assert_eq!(row(Goal::Value(2.0), 2.1).judged().met, Some(false));
        assert_eq!(row(Goal::AtLeast(2.0), 1.9).judged().met, Some(false));
        // No nginx, no ratio, no judgement.
        assert_eq!(row(Goal::Ratio(2.0), 1.0).judged().met, None);
        let failed = row(Goal::Value(2.0), 1.0).with_failure(Kind::Holdfast, "died");
        assert_eq!(failed.judged().met, Some(false));
        let other = Row::new("row", "B", Some(Goal::Value(2.0))).with(Kind::Nginx, 1.0);
        assert_eq!(other.judged().met, None);
    }
}
