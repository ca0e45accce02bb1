//! A manifest on the disk.

use std::path::Path;

use crate::cli::failure::{Exit, Failure};
use keyward_app::config::{ManifestError, manifest_file};
use keyward_state::directory::Manifest;

/// Reads it; `providers` are the ids of the known ones.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub(super) fn read(path: &Path, providers: &[&str]) -> Result<Manifest, Failure> {
    manifest_file(path, providers).map_err(|error| match error {
        ManifestError::Unreadable { path, source } => {
            Failure::failed(&path.display().to_string(), &source)
        }
        ManifestError::TooLong(_) => Failure::new(Exit::Failed, error.to_string()),
        ManifestError::Problems(problems) => Failure::problems(&problems),
    })
}
