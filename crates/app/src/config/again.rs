//! Reloads: where the configuration came from, which files it depends on, and which changes need a restart.

use std::io;
use std::path::{Path, PathBuf};

use super::checked_providers::KEPT_FROM;
use super::error::ConfigError;
use super::origin::ConfigOrigin;
use super::secret::SecretSource;
use super::{Certificate, Config, DeclaredPlugin, file};
use keyward_rules::provider::Configured;

/// A key that is read at a start only; everything else is taken up by a reload.
pub(super) struct AtStart {
    /// Its path; keys below it also need a restart.
    pub(super) key: &'static str,
    differs: fn(&Config, &Config) -> bool,
}

const fn at_start(key: &'static str, differs: fn(&Config, &Config) -> bool) -> AtStart {
    AtStart { key, differs }
}

/// All of them.
pub(super) const AT_START: &[AtStart] = &[
    at_start("listen", |a, b| a.listen != b.listen),
    at_start("public_url", |a, b| a.public_url != b.public_url),
    at_start("store", |a, b| a.store != b.store),
    at_start("ca", |a, b| a.ca != b.ca),
    at_start("limits", |a, b| a.limits != b.limits),
    at_start("sign_in", |a, b| a.sign_in.settings != b.sign_in.settings),
    at_start("audit", |a, b| a.audit != b.audit),
    at_start("log.format", |a, b| a.log.format != b.log.format),
    at_start("telemetry.metrics", |a, b| a.metrics != b.metrics),
];

impl Config {
    /// Reads the configuration from where this one came from.
    ///
    /// # Errors
    /// As [`Config::load`]; also when the file has vanished.
    pub fn again(&self) -> Result<Self, ConfigError> {
        file::again(&self.origin, &self.data_dir, &self.environment)
    }

    /// Reads the configuration of another file, as if it stood in this one's place: with the same data directory and
    /// environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn another(&self, file: &Path) -> Result<Self, ConfigError> {
        let file = file.to_owned();
        let origin = ConfigOrigin { file, required: true, is_named: true, before: None };
        file::again(&origin, &self.data_dir, &self.environment)
    }

    /// Whether [`Self::keep_providers`] has work: there are many, and they were read.
    pub fn has_unkept_providers(&self) -> bool {
        let is_read = |it: &Configured| matches!(it, Configured::Parsed(_));
        self.providers.len() >= KEPT_FROM && self.providers.iter().any(is_read)
    }

    /// Keeps in the data directory that the providers of the file are sound, so that the next start need not read them. For a
    /// blocking thread. Returns whether that is news.
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

    /// The files that it rests on: its own, those of secrets and manifests, and roots. A change of one
    /// is a change of the configuration.
    pub fn files(&self) -> Vec<PathBuf> {
        let secrets = self.secrets().filter_map(SecretSource::file);
        let roots = self.upstream.trust.iter().map(PathBuf::as_path);
        let fronts = self.listen.certificates().flat_map(|(_, by)| match by {
            Certificate::Files { cert, key } => vec![cert.as_path(), key.as_path()],
            Certificate::Own(_) => Vec::new(),
        });
        let manifests = self.plugins.iter().filter_map(DeclaredPlugin::file).map(PathBuf::as_path);
        let own = std::iter::once(self.origin.file.as_path());
        let named = own.chain(secrets).chain(roots).chain(fronts).chain(manifests);
        let mut files: Vec<PathBuf> = named.map(Path::to_owned).collect();
        files.sort();
        files.dedup();
        files
    }

    /// The keys whose change takes effect at the next start.
    pub fn waits_for_restart(&self, newer: &Self) -> Vec<&'static str> {
        let changed = AT_START.iter().filter(|it| (it.differs)(self, newer));
        changed.map(|it| it.key).collect()
    }
}
