//! Tables with aligned columns. On a terminal a table fits its width: columns of ids and empty ones are omitted, lists
//! and times are short, and long cells end in an ellipsis. With `--wide`, and where standard output is no terminal, all is in full.

use std::borrow::Cow;
use std::fmt::Write;

use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use keyward_base::visible::visible;

/// Blanks between two columns.
const GAP: usize = 3;

/// Blanks between two columns of a table that must fit.
const NARROW_GAP: usize = 2;

/// A column is not cut below this width.
const COLUMN_MIN: usize = 8;

/// How tables are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableLayout {
    /// Headings are dimmed.
    pub(crate) colours: bool,
    /// The terminal's columns; `None`: everything in full.
    pub(crate) width: Option<usize>,
    /// What times are relative to.
    pub(crate) now: Timestamp,
}

impl TableLayout {
    /// Everything in full, without colours.
    #[cfg(test)]
    pub(crate) const FULL: Self = Self { colours: false, width: None, now: Timestamp::UNIX_EPOCH };

    /// A terminal of 80 columns, without colours, on the second day of 2025.
    #[cfg(test)]
    pub(crate) fn narrow() -> Self {
        let now = "2025-01-02T12:00:00Z".parse().unwrap();
        Self { width: Some(80), now, ..Self::FULL }
    }
}

/// The content of one place in a table.
#[derive(Clone, Debug)]
pub(crate) enum TableCell {
    /// As it is.
    Text(String),
    /// `first +5` where space is short, else all.
    List(Vec<String>),
    /// `3 h ago` where space is short, else in RFC 3339.
    Time(Option<Timestamp>),
}

/// A table with headings.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<TableCell>>,
    /// Columns that only a table in full has.
    full: Vec<usize>,
    /// Columns that are never cut.
    whole: Vec<usize>,
}

impl From<String> for TableCell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for TableCell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&[String]> for TableCell {
    fn from(texts: &[String]) -> Self {
        Self::List(texts.to_vec())
    }
}

impl From<Timestamp> for TableCell {
    fn from(time: Timestamp) -> Self {
        Self::Time(Some(time))
    }
}

impl From<Option<Timestamp>> for TableCell {
    fn from(time: Option<Timestamp>) -> Self {
        Self::Time(time)
    }
}

impl TableCell {
    /// With invisible characters escaped: a label must not move the cursor or look like another.
    fn text(&self, layout: &TableLayout) -> String {
        let text = match self {
            Self::List(texts) if layout.width.is_some() && texts.len() > 1 => {
                format!("{} +{}", texts[0], texts.len() - 1)
            }
            Self::Time(Some(time)) if layout.width.is_some() => relative(*time, layout.now),
            _ => self.in_full(),
        };
        visible(&text).into_owned()
    }

    /// As a table in full has it.
    pub(crate) fn in_full(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(texts) => texts.join(", "),
            Self::Time(time) => time.map(moment).unwrap_or_default(),
        }
    }
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        let headings = headings.into_iter().map(str::to_owned).collect();
        Self { headings, rows: Vec::new(), full: Vec::new(), whole: Vec::new() }
    }

    /// The columns with these headings are only in a table in full.
    pub(crate) fn only_in_full(mut self, headings: &[&str]) -> Self {
        self.full = self.columns(headings);
        self
    }

    /// The columns with these headings are never cut: people copy what they have.
    pub(crate) fn never_cut(mut self, headings: &[&str]) -> Self {
        self.whole = self.columns(headings);
        self
    }

    fn columns(&self, headings: &[&str]) -> Vec<usize> {
        let all = self.headings.iter().enumerate();
        let named = all.filter(|(_, heading)| headings.contains(&heading.as_str()));
        named.map(|(column, _)| column).collect()
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = TableCell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, with a line end after each row; `empty` when there is no row.
    pub(crate) fn render(&self, empty: &str, layout: &TableLayout) -> String {
        if self.rows.is_empty() {
            return format!("{empty}\n");
        }
        let shown: Vec<usize> = (0..self.headings.len())
            .filter(|column| layout.width.is_none() || self.fits(*column, layout))
            .collect();
        let cells = |row: &Vec<TableCell>| shown.iter().map(|at| row[*at].text(layout)).collect();
        let headings = shown.iter().map(|column| self.headings[*column].clone()).collect();
        let lines: Vec<Vec<String>> =
            std::iter::once(headings).chain(self.rows.iter().map(cells)).collect();
        let mut widths: Vec<usize> = (0..shown.len())
            .map(|column| lines.iter().map(|line| line[column].width()).max().unwrap_or(0))
            .collect();
        let gap = layout.width.map_or(GAP, |width| {
            let all = widths.iter_mut().zip(&shown).map(|(width, column)| ColumnWidth {
                width,
                may_be_cut: !self.whole.contains(column),
            });
            fit(all.collect(), width);
            NARROW_GAP
        });
        let mut text = String::new();
        for (place, line) in lines.iter().enumerate() {
            let line = aligned(line, &widths, gap);
            let _ = match layout.colours && place == 0 {
                true => writeln!(text, "\u{1b}[2m{line}\u{1b}[0m"),
                false => writeln!(text, "{line}"),
            };
        }
        text
    }
}

impl Table {
    /// Whether a table that must fit has the column: not if it is empty, and not if only a table in full has it.
    fn fits(&self, column: usize, layout: &TableLayout) -> bool {
        let is_empty = |row: &Vec<TableCell>| row[column].text(layout).is_empty();
        !self.full.contains(&column) && !self.rows.iter().all(is_empty)
    }
}

/// The width of a column in a table that must fit.
struct ColumnWidth<'a> {
    width: &'a mut usize,
    may_be_cut: bool,
}

/// Takes from the widest column, the last of equals, until the line fits or no column is wider than [`COLUMN_MIN`].
fn fit(mut columns: Vec<ColumnWidth<'_>>, width: usize) {
    let gaps = NARROW_GAP * columns.len().saturating_sub(1);
    while columns.iter().map(|column| *column.width).sum::<usize>() + gaps > width {
        let may_be_cut = columns.iter_mut().filter(|column| column.may_be_cut);
        match may_be_cut.max_by_key(|column| *column.width) {
            Some(widest) if *widest.width > COLUMN_MIN => *widest.width -= 1,
            _ => return,
        }
    }
}

fn aligned(line: &[String], widths: &[usize], gap: usize) -> String {
    let mut text = String::new();
    for (cell, width) in line.iter().zip(widths) {
        let cell = cut(cell, *width);
        text.push_str(&cell);
        text.extend(std::iter::repeat_n(' ', width + gap - cell.width()));
    }
    text.truncate(text.trim_end().len());
    text
}

/// The text in at most `width` columns.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return text.into();
    }
    let mut room = width.saturating_sub(1);
    let fits = |c: &char| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= room;
        room = room.saturating_sub(wide);
        fits
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.truncate(short.trim_end().len());
    (short + "…").into()
}

/// `3 h ago`, `in 12 d`: the largest unit, rounded down.
pub(crate) fn relative(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - time.as_second();
    let (number, unit) = match seconds.unsigned_abs() {
        0..60 if seconds >= 0 => return "just now".to_owned(),
        s @ 0..60 => (s, "s"),
        s @ 60..3_600 => (s / 60, "min"),
        s @ 3_600..172_800 => (s / 3_600, "h"),
        s => (s / 86_400, "d"),
    };
    if seconds >= 0 { format!("{number} {unit} ago") } else { format!("in {number} {unit}") }
}

/// `key   value` lines, values aligned; for one thing.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.width()).max().unwrap_or(0) + GAP;
    let mut text = String::new();
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let value = visible(value);
        let pad = width - key.width();
        let _ = writeln!(text, "{key}{:pad$}{value}", "");
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

    fn narrow(width: usize) -> TableLayout {
        TableLayout { width: Some(width), ..TableLayout::narrow() }
    }

    fn table() -> Table {
        let mut table = Table::new(["NAME", "LABELS", "CREATED"]);
        table.row(["ci".into(), "".into(), "today".into()]);
        table.row(["claude-code".into(), "ünï=1".into(), "".into()]);
        table
    }

    fn hosts() -> Table {
        let mut table = Table::new(["NAME", "ID", "HOSTS", "USED"]).only_in_full(&["ID"]);
        let hosts = ["api.github.com", "github.com", "uploads.github.com"].map(str::to_owned);
        let used: Timestamp = "2025-01-01T20:00:00Z".parse().unwrap();
        table.row(["a-name-of-20-letters".into(), "con_1".into(), hosts[..].into(), used.into()]);
        table.row(["b".into(), "con_2".into(), hosts[..1].into(), None.into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        insta::assert_snapshot!(table().render("none", &TableLayout::FULL), @r"
        NAME          LABELS   CREATED
        ci                     today
        claude-code   ünï=1
        ");
    }

    #[test]
    fn a_narrow_table_omits_ids_and_shortens_lists_and_times() {
        insta::assert_snapshot!(hosts().render("none", &TableLayout::FULL), @r"
        NAME                   ID      HOSTS                                            USED
        a-name-of-20-letters   con_1   api.github.com, github.com, uploads.github.com   2025-01-01T20:00:00Z
        b                      con_2   api.github.com
        ");
        insta::assert_snapshot!(hosts().render("none", &narrow(80)), @r"
        NAME                  HOSTS              USED
        a-name-of-20-letters  api.github.com +2  16 h ago
        b                     api.github.com
        ");
    }

    #[test]
    fn a_narrow_table_omits_columns_that_are_empty() {
        let mut table = Table::new(["NAME", "LABELS", "STATE"]);
        table.row(["ci".into(), "".into(), "active".into()]);
        assert_eq!(table.render("none", &TableLayout::narrow()), "NAME  STATE\nci    active\n");
        assert!(table.render("none", &TableLayout::FULL).contains("LABELS"));
    }

    #[test]
    fn the_widest_columns_are_cut_until_the_line_fits() {
        let text = hosts().render("none", &narrow(40));
        insta::assert_snapshot!(text, @r"
        NAME            HOSTS           USED
        a-name-of-20-…  api.github.co…  16 h ago
        b               api.github.com
        ");
        assert!(text.lines().all(|line| line.width() <= 40));
        // Below the least width of its columns, a table is as narrow as it can be.
        assert!(hosts().render("none", &narrow(5)).lines().all(|line| line.width() <= 28));
    }

    /// Characters of East Asia take two columns, and a combining accent none.
    #[test]
    fn columns_are_aligned_and_cut_by_display_width() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row(["東京".into(), "a".into()]);
        table.row(["cafe\u{301}".into(), "b".into()]);
        assert_eq!(
            table.render("none", &TableLayout::FULL),
            "NAME   STATE\n東京   a\ncafe\u{301}   b\n"
        );
        assert_eq!(cut("東京東京", 6), "東京…");
        assert_eq!(cut("cafe\u{301}", 4), "cafe\u{301}");
    }

    #[test]
    fn a_table_without_rows_prints_a_text_instead() {
        assert_eq!(Table::new(["NAME"]).render("no agents", &TableLayout::FULL), "no agents\n");
    }

    #[test]
    fn colours_touch_only_the_headings() {
        let text = table().render("none", &TableLayout { colours: true, ..TableLayout::FULL });
        assert_eq!(text.matches('\u{1b}').count(), 2);
        assert!(!table().render("none", &TableLayout::FULL).contains('\u{1b}'));
    }

    #[test]
    fn a_cell_cannot_move_the_cursor_or_turn_the_direction_of_text() {
        let mut table = Table::new(["NAME"]);
        table.row(["a\u{1b}[2Jb\r\nc\u{202e}d".into()]);
        let shown = r"a\u{1b}[2Jb\u{d}\u{a}c\u{202e}d";
        assert_eq!(table.render("none", &TableLayout::FULL), format!("NAME\n{shown}\n"));
        let value = "v\n\u{7}\u{200b}".to_owned();
        assert_eq!(fields(&[("k", value)]), format!("k   {}\n", r"v\u{a}\u{7}\u{200b}"));
    }

    #[test]
    fn times_are_written_to_the_second() {
        assert_eq!(moment("2025-01-02T03:04:05.678Z".parse().unwrap()), "2025-01-02T03:04:05Z");
    }

    #[test]
    fn relative_times_have_one_unit() {
        let now = TableLayout::narrow().now;
        for (seconds, text) in [
            (0, "just now"),
            (59, "just now"),
            (60, "1 min ago"),
            (3_599, "59 min ago"),
            (3_600, "1 h ago"),
            (172_799, "47 h ago"),
            (172_800, "2 d ago"),
            (-30, "in 30 s"),
            (-172_800, "in 2 d"),
        ] {
            let time = Timestamp::from_second(now.as_second() - seconds).unwrap();
            assert_eq!(relative(time, now), text);
        }
    }

    #[test]
    fn empty_fields_are_omitted() {
        let text = fields(&[("name", "ci".to_owned()), ("label", String::new())]);
        assert_eq!(text, "name    ci\n");
    }
}
