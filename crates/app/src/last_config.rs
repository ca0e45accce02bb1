//! What the data directory remembers for later starts: the configuration file that a start was given, for commands
//! and starts that are given none; and that its providers are valid, so that the next start need not check them.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::error::AppError;
use super::folders::{chown_created, is_empty_dir, private_dir};
use crate::config::{Config, StoreChoice};

const NOT_REMEMBERED: &str = "the configuration file is not remembered for starts without it";

/// Checks where a store may be made.
pub(super) fn check_place(config: &Config) -> anyhow::Result<()> {
    private_dir(&config.data_dir)?;
    check_store(config)?;
    warn_of_lost_store(config);
    Ok(())
}

/// An audit log without a store means that the store was deleted, or is not mounted.
fn warn_of_lost_store(config: &Config) {
    let has_records = std::fs::metadata(&config.audit.file).is_ok_and(|log| log.len() > 0);
    if let StoreChoice::Sled { path } = &config.store
        && is_absent(path)
        && has_records
    {
        tracing::warn!(
            id = "store_made", store = %path.display(), audit_log = %config.audit.file.display(),
            "there is an audit log and no store: an empty store is made; if the store was lost, stop the gateway and put it \
             back, or run `keyward restore FILE`"
        );
    }
}

fn is_absent(store: &Path) -> bool {
    !store.exists() || is_empty_dir(store)
}

/// Refuses to make an embedded store only because the file of the last start, which may name another store, was not
/// given.
pub(super) fn check_store(config: &Config) -> Result<(), AppError> {
    match (config.file_of_store_before(), &config.store) {
        (Some(before), StoreChoice::Sled { path }) if is_absent(path) => {
            Err(AppError::FileForgotten {
                store: path.clone(),
                before: before.to_owned(),
                default: config.file().to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// Refuses to call an audit log empty only because the file of the last start, which may name another one, was not given.
pub(super) fn check_audit_log(config: &Config) -> Result<(), AppError> {
    let log = &config.audit.file;
    // Full files may be there without the active one.
    let is_absent = log.parent().is_none_or(|folder| !folder.exists() || is_empty_dir(folder));
    match config.file_of_audit_log_before() {
        Some(before) if is_absent => Err(AppError::AuditLogForgotten {
            log: log.clone(),
            before: before.to_owned(),
            default: config.file().to_owned(),
        }),
        _ => Ok(()),
    }
}

/// A file in the default place is a statement, but may be there by accident.
fn warn_of_other(config: &Config) {
    if let Some(before) = config.file_before().filter(|before| *before != config.file())
        && config.has_file()
    {
        let (before, file) = (before.display(), config.file().display());
        tracing::warn!(
            "the last start had the configuration file {before}, and this one has {file}: if that is not meant, add \
             `--config {before}`"
        );
    }
}

/// Also warns of a file that replaces the one of before.
pub(super) fn remember(config: &Config) {
    warn_of_other(config);
    write(config, config.rules.len());
}

/// After a reload, whose rules may be others. Its store and data directory wait for the next start.
pub(super) async fn remember_rules(started: &Arc<Config>, rules: usize) {
    let config = started.clone();
    // Files may be slow.
    if let Err(error) = tokio::task::spawn_blocking(move || write(&config, rules)).await {
        tracing::warn!(%error, "{NOT_REMEMBERED}");
    }
}

/// A failure only costs hints, and refusals of starts without the file.
fn write(config: &Config, rules: usize) {
    let remembered = config.remember_file(rules);
    let given = remembered
        .and_then(|file| file.map_or(Ok(()), |file| chown_created(&config.data_dir, &file)));
    if let Err(error) = given {
        tracing::warn!(%error, "{NOT_REMEMBERED}");
    }
}

/// The configuration, if its providers are not recorded as valid yet.
pub(super) fn unkept_providers(config: &Config) -> Option<Config> {
    config.has_unkept_providers().then(|| config.clone())
}

/// Starts a thread that records them. Shutdown does not wait for it: without the file, only the next start takes
/// longer.
pub(super) fn keep_providers(config: Config) {
    let work = move || match config.keep_providers() {
        Ok(is_new) => tracing::debug!(is_new, "the providers of the configuration are valid"),
        Err(error) => tracing::warn!(
            "cannot keep that the providers of the configuration are valid, so the next start takes longer: {error}"
        ),
    };
    if let Err(error) = thread::Builder::new().name("providers".into()).spawn(work) {
        tracing::debug!(
            "cannot start the thread that checks the providers of the configuration: {error}"
        );
    }
}
