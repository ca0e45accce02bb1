//! Completes a restore after the restored store was exchanged with the old one. Until everything is done, the
//! restored store has a folder `restored/` with its CA and the new name of the old store. A process that holds the
//! store's lock completes it, also after a crash; repeating a step is harmless.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::backups::{CA_CERT_PART, CA_KEY_PART};
use crate::config::Config;
use crate::folders::chown_created;
use keyward_proxy::ca::authority::{Authority, CaFiles};
use keyward_state::store::StoreError;
use keyward_state::store::sled::StoreLock;

/// The folder in a restored store.
pub(super) const PENDING: &str = "restored";
/// The file in it that has the name of the old store. It is written last: without it, the store is not complete.
pub(super) const MARKER: &str = "before";

/// The result of the completion.
#[derive(Debug, Default)]
pub(crate) struct Completed {
    /// Where the store of before is now.
    pub(super) kept: Option<PathBuf>,
    pub(super) ca_replaced: bool,
}

/// Where a backup is restored to, beside the store.
pub(super) fn staging_path(store: &Path) -> PathBuf {
    let mut name = store.file_name().unwrap_or_default().to_os_string();
    name.push(".restoring");
    store.with_file_name(name)
}

/// Completes a restore of this store; removes what an interrupted one left beside it. The caller holds the store's
/// lock, or there is no store.
///
/// # Errors
/// When a file cannot be written; repeating it completes the rest.
pub(crate) fn complete(config: &Config, store: &Path) -> anyhow::Result<Option<Completed>> {
    let (staging, pending) = (staging_path(store), store.join(PENDING));
    let name = match fs::read_to_string(pending.join(MARKER)) {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What is beside the store was never in its place.
            discard(&staging)?;
            return removed(&pending).map(|()| None);
        }
        Err(error) => return Err(error).with_context(|| pending.display().to_string()),
    };
    if Path::new(&name).file_name().is_none_or(|plain| plain != &*name) {
        bail!("{} does not name a directory: remove it", pending.join(MARKER).display());
    }
    let kept = store.with_file_name(&name);
    match fs::rename(&staging, &kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot rename {}", staging.display()));
        }
        _ => {}
    }
    let at = |name| pending.join(name);
    let from = CaFiles { cert: at(CA_CERT_PART), key: at(CA_KEY_PART) };
    let to = CaFiles { cert: config.ca.cert.clone(), key: config.ca.key.clone() };
    let has_ca = from.cert.exists() && from.key.exists();
    let ca_replaced = has_ca && Authority::install(&from, &to, &kept.join("ca"))?;
    if has_ca {
        // Root restores for the gateway's user. Also after a repetition, which replaces nothing.
        for file in [&to.cert, &to.key] {
            chown_created(&config.data_dir, file)
                .with_context(|| format!("cannot change the owner of {}", file.display()))?;
        }
    }
    removed(&pending)?;
    tracing::info!(id = "restored", before = %kept.display(), "a backup was restored");
    Ok(Some(Completed { kept: kept.exists().then_some(kept), ca_replaced }))
}

/// Removes the directory of an interrupted restore, unless one is running.
fn discard(staging: &Path) -> anyhow::Result<()> {
    if !staging.exists() {
        return Ok(());
    }
    match StoreLock::take(staging) {
        Ok(_lock) => {}
        Err(StoreError::Locked { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    removed(staging)?;
    tracing::warn!(path = %staging.display(), "removed what an interrupted restore left");
    Ok(())
}

/// Removes a directory, if there is one, durably.
fn removed(path: &Path) -> anyhow::Result<()> {
    let remove = || match fs::remove_dir_all(path) {
        Ok(()) => path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    remove().with_context(|| format!("cannot remove {}", path.display()))
}
