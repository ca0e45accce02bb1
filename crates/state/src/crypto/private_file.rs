//! Reads files that only their owner may read: master keys, and secrets that the configuration names. The
//! caller interprets their contents.
//!
//! One exception: unless we are root, a file of root may be readable by one of our groups. Kubernetes provides
//! secrets this way to a process with its own user (`fsGroup`).

use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::command;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file does not exist.
    #[error("file {0} does not exist")]
    Missing(PathBuf),
    /// The file cannot be opened or read.
    #[error("file {path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    /// This user may not open it, or a directory above it.
    #[error(
        "file {path} may not be read by user {user}: give it to that user (`chown {user}`), or to a group of that user as a file of root with mode 0640"
    )]
    Forbidden { path: PathBuf, user: u32 },
    /// It is a directory, a pipe or a device.
    #[error("file {0} is not a regular file")]
    NotAFile(PathBuf),
    /// Other users can read it.
    #[error(
        "file {path} has mode {mode:04o}, so others can read it: run `chmod 600` on it (Kubernetes: `defaultMode: 0400`) and consider its content known"
    )]
    Loose { path: PathBuf, mode: u32 },
    /// It belongs to another user.
    #[error(
        "file {path} belongs to user {owner}: it must belong to the user that runs keyward, or to root"
    )]
    ForeignOwner {
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
}

impl FileError {
    /// It cannot be opened.
    fn unopened(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing(path),
            io::ErrorKind::PermissionDenied => {
                Self::Forbidden { path, user: rustix::process::geteuid().as_raw() }
            }
            _ => Self::Unreadable { path, source },
        }
    }
}

/// Ownership and permissions of a file.
struct FileOwner {
    user: u32,
    group: u32,
    mode: u32,
}

/// User and groups of this process.
struct ProcessIds {
    user: u32,
    groups: Vec<u32>,
}

/// Reads the first `bytes_max` bytes of a file of mode 0600 or stricter that belongs to this user or root; a file of
/// root may be 0640 or 0440 for a group of this user.
///
/// # Errors
/// [`FileError`].
pub fn private_file(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_as(&ProcessIds::this_process(), path, bytes_max)
}

/// Like [`private_file`], for a key of the gateway. Root may also read a key that belongs to the owner of its
/// directory, because commands of root work for the gateway's user.
pub(super) fn gateway_file(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_as(&ProcessIds::this_process().for_user_of(path), path, bytes_max)
}

fn read_as(
    reader: &ProcessIds,
    path: &Path,
    bytes_max: usize,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.into(), source };
    // Without O_NONBLOCK, opening a pipe would wait for a writer.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let file = opened.map_err(|source| FileError::unopened(path, source))?;
    // Checks apply to the open file, not to its name, so it cannot be replaced in between.
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(FileError::NotAFile(path.into()));
    }
    FileOwner::of(&about).is_private_to(reader, path)?;
    command::read_bounded(file, bytes_max).map_err(unreadable)
}

/// The permissions of a file by which others than its owner can access it; 0 if it is private. A file of root may be
/// readable for one of our groups.
pub fn open_mode(file: &Metadata) -> u32 {
    FileOwner::of(file).open_mode(&ProcessIds::this_process())
}

impl ProcessIds {
    fn this_process() -> Self {
        // Without the list, the exception for groups does not apply.
        let groups = rustix::process::getgroups().unwrap_or_default();
        let groups = groups.into_iter().chain([rustix::process::getegid()]);
        Self {
            user: rustix::process::geteuid().as_raw(),
            groups: groups.map(rustix::process::Gid::as_raw).collect(),
        }
    }

    /// The ids of the owner of the file's directory, if this process is of root. Without groups, so that the exception
    /// for files of root does not apply.
    fn for_user_of(self, path: &Path) -> Self {
        match fs::metadata(parent(path)) {
            Ok(about) if self.user == 0 => Self { user: about.uid(), groups: Vec::new() },
            _ => self,
        }
    }
}

impl FileOwner {
    fn of(about: &Metadata) -> Self {
        Self { user: about.uid(), group: about.gid(), mode: about.mode() & 0o7777 }
    }

    fn open_mode(&self, reader: &ProcessIds) -> u32 {
        // If we own the file, we must close it to the group. If root owns it, we cannot, and could not read it
        // otherwise.
        let lent = self.user == 0 && reader.user != 0 && reader.groups.contains(&self.group);
        if lent { self.mode & 0o037 } else { self.mode & 0o077 }
    }

    fn is_private_to(&self, reader: &ProcessIds, path: &Path) -> Result<(), FileError> {
        if self.user != 0 && self.user != reader.user {
            return Err(FileError::ForeignOwner { path: path.into(), owner: self.user });
        }
        match self.open_mode(reader) {
            0 => Ok(()),
            _ => Err(FileError::Loose { path: path.into(), mode: self.mode }),
        }
    }
}

/// The directory of the file.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "canary").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601, 0o644, 0o666, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = private_file(&path, 64).unwrap_err();
            assert!(matches!(refused, FileError::Loose { mode: m, .. } if m == mode), "{refused}");
            let said = refused.to_string();
            assert!(said.contains("chmod 600") && !said.contains("canary"), "{said}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(private_file(&path, 4).unwrap().as_slice(), b"cana");
    }

    #[test]
    fn a_group_readable_file_must_belong_to_root_and_to_a_group_of_the_reader() {
        let judged = |user, group, mode, reader: (u32, &[u32])| {
            let reader = ProcessIds { user: reader.0, groups: reader.1.to_vec() };
            FileOwner { user, group, mode }.is_private_to(&reader, Path::new("secret")).is_ok()
        };
        let we: (u32, &[u32]) = (1000, &[1000, 2000]);
        for (user, group, mode, why) in [
            (0, 3000, 0o440, "a group that we are not in"),
            (0, 2000, 0o460, "the group may write"),
            (0, 2000, 0o450, "the group may execute"),
            (0, 2000, 0o444, "everyone may read"),
            (0, 2000, 0o441, "everyone may execute"),
            (1000, 2000, 0o440, "ours: we can close it"),
            (1001, 2000, 0o440, "of another user"),
            (1001, 1001, 0o400, "of another user"),
        ] {
            assert!(!judged(user, group, mode, we), "{why}");
        }
        assert!(!judged(0, 0, 0o440, (0, &[0])), "root's own: it can close it");
        for (user, group, mode) in [(0, 2000, 0o440), (0, 2000, 0o640), (0, 3000, 0o400)] {
            assert!(judged(user, group, mode, we), "{mode:o}");
        }
    }

    #[test]
    fn root_accepts_a_key_file_of_root_or_the_directory_owner_and_of_no_other_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let user = fs::metadata(dir.path()).unwrap().uid();
        let root = ProcessIds { user: 0, groups: vec![0] }.for_user_of(&path);
        let judged =
            |user, mode| FileOwner { user, group: 0, mode }.is_private_to(&root, &path).is_ok();
        assert!(judged(user, 0o600) && judged(0, 0o600));
        assert!(!judged(user + 1, 0o600) && !judged(user, 0o640) && !judged(0, 0o640));
        let other = ProcessIds { user: user + 1, groups: vec![] }.for_user_of(&path);
        assert_eq!(other.user, user + 1, "who is not root reads as before");
    }

    /// As root, no file is forbidden.
    #[test]
    fn a_file_that_this_user_may_not_open_is_reported_with_the_user_and_the_remedy() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let said = FileError::unopened(Path::new("/etc/secret"), source).to_string();
        let user = rustix::process::geteuid().as_raw();
        assert!(said.starts_with(&format!("file /etc/secret may not be read by user {user}: ")));
        assert!(said.contains(&format!("`chown {user}`")), "{said}");
    }

    #[test]
    fn a_missing_file_and_a_directory_are_refused_with_distinct_errors() {
        let dir = tempfile::tempdir().unwrap();
        let absent = private_file(&dir.path().join("nothing"), 64);
        assert!(matches!(absent, Err(FileError::Missing(path)) if path.ends_with("nothing")));
        assert!(matches!(private_file(dir.path(), 64), Err(FileError::NotAFile(_))));
    }
}
