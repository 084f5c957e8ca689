//! Tables with a title, as the Go Nex draws them.

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentLineStyle, LineStyle, TableStyle, Width,
};

const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::new('├', '─', '┬', '┤'))
    .header_lines(ContentLineStyle::new('│', '│', '│'))
    .header_separator(LineStyle::new('├', '─', '┼', '┤'))
    .content_lines(ContentLineStyle::new('│', '│', '│'))
    .bottom_border(LineStyle::new('╰', '─', '┴', '╯'));

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    columns: usize,
    inner: comfy_table::Table,
}

impl Table {
    /// An empty table. `columns` must not be empty.
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(STYLE).set_header(columns.iter().copied());
        Self {
            title: title.into(),
            columns: columns.len(),
            inner,
        }
    }

    /// Aligns a column to the right, as numbers are.
    pub(crate) fn number(mut self, column: usize) -> Self {
        if let Some(column) = self.inner.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self
    }

    /// Adds a row with one cell for each column. Control characters of foreign text are shown,
    /// not obeyed.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.inner
            .add_row(cells.into_iter().map(|cell| Cell::new(printable(&cell))));
    }

    /// Draws it.
    pub(crate) fn draw(mut self) -> String {
        let title = printable(&self.title);
        let wanted = title.chars().count();
        let mut width = self.width();
        if wanted + 2 > width {
            self.widen_last_column(wanted + 2 - width);
            width = wanted + 2;
        }
        // An odd space goes left, as in Go.
        let spare = width.saturating_sub(wanted);
        let (left, right) = (spare.div_ceil(2), spare / 2);
        format!(
            "╭{}╮\n│{}{title}{}│\n{}",
            "─".repeat(width),
            " ".repeat(left),
            " ".repeat(right),
            self.inner
        )
    }

    /// The width between the outer borders: a cell has a space on each side, and a line before the next.
    fn width(&self) -> usize {
        let widths = self.inner.column_max_content_widths();
        let cells: usize = widths.iter().map(|width| usize::from(*width) + 2).sum();
        cells + self.columns - 1
    }

    fn widen_last_column(&mut self, missing: usize) {
        let last = self.columns - 1;
        let widths = self.inner.column_max_content_widths();
        let wanted = usize::from(widths.get(last).copied().unwrap_or(0)) + missing + 2;
        if let Some(column) = self.inner.column_mut(last) {
            let wanted = u16::try_from(wanted).unwrap_or(u16::MAX);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(wanted)));
        }
    }
}

/// A text of somebody else that a terminal may show: control characters become `�`, so that no
/// workload's name can move the cursor or colour the screen.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_drawn_as_in_go() {
        let mut table = Table::new("Nex Nodes", &["Nexus", "State", "Running Agents"]).number(2);
        table.row(["nexus".into(), "lameduck".into(), "1".into()]);

        assert_eq!(
            table.draw(),
            "\
╭───────────────────────────────────╮
│             Nex Nodes             │
├───────┬──────────┬────────────────┤
│ Nexus │ State    │ Running Agents │
├───────┼──────────┼────────────────┤
│ nexus │ lameduck │              1 │
╰───────┴──────────┴────────────────╯"
        );
    }

    #[test]
    fn a_title_that_is_wider_than_the_table_widens_it() {
        let mut table = Table::new("a long title", &["A", "B"]);
        table.row(["x".into(), "y".into()]);

        assert_eq!(
            table.draw(),
            "\
╭──────────────╮
│ a long title │
├───┬──────────┤
│ A │ B        │
├───┼──────────┤
│ x │ y        │
╰───┴──────────╯"
        );
    }

    #[test]
    fn foreign_text_cannot_control_the_terminal() {
        let mut table = Table::new("t", &["Name"]);
        table.row(["a\x1b[31mb\nc".into()]);
        let drawn = table.draw();
        assert!(!drawn.contains('\x1b'));
        assert_eq!(drawn.lines().count(), 7);
    }
}
