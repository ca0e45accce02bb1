//! The store's directory: private, and owned by one process at a time, whose id is in the file `pid`. The lock is on
//! that file and ends with the process, so a stale id blocks no other process. Files that commands of root create in
//! the directory of the gateway's user get its owner, who must be able to open them.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::disk_space::DiskSpace;
use crate::store::StoreError;

/// How long to wait for the lock of a process that is exiting. It is short, so that a real conflict is reported soon.
const LOCK_PATIENCE: Duration = Duration::from_millis(400);
/// How long to wait for sled's own lock, which its threads hold until their last flush.
const SLED_PATIENCE: Duration = Duration::from_millis(1_200);
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// An owned directory; released when dropped.
#[derive(Debug)]
pub(super) struct StoreDirectory {
    path: PathBuf,
    disk_space: DiskSpace,
    _lock: File,
}

impl StoreDirectory {
    /// Creates the directory if absent, checks that it is private, and locks it.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let action = "make its directory";
        let is_new = !path.exists();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| StoreError::Io { action, source })?;
        if let (true, Some(folder)) = (is_new, path.parent()) {
            let given = chown_tree_to_owner_of(folder, path);
            given.map_err(|source| StoreError::Io { action, source })?;
        }
        let about = fs::metadata(path).map_err(|source| StoreError::Io { action, source })?;
        let mode = about.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Exposed { path: path.into(), mode });
        }
        let _lock = lock(path)?;
        let directory = Self { path: path.into(), disk_space: DiskSpace::of(path), _lock };
        // A killed command of root may have left files of root.
        directory.give_to_owner();
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the disk has space.
    pub(super) fn disk_space(&self) -> &DiskSpace {
        &self.disk_space
    }

    /// sled's directory inside it.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("sled")
    }

    /// Opens sled; waits for threads of an earlier handle in this process.
    pub(super) fn open(&self, config: &sled::Config) -> Result<sled::Db, StoreError> {
        let deadline = Instant::now() + SLED_PATIENCE;
        loop {
            match config.open() {
                Ok(db) => return Ok(db),
                Err(error) if !is_lock(&error) => return Err(self.refuse("open its files", error)),
                Err(_) if Instant::now() > deadline => {
                    return Err(StoreError::Locked { pid: None });
                }
                Err(_) => std::thread::sleep(RETRY_EVERY),
            }
        }
    }

    /// Converts sled's error.
    pub(super) fn refuse(&self, action: &'static str, error: sled::Error) -> StoreError {
        match error {
            sled::Error::Io(source) => {
                StoreError::Io { action, source: explained(&self.path, source) }
            }
            sled::Error::Corruption { .. } => self.damaged("a checksum does not match"),
            other => StoreError::Damaged { path: self.path.clone(), what: other.to_string() },
        }
    }

    /// Gives the files of root to the owner of the directory, whose gateway could not open it otherwise.
    fn give_to_owner(&self) {
        if let Err(error) = chown_tree_to_owner_of(&self.path, &self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            let store = self.path.display();
            tracing::warn!(%store, %error, "files of root stay in the store: run `chown -R` on it");
        }
    }

    /// An error for damage that this module detected.
    pub(super) fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }
}

impl Drop for StoreDirectory {
    fn drop(&mut self) {
        self.give_to_owner();
    }
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("pid");
    let failed = |source| StoreError::Io {
        action: "lock its directory",
        source: explained(directory, source),
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            // A restore replaces the directory while it holds the lock, so this may be the lock of the old directory.
            Ok(()) if is_at(&file, &path).map_err(failed)? => {
                write_pid(&mut file).map_err(failed)?;
                return Ok(file);
            }
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(StoreError::Locked { pid: read_pid(&mut file) });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(RETRY_EVERY),
        }
    }
}

/// Whether this open file is the one with that path.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The id is only informative, so it need not be durable.
fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// sled has no error kind for this.
fn is_lock(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(source) if source.to_string().contains("acquire lock"))
}

/// The new owner of files.
struct NewOwner {
    user: u32,
    group: u32,
}

/// Makes the owner of `folder` the owner of `made` and all files below it that belong to root. Does nothing if this
/// process is not of root, or if the folder belongs to root.
///
/// # Errors
/// When a file cannot be read or changed.
pub fn chown_tree_to_owner_of(folder: &Path, made: &Path) -> io::Result<()> {
    give(folder, made, NewOwner::take)
}

/// The same for `made` only, such as a directory whose folders stay with root.
///
/// # Errors
/// When it cannot be read or changed.
pub fn chown_to_owner_of(folder: &Path, made: &Path) -> io::Result<()> {
    give(folder, made, NewOwner::take_alone)
}

fn give(
    folder: &Path,
    made: &Path,
    take: fn(&NewOwner, &File) -> io::Result<()>,
) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let is_here = folder.as_os_str().is_empty();
    let about = fs::metadata(if is_here { Path::new(".") } else { folder })?;
    if about.uid() == 0 {
        return Ok(());
    }
    let owner = NewOwner { user: about.uid(), group: about.gid() };
    opened(CWD, made)?.map_or(Ok(()), |made| take(&owner, &made))
}

impl NewOwner {
    fn take(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.is_dir() {
            for entry in Dir::read_from(file)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                if let Some(inner) = opened(file, name)? {
                    self.take(&inner)?;
                }
            }
        }
        self.take_alone(file)
    }

    /// Skips a file with several hard links: the user could have linked a file of another user.
    fn take_alone(&self, file: &File) -> io::Result<()> {
        let about = file.metadata()?;
        if about.uid() == 0 && (about.is_dir() || about.nlink() == 1) {
            fchown(file, Some(self.user), Some(self.group))?;
        }
        Ok(())
    }
}

/// Opens a file; `None` if there is none, or it is a link or a socket.
fn opened(folder: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Option<File>> {
    // Without NONBLOCK, opening a pipe would wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Adds a file of another user and the remedy to a permission error: a killed command of root leaves such files.
pub(super) fn explained(directory: &Path, source: io::Error) -> io::Error {
    let own = geteuid();
    if source.kind() != io::ErrorKind::PermissionDenied || own.is_root() {
        return source;
    }
    let Some((file, user)) = foreign(directory, own.as_raw()) else { return source };
    let above = directory.parent().unwrap_or(directory).display();
    let (file, directory) = (file.display(), directory.display());
    let text = format!(
        "{file} belongs to user {user}: run `chown -R --reference={above} {directory}` as root"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// A file in this directory, or the directory itself, whose owner is not `own`; and its owner.
fn foreign(path: &Path, own: u32) -> Option<(PathBuf, u32)> {
    let about = fs::symlink_metadata(path).ok()?;
    if about.uid() != own {
        return Some((path.to_owned(), about.uid()));
    }
    if !about.is_dir() {
        return None;
    }
    fs::read_dir(path).ok()?.flatten().find_map(|entry| foreign(&entry.path(), own))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    const NOBODY: u32 = 65_534;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    /// The owner of the folder could have created such links to files of root.
    #[test]
    fn chown_of_a_tree_skips_hard_links_and_targets_of_symbolic_links() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
        fs::create_dir_all(theirs.join("inner")).unwrap();
        fs::create_dir(&ours).unwrap();
        for file in [ours.join("linked"), ours.join("file"), theirs.join("inner/made")] {
            fs::write(file, "").unwrap();
        }
        fs::hard_link(ours.join("linked"), theirs.join("second")).unwrap();
        symlink(&ours, theirs.join("link")).unwrap();
        chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
        chown_tree_to_owner_of(&theirs, &theirs).unwrap();
        assert_eq!(owner(&theirs.join("inner")), NOBODY);
        assert_eq!(owner(&theirs.join("inner/made")), NOBODY);
        for file in ["", "linked", "file"] {
            assert_eq!(owner(&ours.join(file)), 0, "{file}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let own = owner(dir.path());
        assert_eq!(foreign(dir.path(), own), None);
        assert_eq!(foreign(dir.path(), own + 1), Some((dir.path().to_owned(), own)));
        if geteuid().is_root() {
            chown(dir.path().join("file"), Some(NOBODY), None).unwrap();
            let file = dir.path().join("file");
            assert_eq!(foreign(dir.path(), own), Some((file, NOBODY)));
        }
    }
}
