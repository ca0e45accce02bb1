//! Files that commands read and write, and the file of this program.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::failure::{Exit, Failure};
use crate::cli::output;

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

/// The text of a file of at most so many MiB. `what` begins the message if it cannot be read.
pub(crate) fn read_text(path: &Path, mib_max: u64, what: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::failed(what, &error);
    if fs::metadata(path).map_err(failed)?.len() > mib_max * 1024 * 1024 {
        let message = format!("{} is longer than {mib_max} MiB", path.display());
        return Err(Failure::new(Exit::Failed, message));
    }
    fs::read_to_string(path).map_err(failed)
}

/// Certificates are public.
pub(super) const CERTIFICATE_MODE: u32 = 0o644;

/// Where certificates go.
#[derive(Debug, Args)]
pub(crate) struct CertificateOutput {
    /// write to this file, readable by all users, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl CertificateOutput {
    /// Writes `pem` into the file; without one, prints it, or `value` as JSON.
    pub(super) fn give<T: Serialize>(
        &self,
        json: bool,
        value: &T,
        pem: &str,
    ) -> Result<(), Failure> {
        match &self.out {
            None => output::show(json, value, |_| pem.to_owned()),
            Some(file) => replace_file(file, pem.as_bytes(), CERTIFICATE_MODE).map_err(|error| {
                Failure::failed(&format!("cannot write {}", file.display()), &error)
            }),
        }
    }
}

/// What Linux adds to the path of a file that was removed or replaced (proc(5), `/proc/PID/exe`).
const REPLACED: &[u8] = b" (deleted)";

/// The path of this program. After an upgrade, the new file is there.
///
/// # Errors
/// When the system does not say it: on Linux, without `/proc`.
pub(crate) fn own_program() -> Result<PathBuf, Failure> {
    let path = std::env::current_exe().map_err(|error| {
        Failure::failed("cannot find this program's file", &error).hint("mount /proc")
    })?;
    Ok(in_force(path))
}

fn in_force(path: PathBuf) -> PathBuf {
    let replaced = path.as_os_str().as_bytes().strip_suffix(REPLACED);
    match replaced.map(|place| Path::new(OsStr::from_bytes(place)).to_owned()) {
        Some(place) if !path.exists() => place,
        _ => path,
    }
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

    #[test]
    fn the_path_of_a_replaced_program_is_that_of_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, replaced) = (dir.path().join("keyward"), dir.path().join("keyward (deleted)"));
        assert_eq!(in_force(replaced.clone()), plain);
        assert_eq!(in_force(plain.clone()), plain);
        std::fs::write(&replaced, "").unwrap();
        assert_eq!(in_force(replaced.clone()), replaced, "a file of that name");
    }
}
