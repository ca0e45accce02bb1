//! Output of commands. A closed pipe (`keyward agent list | head -1`) ends the output, not the
//! command.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::escape_controls::escape_controls;
use super::failure::{Failure, SHOWN_MAX};
use super::settings::Global;
use super::terminal::fold;
use super::terminal::fold::columns;
use super::terminal::table::TableLayout;
use keyward_state::observe::log;

/// Prints `text` to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_on(text).map(drop)
}

/// Prints `text` to standard output. Returns whether the pipe is still open.
pub(crate) fn print_on(text: &str) -> Result<bool, Failure> {
    print_bytes(text.as_bytes())
}

/// Prints bytes to standard output. Returns whether the pipe is still open.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Whether the pipe is still open after a write to standard output.
///
/// # Errors
/// When the write failed for another reason than a closed pipe.
pub(crate) fn written(result: io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed("cannot write to standard output", &error)),
    }
}

/// Prints `value` as indented JSON and a line end.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value);
    let json = json.map_err(|error| Failure::failed("cannot write JSON", &error))?;
    print(&format!("{}\n", escape_controls(&json)))
}

/// `value` as JSON on one line, without a line end.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(value);
    Ok(escape_controls(&json.map_err(|error| Failure::failed("cannot write JSON", &error))?))
}

/// Prints `value` as JSON if requested, else as `text` formats it.
pub(crate) fn show<T: Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if json { print_json(value) } else { print(&text(value)) }
}

/// The JSON output of a removal; the API's own answer is empty.
#[derive(Debug, Serialize)]
struct Removed<'a> {
    removed: &'a [String],
}

/// Prints the result of a removal.
pub(crate) fn removed(json: bool, names: &[String], text: &str) -> Result<(), Failure> {
    show(json, &Removed { removed: names }, |_| text.to_owned())
}

/// The API's word for a value that is a text in JSON, such as a state.
pub(crate) fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Prints a note to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", fold::for_notes(text));
}

/// Notes of one kind; of many only the first, and how many more there are.
pub(crate) fn notes<T: Display>(kind: &str, texts: impl ExactSizeIterator<Item = T>) {
    let more = texts.len().saturating_sub(SHOWN_MAX);
    texts.take(SHOWN_MAX).for_each(|text| note(&format!("{kind}: {text}")));
    if more > 0 {
        note(&format!("and {more} more; --json has all"));
    }
}

/// How tables are written to standard output: on a terminal they fit it, unless `--wide` is given.
pub(crate) fn layout(global: &Global) -> TableLayout {
    let fits = io::stdout().is_terminal() && !global.wide;
    let width = fits.then(|| columns(io::stdout()));
    TableLayout { colours: colours(), width, now: Timestamp::now() }
}

/// Whether headings are dimmed: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal() && wants_colours()
}

/// The same for notes on standard error.
pub(crate) fn colours_of_notes() -> bool {
    io::stderr().is_terminal() && wants_colours()
}

/// Warnings of the services, when this process runs them itself, go to standard error.
pub(crate) fn log_warnings() {
    log::init_for_command(wants_colours());
}

/// Whether the environment allows colours (no-color.org).
pub(crate) fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::visible::is_invisible;

    #[test]
    fn json_escapes_invisible_characters_and_keeps_its_value() {
        let value = serde_json::json!({"a": "\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2028}\u{e0041}é", "b": [1]});
        let line = json_line(&value).unwrap();
        assert!(!line.chars().any(is_invisible), "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
        let pretty = escape_controls(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&pretty).unwrap(), value);
    }
}
