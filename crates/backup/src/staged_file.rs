//! [`StagedFile`]: a file that is written under a temporary name, and renamed when it is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A private file beside its final path, `.NAME.NUMBER`. Removed when dropped, unless it was published.
#[derive(Debug)]
pub struct StagedFile {
    file: File,
    staged: PathBuf,
    place: PathBuf,
    published: bool,
}

impl StagedFile {
    /// Creates the file in the directory of `place`, readable only by its owner. Its name is not that of any other staged
    /// file: gateways in containers, which have the same process id, write to the same folder at the same moment.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written to.
    pub fn create(place: &Path) -> io::Result<Self> {
        let name = place.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let number = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
        let staged = place.with_file_name(format!(".{name}.{number}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
        Ok(Self { file, staged, place: place.to_owned(), published: false })
    }

    /// Renames the file to its final path, durably, and returns its length.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn publish(mut self) -> io::Result<u64> {
        self.file.sync_all()?;
        let bytes = self.file.metadata()?.len();
        fs::rename(&self.staged, &self.place)?;
        self.published = true;
        let folder = self.place.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(bytes)
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.published {
            // The caller reports the error that stopped the write.
            let _ = fs::remove_file(&self.staged);
        }
    }
}
