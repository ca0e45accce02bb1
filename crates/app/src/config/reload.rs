//! Reloads: where the configuration came from, which files it depends on, and which changes need a restart.

use std::io;
use std::path::{Path, PathBuf};

use super::checked_providers::KEPT_FROM;
use super::error::ConfigError;
use super::error::ConfigOrigin;
use super::secret::SecretSource;
use super::{Certificate, Config, DeclaredPlugin, file};
use keyward_rules::provider::Configured;

/// A key that is read at a start only; a reload applies all others.
pub(super) struct RestartKey {
    /// Its path; keys below it also need a restart.
    pub(super) key: &'static str,
    differs: fn(&Config, &Config) -> bool,
}

const fn restart_key(key: &'static str, differs: fn(&Config, &Config) -> bool) -> RestartKey {
    RestartKey { key, differs }
}

pub(super) const RESTART_KEYS: &[RestartKey] = &[
    restart_key("listen", |a, b| a.listen != b.listen),
    restart_key("public_url", |a, b| a.public_url != b.public_url),
    restart_key("store", |a, b| a.store != b.store),
    restart_key("ca", |a, b| a.ca != b.ca),
    restart_key("limits", |a, b| a.limits != b.limits),
    restart_key("sign_in", |a, b| a.sign_in.settings != b.sign_in.settings),
    restart_key("audit", |a, b| a.audit != b.audit),
    restart_key("log.format", |a, b| a.log.format != b.log.format),
    restart_key("telemetry.metrics", |a, b| a.metrics != b.metrics),
];

impl Config {
    /// Reads the configuration from where this one came from.
    ///
    /// # Errors
    /// As [`Config::load`]; also when the file has vanished.
    pub fn reread(&self) -> Result<Self, ConfigError> {
        file::reread(&self.origin, &self.data_dir, &self.environment)
    }

    /// Reads the configuration of another file, with this one's data directory and environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn with_file(&self, file: &Path) -> Result<Self, ConfigError> {
        let file = file.to_owned();
        let origin = ConfigOrigin { file, required: true, is_named: true, before: None };
        file::reread(&origin, &self.data_dir, &self.environment)
    }

    /// Whether [`Self::keep_providers`] has work: there are many, and they were read.
    pub fn has_unkept_providers(&self) -> bool {
        let is_read = |it: &Configured| matches!(it, Configured::Parsed(_));
        self.providers.len() >= KEPT_FROM && self.providers.iter().any(is_read)
    }

    /// Records in the data directory that the providers of the file are valid, so that the next start need not read them. For
    /// a blocking thread. Returns whether the record has changed.
    ///
    /// # Errors
    /// The configuration cannot be read, or the data directory cannot be written.
    pub fn keep_providers(&self) -> io::Result<bool> {
        file::keep_providers(&self.origin, &self.data_dir, &self.environment)
    }

    /// The file that it was read from, or would be.
    pub fn file(&self) -> &Path {
        &self.origin.file
    }

    /// The files that it depends on: its own, those of secrets and manifests, and roots. A change of one
    /// is a change of the configuration.
    pub fn files(&self) -> Vec<PathBuf> {
        let secrets = self.secrets().filter_map(SecretSource::file);
        let roots = self.upstream.trust.iter().map(PathBuf::as_path);
        let certificates = self.listen.certificates().flat_map(|(_, by)| match by {
            Certificate::Files { cert, key } => vec![cert.as_path(), key.as_path()],
            Certificate::Own(_) => Vec::new(),
        });
        let manifests = self.plugins.iter().filter_map(DeclaredPlugin::file).map(PathBuf::as_path);
        let own = std::iter::once(self.origin.file.as_path());
        let named = own.chain(secrets).chain(roots).chain(certificates).chain(manifests);
        let mut files: Vec<PathBuf> = named.map(Path::to_owned).collect();
        files.sort();
        files.dedup();
        files
    }

    /// The keys whose change takes effect at the next start.
    pub fn waits_for_restart(&self, newer: &Self) -> Vec<&'static str> {
        let changed = RESTART_KEYS.iter().filter(|it| (it.differs)(self, newer));
        changed.map(|it| it.key).collect()
    }
}
