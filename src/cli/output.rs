//! What commands print. A reader that goes away (`keyward agent list | head -1`) ends the output,
//! not the command.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;
use crate::observe::log;

/// Prints `text` to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed("cannot write to standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Prints `value` as indented JSON and a line end.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value);
    let json = json.map_err(|error| Failure::failed("cannot write JSON", &error))?;
    print(&format!("{json}\n"))
}

/// Prints `value` as JSON when that was asked for, else what `text` makes of it.
pub(crate) fn show<T: Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match json {
        true => print_json(value),
        false => print(&text(value)),
    }
}

/// What a removal answers as JSON; the API's own answers to removals are empty.
#[derive(Debug, Serialize)]
struct Removed<'a> {
    removed: &'a [String],
}

/// Prints what was taken away.
pub(crate) fn removed(json: bool, names: &[String], text: &str) -> Result<(), Failure> {
    show(json, &Removed { removed: names }, |_| text.to_owned())
}

/// Tells a person something that is no part of the output.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether headings are dimmed: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal() && wants_colours()
}

/// Warnings of the services, when this process runs them itself, go to standard error.
pub(crate) fn log_warnings() {
    log::init_for_command(wants_colours());
}

/// No wish of the person's speaks against colours (no-color.org).
pub(crate) fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
