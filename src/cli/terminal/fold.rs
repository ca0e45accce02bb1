//! Folds text for a terminal: to its width, between words, and never within a command, so that it can be copied.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthStr;

/// Lines of at most `width` columns. A longer word has a line of its own.
pub(crate) fn words(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in unbroken(text) {
        match lines.last_mut().filter(|line| line.width() + 1 + word.width() <= width) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// For standard error: folded on a terminal, and as it is through a pipe or into a file.
pub(crate) fn for_notes(text: &str) -> String {
    match io::stderr().is_terminal() {
        true => folded(text, columns(io::stderr())),
        false => text.to_owned(),
    }
}

/// Each line folded. What follows the first line of one has its indentation.
fn folded(text: &str, width: usize) -> String {
    let fold = |line: &str| {
        let indentation: String = line.chars().take_while(|c| *c == ' ').collect();
        if line.width() <= width {
            return line.to_owned();
        }
        let lines = words(line, width.saturating_sub(indentation.len()).max(1));
        lines.iter().map(|it| format!("{indentation}{it}")).collect::<Vec<_>>().join("\n")
    };
    text.split('\n').map(fold).collect::<Vec<_>>().join("\n")
}

/// The words; a command in backticks is one, with what touches it.
fn unbroken(text: &str) -> impl Iterator<Item = &str> {
    let mut is_command = false;
    let is_gap = move |c: char| {
        is_command ^= c == '`';
        !is_command && c.is_whitespace()
    };
    text.split(is_gap).filter(|word| !word.is_empty())
}

/// The assumed width if the terminal does not report it.
const COLUMNS_USUAL: usize = 80;

/// The terminal's width in columns.
pub(crate) fn columns(terminal: impl AsFd) -> usize {
    let size = tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if size == 0 { COLUMNS_USUAL } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_not_folded() {
        let text = "hint: allow it: `keyward rule add pass a.test --agent ci`, or not";
        let expected = ["hint: allow it:", "`keyward rule add pass a.test --agent ci`,", "or not"];
        assert_eq!(words(text, 20), expected);
    }

    #[test]
    fn lines_that_fit_stay_and_indentation_is_kept() {
        let text = "a table   of columns\n  one two three\n";
        assert_eq!(folded(text, 20), text);
        assert_eq!(folded(text, 12), "a table of\ncolumns\n  one two\n  three\n");
    }
}
