//! What an installation has on disk.

use std::fs;
use std::path::Path;

use super::Services;
use crate::config::{Config, StoreChoice};
use crate::error::AppError;
use crate::last_config;
use keyward_proxy::ca::authority::Authority;

impl Services {
    /// Whether a store exists on disk.
    pub fn are_stored(config: &Config) -> bool {
        let has_some = |path: &Path| fs::read_dir(path).is_ok_and(|mut all| all.next().is_some());
        match &config.store {
            StoreChoice::Sled { path } => has_some(path) || path.is_file(),
            StoreChoice::Postgres(_) => true,
            StoreChoice::Memory => false,
        }
    }

    /// Whether an embedded store may be made where there is none.
    ///
    /// # Errors
    /// When the file of the last start, which may name another store, was not given.
    pub fn may_make_store(config: &Config) -> Result<(), AppError> {
        last_config::check_store(config)
    }

    /// Whether the audit log of the configuration is that of the last start, as far as can be known.
    ///
    /// # Errors
    /// When there is none, and the file of the last start, which may name another one, was not given.
    pub fn check_audit_log(config: &Config) -> Result<(), AppError> {
        last_config::check_audit_log(config)
    }

    /// Whether a CA exists on disk, complete or not.
    pub fn has_authority(config: &Config) -> bool {
        Authority::is_made(&config.ca.cert, &config.ca.key).unwrap_or(true)
    }
}
