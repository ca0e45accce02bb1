//! Aligned columns for people.

use std::fmt::Write;

use jiff::Timestamp;

/// Blanks between two columns.
const GAP: usize = 3;

/// A table with headings.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self::with(headings)
    }

    /// The same, of any number.
    pub(crate) fn with<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        Self { rows: vec![headings.into_iter().map(str::to_owned).collect()] }
    }

    /// Adds a row. Control characters are dropped: a label must not move the cursor.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.add(cells);
    }

    /// The same, of any number of cells.
    pub(crate) fn add(&mut self, cells: impl IntoIterator<Item = String>) {
        let clean = |cell: String| -> String { cell.chars().filter(|c| !c.is_control()).collect() };
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    /// The text, with a line end after each row; `empty` when there is no row.
    pub(crate) fn render(&self, empty: &str, colours: bool) -> String {
        if self.rows.len() == 1 {
            return format!("{empty}\n");
        }
        let mut text = String::new();
        for (place, row) in self.rows.iter().enumerate() {
            let line = self.line(row);
            let _ = match colours && place == 0 {
                true => writeln!(text, "\u{1b}[2m{line}\u{1b}[0m"),
                false => writeln!(text, "{line}"),
            };
        }
        text
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            let pad = self.width(column) + GAP - cell.chars().count();
            line.extend(std::iter::repeat_n(' ', pad));
        }
        line.truncate(line.trim_end().len());
        line
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// `key   value` lines, values aligned; for one thing.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + GAP;
    let mut text = String::new();
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(text, "{key:width$}{value}");
    }
    text
}

/// A time to the second: people compare days and minutes.
pub(crate) fn moment(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// `a=1, b=2`.
pub(crate) fn pairs<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    map.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "LABELS", "CREATED"]);
        table.row(["ci".to_owned(), String::new(), "today".to_owned()]);
        table.row(["claude-code".to_owned(), "ünï=1".to_owned(), String::new()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        insta::assert_snapshot!(table().render("none", false), @r"
        NAME          LABELS   CREATED
        ci                     today
        claude-code   ünï=1
        ");
    }

    #[test]
    fn no_rows_are_said_in_words() {
        assert_eq!(Table::new(["NAME"]).render("no agents", true), "no agents\n");
    }

    #[test]
    fn colours_touch_only_the_headings() {
        let text = table().render("none", true);
        assert_eq!(text.matches('\u{1b}').count(), 2);
        assert!(!table().render("none", false).contains('\u{1b}'));
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        let mut table = Table::new(["NAME"]);
        table.row(["a\u{1b}[2Jb\r\nc".to_owned()]);
        assert_eq!(table.render("none", false), "NAME\na[2Jbc\n");
        assert_eq!(fields(&[("k", "v\n\u{7}".to_owned())]), "k   v\n");
    }

    #[test]
    fn times_are_told_to_the_second() {
        let time: Timestamp = "2025-01-02T03:04:05.678Z".parse().unwrap();
        assert_eq!(moment(time), "2025-01-02T03:04:05Z");
    }

    #[test]
    fn empty_fields_are_left_out() {
        let text = fields(&[("name", "ci".to_owned()), ("label", String::new())]);
        assert_eq!(text, "name    ci\n");
    }
}
