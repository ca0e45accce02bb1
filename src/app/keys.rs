//! Master keys as the configuration names them: read at the start, and again when it names others.

use super::AppError;
use crate::config::{Config, StoreChoice};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::crypto::source::{KeyError, KeySource};
use keyward_vault::keys::Home;

/// What `master_key` says, as it is in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Named {
    sources: Vec<KeySource>,
    home: Home,
}

impl Named {
    pub(super) fn of(config: &Config) -> Self {
        Self { sources: config.master_keys.clone(), home: home(config) }
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }
}

/// The master keys. The default file is made when it is absent, unless there is a store already:
/// then it was lost, and a new key would not open what is there.
pub(super) fn open(config: &Config) -> anyhow::Result<Keyring> {
    if let StoreChoice::Memory = config.store
        && config.default_master_key
    {
        return Ok(Keyring::ephemeral());
    }
    if let (true, Some(KeySource::File(path))) =
        (config.default_master_key, config.master_keys.first())
        && !path.exists()
    {
        if let StoreChoice::Sled { path: store } = &config.store
            && store.exists()
        {
            return Err(AppError::KeyLost(path.clone()).into());
        }
        KeySource::create_file(path)?;
        tracing::info!(path = %path.display(), "made a master key: back it up, apart from the store");
    }
    Ok(read(config)?)
}

/// Reads the keys that the configuration names. Blocks, for a command up to a minute.
pub(super) fn read(config: &Config) -> Result<Keyring, KeyError> {
    let variable = |name: &str| config.environment.secret(name);
    KeySource::load(&config.master_keys, variable, &config.secret_variables())
}

/// Who can make another key.
pub(super) fn home(config: &Config) -> Home {
    match (config.default_master_key, &config.store, config.master_keys.first()) {
        (true, StoreChoice::Memory, _) => Home::Memory,
        (true, _, Some(KeySource::File(path))) => Home::Own(path.clone()),
        _ => Home::Given,
    }
}
