//! [`own_program`]: the file of this program, to start it again.

use std::path::PathBuf;

use super::failure::Failure;

/// The path of this program.
///
/// # Errors
/// When the system does not say it: on Linux, without `/proc`.
pub(crate) fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::failed("cannot find this program's file", &error).hint("mount /proc")
    })
}
