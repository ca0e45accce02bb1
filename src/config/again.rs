//! Reading the configuration again while it is in use: where it came from, which files it rests on,
//! and what of a newer one waits for a restart.

use std::path::{Path, PathBuf};

use super::secret::SecretSource;
use super::{Config, ConfigError, file};

/// Where a configuration was read from.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// The file.
    pub(super) file: PathBuf,
    /// It was named, or there: one that vanishes is an error and not an empty configuration, which
    /// would pause everything that it declared.
    pub(super) required: bool,
}

/// What is read at a start only; everything else is taken up by a reload.
pub(super) const AT_START: [(&str, fn(&Config, &Config) -> bool); 8] = [
    ("listen", |a, b| a.listen != b.listen),
    ("public_url", |a, b| a.public_url != b.public_url),
    ("store", |a, b| a.store != b.store),
    ("master_key", |a, b| a.master_keys != b.master_keys),
    ("ca", |a, b| a.ca != b.ca),
    ("limits", |a, b| a.limits != b.limits),
    ("audit", |a, b| a.audit != b.audit),
    ("log.format", |a, b| a.log.format != b.log.format),
];

impl Config {
    /// Reads the configuration from where this one came from.
    ///
    /// # Errors
    /// As [`Config::load`]; also when the file has vanished.
    pub fn again(&self) -> Result<Self, ConfigError> {
        file::again(&self.origin, &self.data_dir, &self.environment)
    }

    /// The files that it rests on: its own, those of secrets, and roots. A change of one is a change
    /// of the configuration.
    pub fn files(&self) -> Vec<PathBuf> {
        let fields = self.connections.iter().flat_map(|connection| connection.fields.values());
        let tokens = self.agents.iter().filter_map(|agent| agent.token.as_ref());
        let secrets = fields.chain(tokens).filter_map(SecretSource::file);
        let roots = self.upstream.trust.iter().map(PathBuf::as_path);
        let own = std::iter::once(self.origin.file.as_path());
        let mut files: Vec<PathBuf> = own.chain(secrets).chain(roots).map(Path::to_owned).collect();
        files.sort();
        files.dedup();
        files
    }

    /// The keys whose change takes effect at the next start.
    pub fn waits_for_restart(&self, newer: &Self) -> Vec<&'static str> {
        let changed = AT_START.into_iter().filter(|(_, differs)| differs(self, newer));
        changed.map(|(key, _)| key).collect()
    }
}
