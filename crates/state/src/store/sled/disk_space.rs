//! [`DiskSpace`]: whether the disk has space for a write. It is checked before sled writes: after a failed write, sled
//! stops writing, and after a failed write of a blob (`blobs/`, items of more than 128 KiB), it cannot even close its
//! files. A reserve is kept for the answers of authorization servers, which cannot be asked for twice.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Disk space that is needed in addition to a value, in bytes: a segment of sled's log, and a page of rows.
const ROOM_BYTES: usize = 2 * 1024 * 1024;

/// A value above this size is likely to become a blob.
const LARGE_BYTES: usize = 64 * 1024;

/// The size of the file that is removed when an answer finds no space: room for some hundreds of them.
const RESERVE_BYTES: usize = 2 * ROOM_BYTES;

/// Bytes that are written at once.
const PART_BYTES: usize = 64 * 1024;

/// Checks the disk space of a directory.
#[derive(Debug)]
pub(super) struct DiskSpace {
    directory: PathBuf,
    /// Held while the test file exists.
    turn: Mutex<()>,
    /// Whether the reserve is known to be there.
    has_reserve: AtomicBool,
}

impl DiskSpace {
    pub(super) fn of(directory: &Path) -> Self {
        let has_reserve = AtomicBool::new(false);
        Self { directory: directory.to_owned(), turn: Mutex::new(()), has_reserve }
    }

    /// Called before values of `bytes` bytes are written. Only answers may use the reserve.
    ///
    /// # Errors
    /// When there is no space for them.
    pub(super) fn before_write(&self, bytes: usize, is_answer: bool) -> io::Result<()> {
        if !is_answer {
            self.keep_reserve()?;
            return self.check(bytes);
        }
        self.check(bytes).or_else(|error| {
            self.has_reserve.store(false, Ordering::Relaxed);
            fs::remove_file(self.reserve()).map_err(|_| error)?;
            tracing::warn!("the disk of the store is full: its reserve is used for a token");
            self.check(bytes)
        })
    }

    fn reserve(&self) -> PathBuf {
        self.directory.join("reserve")
    }

    /// Makes the reserve, if it is not there. Without it, nothing but answers is written.
    fn keep_reserve(&self) -> io::Result<()> {
        if self.has_reserve.load(Ordering::Relaxed) {
            return Ok(());
        }
        let path = self.reserve();
        let _turn = self.turn.lock();
        if !fs::metadata(&path).is_ok_and(|file| file.len() == RESERVE_BYTES as u64) {
            let made = File::create(&path).and_then(|mut file| fill(&mut file, RESERVE_BYTES));
            if let Err(error) = made {
                drop(fs::remove_file(&path));
                let is_full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
                // A limit of this process, such as one of the size of files, may refuse the reserve alone.
                return if is_full.contains(&error.kind()) { Err(error) } else { Ok(()) };
            }
        }
        self.has_reserve.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there is space for values of `bytes` bytes. Writes a test file if the system reports that the disk is
    /// almost full, because some file systems report it wrongly; and before a large value, because a quota or a limit
    /// of this process may refuse it.
    ///
    /// # Errors
    /// When there is no space for them.
    fn check(&self, bytes: usize) -> io::Result<()> {
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
        space.check(LARGE_BYTES + 1).unwrap();
        space.before_opening().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::create_dir(dir.path().join("room")).unwrap();
        assert!(space.check(LARGE_BYTES + 1).is_err());
        assert!(space.before_opening().is_err());
        space.check(LARGE_BYTES).unwrap();
    }

    #[test]
    fn an_answer_may_use_the_reserve_without_which_nothing_else_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (space, reserve) = (DiskSpace::of(dir.path()), dir.path().join("reserve"));
        let full = || std::os::unix::fs::symlink("/dev/full", &reserve).unwrap();
        full();
        let refused = space.before_write(1, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        full();
        space.before_write(1, true).unwrap();
        fs::remove_file(&reserve).unwrap();
        space.before_write(1, false).unwrap();
        assert_eq!(fs::metadata(&reserve).unwrap().len(), RESERVE_BYTES as u64);
        // The test file cannot be made.
        fs::create_dir(dir.path().join("room")).unwrap();
        assert!(space.before_write(LARGE_BYTES + 1, false).is_err());
        assert!(reserve.exists());
        assert!(space.before_write(LARGE_BYTES + 1, true).is_err());
        assert!(!reserve.exists(), "it was released");
        space.before_write(1, false).unwrap();
        assert!(reserve.exists());
    }
}
