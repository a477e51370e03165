//! Text in columns, as kubectl prints it.

use std::fmt;

/// Rows of cells; each column is as wide as its widest cell. The last cell of a row is not padded.
#[derive(Debug, Default)]
pub(super) struct Columns {
    indent: usize,
    rows: Vec<Vec<String>>,
}

impl Columns {
    pub(super) fn new(indent: usize) -> Self {
        Self {
            indent,
            rows: Vec::new(),
        }
    }

    pub(super) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GAP: usize = 3;
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            // The last cell needs no room, so a long one does not push the others apart.
            let padded = row.len().saturating_sub(1);
            if widths.len() < padded {
                widths.resize(padded, 0);
            }
            for (width, cell) in widths.iter_mut().zip(row.iter().take(padded)) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (index, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if index + 1 < row.len() {
                    let width = widths.get(index).copied().unwrap_or_default() + GAP;
                    let fill = width.saturating_sub(cell.chars().count());
                    line.push_str(&" ".repeat(fill));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
