//! [`replace_file`]: files that commands write.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces a file atomically: programs may be reading the old one. It gets this mode whatever the umask is.
pub(crate) fn replace_file(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    replace_with(file, content, |to| to.set_permissions(Permissions::from_mode(mode)))
}

/// The same with the mode and the owner of `like`.
pub(crate) fn replace_file_like(file: &Path, content: &[u8], like: &Metadata) -> io::Result<()> {
    replace_with(file, content, |to| {
        chown_like(to, like)?;
        to.set_permissions(Permissions::from_mode(like.mode() & 0o777))
    })
}

/// Gives an open file to the owner of another one, where root writes files of others.
pub(crate) fn chown_like(to: impl AsFd, like: &Metadata) -> io::Result<()> {
    match rustix::process::geteuid().is_root() {
        true => std::os::unix::fs::fchown(to, Some(like.uid()), Some(like.gid())),
        false => Ok(()),
    }
}

fn replace_with(
    file: &Path,
    content: &[u8],
    finish: impl Fn(&File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let staged = folder.unwrap_or(Path::new(".")).join(format!(".{name}.{}", std::process::id()));
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    let mut write = || {
        to.write_all(content)?;
        finish(&to)?;
        to.sync_all()?;
        fs::rename(&staged, file)
    };
    let written = write();
    if written.is_err() {
        // A failure to remove the temporary file is less important than the first error.
        drop(fs::remove_file(&staged));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_replacement_keeps_the_old_file_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old.pem");
        fs::write(&old, "old").unwrap();
        let full = |_: &File| Err(io::Error::other("the disk is full"));
        assert!(replace_with(&old, b"new", full).is_err());
        assert_eq!(fs::read(&old).unwrap(), b"old");
        assert!(replace_file(&dir.path().join("none/ca.pem"), b"new", 0o644).is_err());
        assert!(replace_file(Path::new("/"), b"new", 0o644).is_err());
        fs::create_dir(dir.path().join("ca.pem")).unwrap();
        assert!(replace_file(&dir.path().join("ca.pem"), b"new", 0o644).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the file and the folder");
    }

    #[test]
    fn root_keeps_the_owner_and_mode_of_a_file_that_it_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        if std::os::unix::fs::chown(&file, Some(65_534), Some(65_534)).is_err() {
            // Only root can give a file away.
            return;
        }
        replace_file_like(&file, b"new", &fs::metadata(&file).unwrap()).unwrap();
        let now = fs::metadata(&file).unwrap();
        assert_eq!((now.uid(), now.gid(), now.mode() & 0o777), (65_534, 65_534, 0o640));
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_file_is_replaced_whole_and_with_its_new_mode() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        fs::write(&file, "something longer").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        replace_file(&file, b"new", 0o644).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
