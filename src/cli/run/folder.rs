//! The files of one run: a private folder in the data directory, removed when the run ends. The next run
//! removes the folder of a run that was killed.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;

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
        let path = all.join(std::process::id().to_string());
        let made = make(&all, &path);
        let alive = made.map_err(|error| {
            Failure::failed(&format!("cannot create the directory {}", path.display()), &error)
        })?;
        Ok(Self { path, _alive: alive })
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

fn make(all: &Path, path: &Path) -> io::Result<File> {
    let private = |path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    private(all)?;
    // One at a time: a new directory is not locked yet, and looks abandoned.
    let turn = private_file(&all.join("lock"))?;
    turn.lock()?;
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if path.is_dir() && is_dead(&path) {
            fs::remove_dir_all(&path)?;
        }
    }
    private(path)?;
    let alive = private_file(&path.join("alive"))?;
    alive.lock()?;
    Ok(alive)
}

/// Private, because any user who can open it could lock it.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn is_dead(folder: &Path) -> bool {
    match File::open(folder.join("alive")) {
        Ok(alive) => !matches!(alive.try_lock(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_dead_go_and_those_of_the_living_stay() {
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
}
