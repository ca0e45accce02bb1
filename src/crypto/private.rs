//! Files that only their owner may read: master keys, and secrets that the configuration names. What
//! their bytes mean is for `source.rs` and the configuration to say.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::command;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No such file.
    #[error("file {0} does not exist")]
    Missing(PathBuf),
    /// The file cannot be opened or read.
    #[error("file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("file {0} is not a regular file")]
    NotAFile(PathBuf),
    /// Others can read it.
    #[error(
        "file {path} has mode {mode:04o}, so others can read it: run `chmod 600` on it (Kubernetes: `defaultMode: 0400`) and consider its content known"
    )]
    Loose {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Neither this user's nor root's.
    #[error(
        "file {path} belongs to user {owner}: it must belong to the user that runs keyward, or to root"
    )]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
}

/// The first `bytes_max` bytes of a file of mode 0600 or stricter, that is this user's or root's.
///
/// # Errors
/// [`FileError`].
pub fn private_file(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.into(), source };
    // Without O_NONBLOCK, opening a pipe would wait for a writer.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.into()),
        _ => unreadable(source),
    })?;
    // Checks are made on the open file, not on its name: nobody can swap it in between.
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(FileError::NotAFile(path.into()));
    }
    let owner = about.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(FileError::ForeignOwner { path: path.into(), owner });
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Loose { path: path.into(), mode });
    }
    command::read_bounded(file, bytes_max).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::fs;
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
    fn a_missing_file_and_a_directory_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let absent = private_file(&dir.path().join("nothing"), 64);
        assert!(matches!(absent, Err(FileError::Missing(path)) if path.ends_with("nothing")));
        assert!(matches!(private_file(dir.path(), 64), Err(FileError::NotAFile(_))));
    }
}
