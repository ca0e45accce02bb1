//! The folders of the gateway's files: created for this user alone, or checked.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::error::AppError;
use keyward_state::store::sled::chown_tree_to_owner_of;

/// A symbolic link whose target does not exist. No directory can be created there.
#[derive(Debug, thiserror::Error)]
#[error("{} is a symbolic link to {}, which does not exist", link.display(), target.display())]
pub struct DanglingLink {
    link: PathBuf,
    pub target: PathBuf,
}

impl DanglingLink {
    /// The one at the path, or at a directory above it.
    pub fn at(path: &Path) -> Option<Self> {
        let link = path.ancestors().find(|above| fs::symlink_metadata(above).is_ok())?;
        let target = fs::read_link(link).ok()?;
        let is_absent =
            fs::metadata(link).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        is_absent.then(|| Self { link: link.to_owned(), target })
    }
}

/// Creates the directory, and those above it, with mode 0700. Does nothing if it exists.
///
/// # Errors
/// Of the system, or [`DanglingLink`].
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| DanglingLink::at(path).map_or(error, io::Error::other))
}

/// Creates the directory of the file at `key` with mode 0700. An existing one may be open to others, such as
/// `/etc/keyward` or `/var/log`: the files themselves must be 0600, which is checked.
pub(super) fn folder_for(key: &'static str, file: &Path) -> anyhow::Result<()> {
    let Some(path) = file.parent() else {
        return Ok(());
    };
    let made = create_private_dir(path);
    Ok(made.map_err(|source| AppError::FileDirectory { key, path: path.to_owned(), source })?)
}

/// Creates the directory with mode 0700, or checks that other users cannot enter it. An empty directory of
/// this user gets mode 0700.
pub(super) fn private_dir(path: &Path) -> anyhow::Result<()> {
    let made = create_private_dir(path);
    made.map_err(|source| AppError::Directory { path: path.to_owned(), source })?;
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && own != 0 {
        return Err(AppError::OtherOwner(path.to_owned()).into());
    }
    if metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    if !is_empty_dir(path) || metadata.uid() != own {
        let path = path.display();
        bail!("others can enter {path}: run `chmod 700 {path}`, or choose another data directory");
    }
    let closed = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    Ok(closed.map_err(|source| AppError::NotClosed { path: path.to_owned(), source })?)
}

/// Gives a file that root made, and new folders of the data directory above it, to the gateway's user.
pub(super) fn chown_created(data_dir: &Path, file: &Path) -> io::Result<()> {
    match file.strip_prefix(data_dir).ok().and_then(|below| below.components().next()) {
        Some(first) => chown_tree_to_owner_of(data_dir, &data_dir.join(first)),
        None => chown_tree_to_owner_of(file.parent().unwrap_or(Path::new("/")), file),
    }
}

/// Whether this is a directory that is known to be empty.
pub(super) fn is_empty_dir(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// A free name beside a store for its rows of before: `store.before-restore-20260102T030405Z`.
pub(super) fn kept_name(store: &Path, occasion: &str, now: Timestamp) -> String {
    let name = store.file_name().unwrap_or_default().to_string_lossy();
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
    let first = format!("{name}.before-{occasion}-{time}");
    let mut free = first.clone();
    for number in 2.. {
        if !store.with_file_name(&free).exists() {
            break;
        }
        free = format!("{first}-{number}");
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(mode: u32, entries: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for entry in entries {
            fs::write(dir.path().join(entry), "x").unwrap();
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        dir
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused_unless_it_is_empty() {
        let loose = dir(0o755, &["store"]);
        let refused = private_dir(loose.path()).unwrap_err().to_string();
        assert!(refused.contains("chmod 700"), "{refused}");
        assert_eq!(fs::metadata(loose.path()).unwrap().mode() & 0o777, 0o755, "left as it was");
        let empty = dir(0o755, &[]);
        private_dir(empty.path()).unwrap();
        assert_eq!(fs::metadata(empty.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_symbolic_link_without_a_target_is_named_with_its_target() {
        let folder = dir(0o700, &[]);
        let (link, target) = (folder.path().join("link"), folder.path().join("gone"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let named = format!(
            "{} is a symbolic link to {}, which does not exist",
            link.display(),
            target.display()
        );
        for path in [link.clone(), link.join("data")] {
            let refused = private_dir(&path).unwrap_err().to_string();
            let path = path.display();
            assert_eq!(refused, format!("cannot create the directory {path}: {named}"));
        }
        assert!(!target.exists(), "it may be on a disk that is not mounted");
        fs::create_dir(&target).unwrap();
        private_dir(&link.join("data")).unwrap();
        assert!(target.join("data").is_dir() && DanglingLink::at(&link).is_none());
    }

    #[test]
    fn the_remedy_for_a_directory_of_a_file_names_the_key_of_the_file() {
        let folder = dir(0o700, &["x"]);
        let log = folder.path().join("x/log/audit.jsonl");
        let refused = folder_for("audit.file", &log).unwrap_err();
        let remedy = refused.downcast_ref().and_then(AppError::hint);
        assert_eq!(remedy.as_deref(), Some("choose another place in `audit.file`"));
    }
}
