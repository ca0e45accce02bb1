//! A manifest on the disk.

use std::path::Path;

use crate::cli::failure::{Exit, Failure};
use crate::config;
use crate::directory::Manifest;

/// Reads it; `providers` are the ids of those that there are.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub(super) fn read(path: &Path, providers: &[&str]) -> Result<Manifest, Failure> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| Failure::failed(&name, &error);
    if std::fs::metadata(path).map_err(failed)?.len() > config::MANIFEST_BYTES_MAX {
        return Err(Failure::new(Exit::Failed, format!("{name} is longer than 256 KiB")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    config::manifest(&name, &text, providers)
        .map_err(|problems| Failure::several(problems.iter().map(ToString::to_string).collect()))
}
