//! [`KeyError`]: why a master key cannot be loaded, created or replaced.

use std::io;
use std::path::PathBuf;

use super::command::CommandError;
use super::private_file::FileError;

/// Why a master key could not be loaded. The message names the source and never quotes its contents.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The list of sources is empty.
    #[error("no master key is named: set `master_key: {{ file: master.key }}`")]
    NoSource,
    /// The file does not exist.
    #[error(
        "master key file {0} does not exist: restore it from your backup of keys, or check `master_key` (its paths are relative to the data directory)"
    )]
    Missing(PathBuf),
    /// The file was not read for another reason.
    #[error("master key {0}")]
    File(#[source] FileError),
    /// The text is not a key.
    #[error("{0} holds no master key: expected 64 hex digits or 44 base64 characters")]
    Malformed(String),
    /// One repeated byte, which is not a real key.
    #[error(
        "{0} holds a master key that is one byte repeated: make a random one, such as by `openssl rand -hex 32`"
    )]
    Weak(String),
    /// The variable is not set.
    #[error(
        "environment variable {0} is not set: put the master key of the store there, or for a new store 64 random hex digits (`openssl rand -hex 32`)"
    )]
    EnvMissing(String),
    /// The command failed or printed nothing.
    #[error("master key {0}")]
    Command(#[from] CommandError),
    /// The file exists and would be overwritten.
    #[error(
        "master key file {0} exists already and is not overwritten: what it sealed would be lost"
    )]
    Exists(PathBuf),
    /// The new file cannot be written.
    #[error("master key file {path} cannot be written: {source}")]
    Unwritable { path: PathBuf, source: io::Error },
    /// The file of a key in use is not there any more.
    #[error(
        "master key file {0} was removed: put it back, or make a backup with `keyward backup FILE` before the gateway stops, and restore it"
    )]
    Removed(PathBuf),
    /// The file is a symbolic link; replacing it would leave the key at the link's target.
    #[error(
        "master key file {0} is a symbolic link: put the file itself there, or name it in `master_key`"
    )]
    Link(PathBuf),
}

impl From<FileError> for KeyError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Missing(path) => Self::Missing(path),
            error => Self::File(error),
        }
    }
}
