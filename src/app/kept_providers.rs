//! Keeps, while the gateway serves, that the providers of its configuration are sound: the next start reads none of them.

use std::thread;

use crate::config::Config;

/// The configuration if its providers are to be kept.
pub(super) fn unkept(config: &Config) -> Option<Config> {
    config.has_unkept_providers().then(|| config.clone())
}

/// Begins a thread that keeps them. The end of the process does not wait for it: a file that is not written costs time at
/// the next start only.
pub(super) fn keep(config: Config) {
    let work = move || match config.keep_providers() {
        Ok(is_new) => tracing::debug!(is_new, "the providers of the configuration are sound"),
        Err(error) => tracing::warn!(
            "cannot keep that the providers of the configuration are sound, so the next start takes longer: {error}"
        ),
    };
    if let Err(error) = thread::Builder::new().name("providers".into()).spawn(work) {
        tracing::debug!("no thread for the providers of the configuration: {error}");
    }
}
