//! The files of one run: a private folder in the data directory, removed when the run ends. The next run
//! removes the folder of a run that was killed.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::cli::failure::Failure;
use keyward_state::store::sled::chown_to_owner_of;

/// The parent directory, in the data directory.
const FOLDERS: &str = "run";

/// A directory that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// A lock that shows that the run lives; the kernel releases it however the run ends. `None` once the
    /// directory is removed.
    _alive: File,
}

impl Folder {
    /// Creates a directory, and removes those of killed runs.
    pub(crate) fn make(data: &Path) -> Result<Self, Failure> {
        let all = data.join(FOLDERS);
        make(&all).map_err(|error| {
            let what = format!("cannot create a directory in {}", all.display());
            Failure::in_data_directory(&what, data, &error)
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the files of the run are left");
        }
    }
}

fn make(all: &Path) -> io::Result<Folder> {
    let private = |path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    private(all)?;
    if fs::symlink_metadata(all)?.is_symlink() {
        return Err(io::Error::other("it is a link"));
    }
    // One at a time: a new directory is not locked yet, and looks abandoned.
    let lock = all.join("lock");
    let turn = private_file(&lock)?;
    turn.lock()?;
    let data = all.parent().unwrap_or(Path::new("/"));
    for made in [all, &lock] {
        give(data, made);
    }
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if path.is_dir() && is_dead(&path) {
            fs::remove_dir_all(&path)?;
        }
    }
    let path = free_path(all);
    private(path.as_path())?;
    let alive = private_file(&path.join("alive"))?;
    alive.lock()?;
    Ok(Folder { path, _alive: alive })
}

/// The process id, or that with a number: runs in several containers may share a data directory and have the same id.
fn free_path(all: &Path) -> PathBuf {
    let id = std::process::id();
    let (mut path, mut number) = (all.join(id.to_string()), 1);
    while path.exists() {
        number += 1;
        path = all.join(format!("{id}-{number}"));
    }
    path
}

/// Gives a file that root made in the data directory to its owner, whose own runs need it. The folders of root's runs stay
/// of root: they have files with its secrets.
pub(super) fn give(data: &Path, made: &Path) {
    if let Err(error) = chown_to_owner_of(data, made) {
        tracing::warn!(%error, path = %made.display(), "cannot change the owner to that of the data directory");
    }
}

/// Private, because any user who can open it could lock it. No link is followed: in the data directory of another user, it
/// leads root to any file.
fn private_file(path: &Path) -> io::Result<File> {
    not_through_a_link(OpenOptions::new().write(true).create(true).truncate(false)).open(path)
}

/// Options for a private file in a directory that another user may own.
pub(super) fn not_through_a_link(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
}

fn is_dead(folder: &Path) -> bool {
    match File::open(folder.join("alive")) {
        Ok(alive) => !matches!(alive.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    use super::*;

    #[test]
    fn folders_of_ended_runs_are_removed_and_those_of_live_runs_stay() {
        let data = tempfile::tempdir().unwrap();
        let all = data.path().join(FOLDERS);
        for name in ["dead", "living"] {
            fs::create_dir_all(all.join(name)).unwrap();
            File::create(all.join(name).join("alive")).unwrap();
        }
        let living = File::open(all.join("living/alive")).unwrap();
        living.lock().unwrap();
        let folder = Folder::make(data.path()).unwrap();
        assert!(!all.join("dead").exists() && all.join("living").exists());
        let path = folder.path().to_owned();
        assert!(path.exists());
        drop(folder);
        assert!(!path.exists() && all.join("living").exists());
    }

    /// `sudo keyward run` may be the first.
    #[test]
    fn the_owner_of_the_data_directory_can_run_after_root() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let data = tempfile::tempdir().unwrap();
        chown(data.path(), Some(65_534), Some(65_534)).unwrap();
        let _folder = Folder::make(data.path()).unwrap();
        let all = data.path().join(FOLDERS);
        for path in [all.join("lock"), all] {
            assert_eq!(fs::metadata(&path).unwrap().uid(), 65_534, "{}", path.display());
        }
    }

    /// They have files with root's secrets.
    #[test]
    fn the_folder_of_a_run_by_root_belongs_to_root() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let data = tempfile::tempdir().unwrap();
        chown(data.path(), Some(65_534), Some(65_534)).unwrap();
        let living = Folder::make(data.path()).unwrap();
        let _next = Folder::make(data.path()).unwrap();
        for path in [living.path().to_owned(), living.path().join("alive")] {
            assert_eq!(fs::metadata(&path).unwrap().uid(), 0, "{}", path.display());
        }
    }

    #[test]
    fn links_are_not_followed() {
        let data = tempfile::tempdir().unwrap();
        let (all, other) = (data.path().join(FOLDERS), data.path().join("other"));
        fs::create_dir_all(other.join("inner")).unwrap();
        symlink(&other, &all).unwrap();
        Folder::make(data.path()).unwrap_err();
        assert!(other.join("inner").exists() && !other.join("lock").exists());
        fs::remove_file(&all).unwrap();
        fs::create_dir(&all).unwrap();
        fs::write(other.join("file"), "kept").unwrap();
        symlink(other.join("file"), all.join("lock")).unwrap();
        Folder::make(data.path()).unwrap_err();
        assert_eq!(fs::read(other.join("file")).unwrap(), b"kept");
    }

    #[test]
    fn a_run_with_the_process_id_of_a_live_run_has_its_own_folder() {
        let data = tempfile::tempdir().unwrap();
        let other = data.path().join(FOLDERS).join(std::process::id().to_string());
        fs::create_dir_all(&other).unwrap();
        let living = File::create(other.join("alive")).unwrap();
        living.lock().unwrap();
        let (first, second) =
            (Folder::make(data.path()).unwrap(), Folder::make(data.path()).unwrap());
        let paths = [other.as_path(), first.path(), second.path()];
        assert!(paths.iter().all(|path| path.join("alive").exists()), "{paths:?}");
        assert!(paths[0] != paths[1] && paths[1] != paths[2] && paths[0] != paths[2], "{paths:?}");
        drop((first, second));
        assert!(other.exists());
    }
}
