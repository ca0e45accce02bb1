//! Why a configuration is refused, and the file that it is from.

use std::io;
use std::path::PathBuf;

use keyward_base::system_error;
use keyward_rules::provider::document::Problem;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither HOME nor a data directory is set.
    #[error("there is no data directory: set KEYWARD_DATA or HOME, or give --data")]
    NoHome,
    /// The file cannot be read, or its path cannot be resolved.
    #[error("configuration file {path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    /// Problems in the file, one per line: `file:line: path: message; remedy`.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

impl ConfigError {
    /// What to do about it, when that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("`keyward init` with the same options writes one; none at all is fine too")
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(
                    "run this as the user that the file and its directory belong to, or choose others with --config and \
                 --data",
                )
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                Some("save it as UTF-8")
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::IsADirectory => {
                Some("name the file in it, such as keyward.yaml")
            }
            Self::Unreadable { source, .. } => system_error::remedy(source),
            Self::NoHome | Self::Problems(_) => None,
        }
    }

    /// What is wrong in the file, when it could be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Problems(problems) => problems,
            Self::NoHome | Self::Unreadable { .. } => &[],
        }
    }
}

pub(super) fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

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
