//! The report as Markdown tables.

use std::fmt::{self, Display, Formatter};

use super::{Cell, Goal, Report};
use crate::peers::Kind;

/// Writes a [`Report`] for people.
impl Display for Report {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            to,
            "{} cores of {}, Linux {}, load before the run {:.2}",
            machine.cores, machine.processor, machine.kernel, machine.load_before
        )?;
        for (kind, version) in &self.versions {
            writeln!(to, "{} {version}", kind.name())?;
        }
        writeln!(to)?;
        self.results(to)?;
        self.shares(to)?;
        if !self.notes.is_empty() {
            writeln!(to)?;
        }
        for note in &self.notes {
            writeln!(to, "- {note}")?;
        }
        Ok(())
    }
}

impl Report {
    /// A line for each measure: goal, verdict, and each proxy's value with its ratio to nginx.
    fn results(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let kinds: Vec<Kind> = self.versions.keys().copied().collect();
        write!(to, "| measure | goal | met |")?;
        for kind in &kinds {
            write!(to, " {} |", kind.name())?;
        }
        write!(to, "\n| --- | ---: | --- |")?;
        for _ in &kinds {
            write!(to, " ---: |")?;
        }
        writeln!(to)?;
        for row in &self.rows {
            let goal = row.goal.map(goal).unwrap_or_default();
            let met = match row.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "–",
            };
            write!(to, "| {}, {} | {goal} | {met} |", row.name, row.unit)?;
            for kind in &kinds {
                let cell = row.cells.get(kind).map(|cell| show(cell, *kind));
                write!(to, " {} |", cell.unwrap_or_default())?;
            }
            writeln!(to)?;
        }
        Ok(())
    }

    /// Who used the processor: a generator or backend near one core would be what was measured.
    fn shares(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.cells.values().any(|cell| cell.shares.is_some()))
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(
            to,
            "\n| cores in use | proxy | generator | backend | others |"
        )?;
        writeln!(to, "| --- | ---: | ---: | ---: | ---: |")?;
        for row in rows {
            for (kind, cell) in &row.cells {
                if let Some(shares) = cell.shares {
                    writeln!(
                        to,
                        "| {}: {} | {:.2} | {:.2} | {:.2} | {:.2} |",
                        row.name,
                        kind.name(),
                        shares.proxy,
                        shares.generator,
                        shares.backend,
                        shares.foreign
                    )?;
                }
            }
        }
        Ok(())
    }
}

fn goal(goal: Goal) -> String {
    match goal {
        Goal::Ratio(most) => format!("≤ {most:.2} of nginx"),
        Goal::Value(most) => format!("≤ {}", number(most)),
        Goal::AtLeast(least) => format!("≥ {}", number(least)),
    }
}

fn show(cell: &Cell, kind: Kind) -> String {
    if let Some(failure) = &cell.failure {
        // A line break or a bar would end the table's cell.
        return failure.replace(['\n', '|'], " ");
    }
    let value = cell.value.map(number).unwrap_or_default();
    match cell.ratio {
        Some(ratio) if kind != Kind::Nginx => format!("{value} (**{:.2}**)", ratio.median),
        _ => value,
    }
}

/// Three significant digits or all before the point, with commas by thousands.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    let plain = if magnitude >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    };
    let whole = plain.find('.').unwrap_or(plain.len());
    let mut grouped = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && at < whole && (whole - at) % 3 == 0 && digit != '-' && !grouped.ends_with('-')
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_grouped() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(0.0123), "0.012");
        assert_eq!(number(1.234), "1.23");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(999.6), "1,000");
        assert_eq!(number(18_090.4), "18,090");
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(-123.0), "-123");
    }
}
