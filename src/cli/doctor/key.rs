//! Checks the master keys: readable, private, well formed. `store.rs` checks whether they open the store.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Uid, geteuid};

use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use crate::cli::client::Client;
use keyward_api::wire::{KeySourceKind, KeySourceView, KeyView};
use keyward_app::KEY_LOST_HINT;
use keyward_app::config::StoreChoice;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::crypto::private_file::FileError;
use keyward_state::crypto::source::{KeyError, KeySource};

const ID: &str = "key";

/// The remedy while the gateway has the key in memory.
const KEPT_BY_GATEWAY_HINT: &str = "do not stop the gateway: put the key back, or make a backup with `keyward backup FILE`, and restore it";

/// Returns the keys if all can be read. Of a running gateway only key files are checked: it has other
/// variables, and a key command may ask the user.
pub(super) fn check(
    install: &CheckedInstallation<'_>,
    serves: bool,
    gateway: Option<Uid>,
    report: &mut DoctorReport,
) -> Option<Keyring> {
    let config = &install.config;
    let created_later = config.default_master_key && !has_store(&config.store);
    if let (StoreChoice::Memory, true) = (&config.store, config.default_master_key) {
        // The key exists only while the process runs.
        return None;
    }
    let is_file = |source: &&KeySource| matches!(source, KeySource::File(_));
    let sources: Vec<_> = match serves {
        true => config.master_keys.iter().filter(is_file).cloned().collect(),
        false => config.master_keys.clone(),
    };
    if sources.is_empty() {
        report.ok(ID, "the gateway has its master key");
        return None;
    }
    let variable = |name: &str| config.environment.secret(name);
    match KeySource::load(&sources, variable, &config.secret_variables()) {
        Ok(keys) => {
            report.ok(ID, "the master key is readable, and private");
            Some(keys)
        }
        Err(KeyError::Missing(path)) if created_later => {
            let message = format!("the first start creates the master key, {}", path.display());
            report.ok(ID, message);
            None
        }
        // The file of the gateway's user, checked by root.
        Err(KeyError::File(FileError::ForeignOwner { owner, .. }))
            if gateway.map(Uid::as_raw) == Some(owner) && geteuid().is_root() =>
        {
            of_the_gateway(&sources, owner, report);
            None
        }
        Err(error) => {
            let (message, hint) = message_and_hint(&error, gateway);
            let hint = match (error, serves) {
                (KeyError::Missing(_), true) => KEPT_BY_GATEWAY_HINT.to_owned(),
                _ => hint,
            };
            report.fail(ID, message, hint);
            None
        }
    }
}

/// Whether the key files still have the keys of the running gateway, without which no start opens the store.
pub(super) async fn compare(client: &Client, keys: &Keyring, report: &mut DoctorReport) {
    // What cannot be asked is reported by other checks.
    let Ok(used) = client.list::<KeyView>("/api/v1/keys", &[]).await else { return };
    let in_files: Vec<_> = keys.keys().iter().map(|key| key.id.to_string()).collect();
    for KeyView { id, source, .. } in used.items {
        if let Some(KeySourceView { kind: KeySourceKind::File, name }) = source
            && !in_files.contains(&id)
        {
            let message =
                format!("{name} no longer has the master key that the gateway uses, {id}");
            report.fail(ID, message, KEPT_BY_GATEWAY_HINT);
        }
    }
}

/// Files of the gateway's user. Root checks their mode without reading them.
fn of_the_gateway(sources: &[KeySource], owner: u32, report: &mut DoctorReport) {
    let files = sources.iter().filter_map(|source| match source {
        KeySource::File(path) => Some(path),
        _ => None,
    });
    let mode = |path: &PathBuf| Some(std::fs::metadata(path).ok()?.mode() & 0o7777);
    let loose = files.filter_map(|path| Some((path, mode(path)?))).find(|it| it.1 & 0o077 != 0);
    match loose {
        None => report.ok(ID, format!("the master key is private to the gateway's user ({owner})")),
        Some((path, mode)) => {
            let error = KeyError::File(FileError::Loose { path: path.clone(), mode });
            let (message, hint) = message_and_hint(&error, None);
            report.fail(ID, message, hint);
        }
    }
}

fn has_store(store: &StoreChoice) -> bool {
    match store {
        StoreChoice::Sled { path } => path.exists(),
        // The key of a shared store is never created.
        StoreChoice::Postgres(_) => true,
        StoreChoice::Memory => false,
    }
}

fn message_and_hint(error: &KeyError, gateway: Option<Uid>) -> (String, String) {
    let shown = |path: &Path| path.display().to_string();
    match error {
        KeyError::Missing(path) => {
            (format!("master key file {} does not exist", shown(path)), KEY_LOST_HINT.to_owned())
        }
        KeyError::File(FileError::Loose { path, mode }) => (
            format!("other users can read master key file {} (mode {mode:04o})", shown(path)),
            format!("run `chmod 600 {}`, and treat the key as leaked", shown(path)),
        ),
        KeyError::File(FileError::ForeignOwner { path, owner }) => (
            format!("master key file {} belongs to user {owner}", shown(path)),
            match gateway {
                Some(user) => format!(
                    "the gateway runs as user {0}, who must own it: `chown {0} {1}`",
                    user.as_raw(),
                    shown(path)
                ),
                None => format!("run this as user {owner}"),
            },
        ),
        other => (other.to_string(), "check `master_key` in the configuration".to_owned()),
    }
}
