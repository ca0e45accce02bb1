//! The width of a terminal.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// The assumed width if the terminal does not report it.
const COLUMNS_USUAL: usize = 80;

/// The terminal's width in columns.
pub(crate) fn columns(terminal: impl AsFd) -> usize {
    let size = tcgetwinsize(terminal).map_or(0, |size| usize::from(size.ws_col));
    if size == 0 { COLUMNS_USUAL } else { size }
}
