//! Remembers the configuration file that a start was given, for the hints of commands that are given none.

use super::folders::give_made;
use crate::config::Config;

/// A failure only costs these hints.
pub(super) fn remember(config: &Config) {
    let remembered = config.remember_file();
    let given =
        remembered.and_then(|file| file.map_or(Ok(()), |file| give_made(&config.data_dir, &file)));
    if let Err(error) = given {
        tracing::warn!(%error, "the path of the configuration file is not remembered for hints");
    }
}
