//! The file of a configuration.

use std::path::PathBuf;

/// Where a configuration was read from.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigOrigin {
    pub(super) file: PathBuf,
    /// It was named, or there: one that vanishes is an error and not an empty configuration, which
    /// would pause everything that it declared.
    pub(super) required: bool,
    /// By `--config` or `KEYWARD_CONFIG`.
    pub(super) is_named: bool,
    /// The file that the last start was given, if this one was not named.
    pub(super) before: Option<FileBefore>,
}

/// The file that a start was given.
#[derive(Clone, Debug)]
pub(super) struct FileBefore {
    pub(super) path: PathBuf,
    /// The number of its rules, which are not in the store.
    pub(super) rules: usize,
    /// Its store was in memory, so no start can miss it.
    pub(super) was_in_memory: bool,
}
