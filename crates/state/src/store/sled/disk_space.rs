//! [`DiskSpace`]: whether the disk has space for a write. It is checked before sled writes: after a failed write, sled
//! stops writing, and after a failed write of a blob (`blobs/`, items of more than 128 KiB), it cannot even close its
//! files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Disk space that is needed in addition to a value, in bytes: a segment of sled's log, and a page of rows.
const ROOM_BYTES: usize = 2 * 1024 * 1024;

/// A value above this size is likely to become a blob.
const LARGE_BYTES: usize = 64 * 1024;

/// Bytes that are written at once.
const PART_BYTES: usize = 64 * 1024;

/// Checks the disk space of a directory.
#[derive(Debug)]
pub(super) struct DiskSpace {
    directory: PathBuf,
    /// Held while the test file exists.
    turn: Mutex<()>,
}

impl DiskSpace {
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), turn: Mutex::new(()) }
    }

    /// Called before values of `bytes` bytes are written. Writes a test file if the system reports that the disk is
    /// almost full, because some file systems report it wrongly; and before a large value, because a quota or a limit
    /// of this process may refuse it.
    ///
    /// # Errors
    /// When there is no space for them.
    pub(super) fn before_write(&self, bytes: usize) -> io::Result<()> {
        let wanted = bytes.saturating_add(ROOM_BYTES);
        match (self.is_low(wanted), bytes > LARGE_BYTES) {
            (true, _) => self.written(wanted, |_| Ok(())),
            (false, true) => self.written(bytes, |_| Ok(())),
            (false, false) => Ok(()),
        }
    }

    /// Called before the files are reopened. On success, the disk is responding.
    ///
    /// # Errors
    /// While there is no space.
    pub(super) fn before_opening(&self) -> io::Result<()> {
        self.written(ROOM_BYTES, File::sync_all)
    }

    fn is_low(&self, wanted: usize) -> bool {
        match rustix::fs::statvfs(&*self.directory) {
            // Some file systems in memory have no limit, and report zero.
            Ok(disk) => {
                disk.f_blocks > 0 && disk.f_bavail.saturating_mul(disk.f_frsize) < wanted as u64
            }
            Err(_) => true,
        }
    }

    /// Writes and removes a test file of `bytes` bytes.
    fn written(&self, bytes: usize, end: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let _turn = self.turn.lock();
        let path = self.directory.join("room");
        let written = File::create(&path).and_then(|mut file| {
            fill(&mut file, bytes)?;
            end(&file)
        });
        let removed = fs::remove_file(&path);
        written.and(removed)
    }
}

/// Writes random bytes, because zeros take no space on a file system that compresses.
fn fill(file: &mut impl Write, bytes: usize) -> io::Result<()> {
    let mut part = vec![0; PART_BYTES.min(bytes)];
    let mut left = bytes;
    while left > 0 {
        let next = &mut part[..left.min(PART_BYTES)];
        getrandom::fill(next).map_err(|error| io::Error::other(error.to_string()))?;
        file.write_all(next)?;
        left -= next.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_file_that_tests_the_disk_space_cannot_be_compressed() {
        let mut written = Vec::new();
        fill(&mut written, ROOM_BYTES + 1).unwrap();
        assert_eq!(written.len(), ROOM_BYTES + 1);
        let pages: Vec<_> = written.chunks_exact(4096).collect();
        assert!(pages.iter().all(|page| page.iter().any(|byte| *byte != page[0])));
        assert_eq!(pages.iter().collect::<BTreeSet<_>>().len(), pages.len());
    }

    #[test]
    fn only_a_large_value_tests_the_disk_space_and_the_test_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let space = DiskSpace::of(dir.path());
        space.before_write(LARGE_BYTES + 1).unwrap();
        space.before_opening().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::create_dir(dir.path().join("room")).unwrap();
        assert!(space.before_write(LARGE_BYTES + 1).is_err());
        assert!(space.before_opening().is_err());
        space.before_write(LARGE_BYTES).unwrap();
    }
}
