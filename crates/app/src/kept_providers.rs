//! Records, in the background, that the providers of the configuration are valid, so that the next start need not check
//! them.

use std::thread;

use crate::config::Config;

/// The configuration, if its providers are not recorded as valid yet.
pub(super) fn unkept(config: &Config) -> Option<Config> {
    config.has_unkept_providers().then(|| config.clone())
}

/// Starts a thread that records them. Shutdown does not wait for it: without the file, only the next start takes
/// longer.
pub(super) fn keep(config: Config) {
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
