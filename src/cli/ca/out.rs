//! `--out FILE`: writes certificates to a file, for containers without a shell that could redirect output.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::output;

/// Where certificates go.
#[derive(Debug, Args)]
pub(crate) struct To {
    /// write to this file, readable by all users, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl To {
    /// Writes `pem` into the file; without one, prints it, or `value` as JSON.
    pub(super) fn give<T: Serialize>(
        &self,
        json: bool,
        value: &T,
        pem: &str,
    ) -> Result<(), Failure> {
        match &self.out {
            None => output::show(json, value, |_| pem.to_owned()),
            Some(file) => replace(file, pem.as_bytes()).map_err(|error| {
                Failure::failed(&format!("cannot write {}", file.display()), &error)
            }),
        }
    }
}

/// Replaces a file atomically: clients may be reading the old one.
pub(super) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let staged = folder.unwrap_or(Path::new(".")).join(format!(".{name}.{}", std::process::id()));
    let mut to = OpenOptions::new().write(true).create_new(true).open(&staged)?;
    let mut write = || {
        to.write_all(content)?;
        // With this mode whatever the umask is: certificates are public.
        to.set_permissions(Permissions::from_mode(0o644))?;
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
    fn what_cannot_be_written_leaves_the_old_file_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(replace(&dir.path().join("none/ca.pem"), b"new").is_err());
        assert!(replace(Path::new("/"), b"new").is_err());
        fs::create_dir(dir.path().join("ca.pem")).unwrap();
        assert!(replace(&dir.path().join("ca.pem"), b"new").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_whole_and_for_everyone_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        fs::write(&file, "something longer").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        replace(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
