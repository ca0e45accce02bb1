//! Master keys of the configuration: read at the start, and again when the configuration names others.

use super::error::AppError;
use super::folders::is_empty_dir;
use crate::config::{Config, StoreChoice};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::crypto::source::{KeyError, KeySource};
use keyward_vault::keys::{KeyLocation, MasterKeys};
use std::path::Path;
use std::sync::Arc;

/// The configured sources of master keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ConfiguredKeys {
    sources: Vec<KeySource>,
    location: KeyLocation,
}

impl ConfiguredKeys {
    /// `store`: the one in use, which a reload does not change.
    pub(super) fn of(config: &Config, store: &StoreChoice) -> Self {
        Self { sources: config.master_keys.clone(), location: location_with(config, store) }
    }

    pub(super) fn location(&self) -> &KeyLocation {
        &self.location
    }
}

/// The master keys. A missing default file is created, unless there is a store: then the file was lost, and
/// a new key would not open the store.
pub(super) fn open(config: &Config) -> anyhow::Result<Keyring> {
    if let StoreChoice::Memory = config.store
        && config.default_master_key
    {
        return Ok(Keyring::ephemeral());
    }
    // Before the key: another first start makes the store after it.
    let has_store =
        matches!(&config.store, StoreChoice::Sled { path } if path.exists() && !is_empty_dir(path));
    if let (true, Some(KeySource::File(path))) =
        (config.default_master_key, config.master_keys.first())
        && !path.exists()
    {
        if has_store {
            let config = config.file_before().map(Path::to_owned);
            return Err(AppError::KeyLost { key: path.clone(), config }.into());
        }
        create(path)?;
    }
    Ok(read(config)?)
}

/// The master keys for a restored store. A missing default file is created, also where there is a store: that store
/// is about to be replaced.
pub(super) fn for_restore(config: &Config) -> anyhow::Result<Keyring> {
    match (config.default_master_key, config.master_keys.first()) {
        (true, Some(KeySource::File(path))) if !path.exists() => {
            create(path)?;
            Ok(read(config)?)
        }
        _ => open(config),
    }
}

/// Creates the default file, unless another process has just done it. That one may have removed our draft.
fn create(path: &Path) -> Result<(), AppError> {
    match KeySource::create_file(path) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "made a master key: back it up, apart from the store");
            Ok(())
        }
        Err(_) if path.exists() => Ok(()),
        Err(error) => Err(AppError::data_file(path.parent().unwrap_or(path), error)),
    }
}

/// Reads the configured keys. Blocks; a key command may take a minute.
pub(super) fn read(config: &Config) -> Result<Keyring, KeyError> {
    let variable = |name: &str| config.environment.secret(name);
    KeySource::load(&config.master_keys, variable, &config.secret_variables())
}

/// Where the current key is stored, which decides who can create another.
pub(super) fn location(config: &Config) -> KeyLocation {
    location_with(config, &config.store)
}

fn location_with(config: &Config, store: &StoreChoice) -> KeyLocation {
    match (config.default_master_key, store, config.master_keys.first()) {
        (true, StoreChoice::Memory, _) => KeyLocation::Memory,
        (true, _, Some(KeySource::File(path))) => KeyLocation::KeyFile(path.clone()),
        _ => KeyLocation::External,
    }
}

/// Finishes a rotation of the master key that a crash interrupted.
pub(super) async fn finish_rotation(keys: &Arc<MasterKeys>) {
    if let Err(error) = keys.finish().await {
        tracing::error!(%error, "the rotation of the master key is not finished: the old key stays");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    /// `keyward serve` and `keyward run` of a new installation.
    #[test]
    fn concurrent_first_starts_get_one_master_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let begun = Barrier::new(8);
        let start = || {
            begun.wait();
            create(&path).unwrap();
            let keyring = KeySource::load(&[KeySource::File(path.clone())], |_| None, &[]);
            keyring.unwrap().current()
        };
        let ids: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays");
    }
}
