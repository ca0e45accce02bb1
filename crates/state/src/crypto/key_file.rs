//! Creates and replaces Keyward's own key file. A rotation writes it twice: first with the new and the old key, later
//! with the new key alone. A crash at any time leaves a complete file. [`KeyError`]: why a master key cannot be loaded,
//! created or replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::command::CommandError;
use super::private_file::{FileError, parent};
use keyward_envelope::{KEY_LEN, random};

/// Prefix of temporary files. A temporary file that a crash left contains keys.
const DRAFT: &str = ".master-key-";

/// Length of a key in hex with its line end.
const LINE_LEN: usize = 2 * KEY_LEN + 1;

/// Creates the file; root creates it for the owner of its directory. It uses `link` instead of `rename`, which
/// would overwrite a key that another process has just made.
pub(super) fn create(path: &Path, key: &Zeroizing<[u8; KEY_LEN]>) -> Result<(), KeyError> {
    let draft = draft_beside(path);
    let written = write_draft(&draft, &hex_lines(std::iter::once(key)), owner_for_root(path));
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    // The temporary file is removed in any case. If that fails, a second copy of an unused key remains, and the
    // first error is reported.
    let removed = fs::remove_file(&draft);
    let done = linked.and(removed).and_then(|()| sync(parent(path)));
    done.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.into()),
        _ => KeyError::Unwritable { path: path.into(), source },
    })
}

/// Replaces the keys in the file durably. The old contents are overwritten as far as the file system allows.
pub(super) fn replace<'a>(
    path: &Path,
    keys: impl Iterator<Item = &'a Zeroizing<[u8; KEY_LEN]>>,
) -> Result<(), KeyError> {
    let unwritable = |source| KeyError::Unwritable { path: path.into(), source };
    let about = fs::symlink_metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeyError::Removed(path.into()),
        _ => unwritable(source),
    })?;
    if about.is_symlink() {
        return Err(KeyError::Link(path.into()));
    }
    let replace = || {
        remove_drafts(path)?;
        let draft = draft_beside(path);
        write_draft(&draft, &hex_lines(keys), Some((about.uid(), about.gid())))?;
        let old = open_to_wipe(path)?;
        fs::rename(&draft, path)?;
        sync(parent(path))?;
        old.map_or(Ok(()), |old| wipe(old, about.len()))
    };
    replace().map_err(unwritable)
}

/// Removes temporary files that a crash left. Call it only while holding the store's lock, because another
/// process may be creating the file.
///
/// # Errors
/// When the directory cannot be read, or a temporary file cannot be removed.
pub fn clean(path: &Path) -> Result<(), KeyError> {
    remove_drafts(path).map_err(|source| KeyError::Unwritable { path: path.into(), source })
}

fn remove_drafts(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent(path))? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(DRAFT.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn draft_beside(path: &Path) -> PathBuf {
    let suffix = u64::from_be_bytes(*random());
    parent(path).join(format!("{DRAFT}{suffix:016x}"))
}

/// The owner of the file's directory, if this process is of root and that user is another one.
fn owner_for_root(path: &Path) -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let about = fs::metadata(parent(path)).ok().filter(|about| about.uid() != 0)?;
    Some((about.uid(), about.gid()))
}

/// Writes with the owner of the replaced file, so that root can do this for the gateway's user.
fn write_draft(draft: &Path, text: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    let about = file.metadata()?;
    if let Some((user, group)) = owner.filter(|owner| *owner != (about.uid(), about.gid())) {
        fchown(&file, Some(user), Some(group))?;
    }
    file.write_all(text)?;
    file.sync_all()
}

/// Opens the file for wiping, unless it is write-protected or has a second hard link.
fn open_to_wipe(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) if file.metadata()?.nlink() == 1 => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

fn wipe(mut file: File, len: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), len), &mut file)?;
    file.sync_all()
}

fn hex_lines<'a>(keys: impl Iterator<Item = &'a Zeroizing<[u8; KEY_LEN]>>) -> Zeroizing<Vec<u8>> {
    let keys: Vec<_> = keys.collect();
    // Allocated with its full length, because growing would leave copies.
    let mut text = Zeroizing::new(vec![b'\n'; keys.len() * LINE_LEN]);
    for (key, line) in keys.iter().zip(text.chunks_exact_mut(LINE_LEN)) {
        HEXLOWER.encode_mut(key.as_slice(), &mut line[..2 * KEY_LEN]);
    }
    text
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Why a master key could not be loaded. The message names the source and never quotes its contents.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The list of sources is empty.
    #[error("no master key is named: set `master_key: {{ file: master.key }}`")]
    NoSource,
    /// The file does not exist.
    #[error(
        "master key file {0} does not exist: restore it from your backup of keys, or check `master_key` (its paths are relative to the data directory)"
    )]
    Missing(PathBuf),
    /// The file was not read for another reason.
    #[error("master key {0}")]
    File(#[source] FileError),
    /// The text is not a key.
    #[error("{0} holds no master key: expected 64 hex digits or 44 base64 characters")]
    Malformed(String),
    /// One repeated byte, which is not a real key.
    #[error(
        "{0} holds a master key that is one byte repeated: make a random one, such as by `openssl rand -hex 32`"
    )]
    Weak(String),
    /// The variable is not set.
    #[error(
        "environment variable {0} is not set: put the master key of the store there, or for a new store 64 random hex digits (`openssl rand -hex 32`)"
    )]
    EnvMissing(String),
    /// The command failed or printed nothing.
    #[error("master key {0}")]
    Command(#[from] CommandError),
    /// The file exists and would be overwritten.
    #[error(
        "master key file {0} exists already and is not overwritten: what it sealed would be lost"
    )]
    Exists(PathBuf),
    /// The new file cannot be written.
    #[error("master key file {path} cannot be written: {source}")]
    Unwritable { path: PathBuf, source: io::Error },
    /// The file of a key in use is not there any more.
    #[error(
        "master key file {0} was removed: put it back, or make a backup with `keyward backup FILE` before the gateway stops, and restore it"
    )]
    Removed(PathBuf),
    /// The file is a symbolic link; replacing it would leave the key at the link's target.
    #[error(
        "master key file {0} is a symbolic link: put the file itself there, or name it in `master_key`"
    )]
    Link(PathBuf),
}

impl From<FileError> for KeyError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Missing(path) => Self::Missing(path),
            error => Self::File(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn keys() -> [Zeroizing<[u8; KEY_LEN]>; 2] {
        [random(), random()]
    }

    #[test]
    fn a_link_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (real, path) = (dir.path().join("real"), dir.path().join("master.key"));
        let [old, new] = keys();
        create(&real, &old).unwrap();
        symlink(&real, &path).unwrap();
        let refused = replace(&path, [&new].into_iter()).unwrap_err();
        assert!(matches!(refused, KeyError::Link(_)), "{refused}");
        assert_eq!(fs::read(&real).unwrap(), *hex_lines([&old].into_iter()));
    }

    #[test]
    fn a_replaced_file_is_complete_and_private_and_its_old_content_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let [old, new] = keys();
        create(&path, &old).unwrap();
        let before = File::open(&path).unwrap();
        let left = dir.path().join(".master-key-0123456789abcdef");
        fs::write(&left, "a draft that a crash left").unwrap();
        replace(&path, [&new, &old].into_iter()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), *hex_lines([&new, &old].into_iter()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["master.key"]);
        let text = io::read_to_string(before).unwrap();
        assert_eq!(text, "\0".repeat(2 * KEY_LEN + 1));
    }

    #[test]
    fn a_hard_link_keeps_its_content_and_a_write_protected_key_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, second) = (dir.path().join("master.key"), dir.path().join("kept"));
        let [old, new] = keys();
        create(&path, &old).unwrap();
        fs::hard_link(&path, &second).unwrap();
        replace(&path, [&new].into_iter()).unwrap();
        assert_eq!(fs::read(&second).unwrap(), *hex_lines([&old].into_iter()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        replace(&path, [&old].into_iter()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), *hex_lines([&old].into_iter()));
    }

    #[test]
    fn a_removed_file_is_not_made_again_and_its_error_has_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let [_, new] = keys();
        let refused = replace(&path, [&new].into_iter()).unwrap_err();
        assert!(matches!(refused, KeyError::Removed(_)), "{refused}");
        assert!(refused.to_string().contains("put it back"), "{refused}");
        assert!(!path.exists());
    }
}
