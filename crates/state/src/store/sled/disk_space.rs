//! [`DiskSpace`]: whether the disk has space for a write. It is checked before sled writes: after a failed write, sled writes
//! nothing more, and if the write was of a blob (`blobs/`, items of more than 128 KiB), it cannot even close its files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Bytes that the disk must have room for beside a value: a segment of sled's log, and a page of usual rows.
const ROOM_BYTES: usize = 2 * 1024 * 1024;

/// A value above this size is likely to become a blob.
const LARGE_BYTES: usize = 64 * 1024;

/// Bytes that are written at once.
const PART_BYTES: usize = 64 * 1024;

/// Tries the disk of a directory.
#[derive(Debug)]
pub(super) struct DiskSpace {
    directory: PathBuf,
    /// Held while the file is there.
    turn: Mutex<()>,
}

impl DiskSpace {
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), turn: Mutex::new(()) }
    }

    /// Before values of so many bytes are written. It writes a file if the system says that the disk is almost full, because
    /// some file systems do not know; and before a large value, which a quota or a limit of this process may refuse.
    ///
    /// # Errors
    /// When they would not fit.
    pub(super) fn before_write(&self, bytes: usize) -> io::Result<()> {
        let wanted = bytes.saturating_add(ROOM_BYTES);
        match (self.is_low(wanted), bytes > LARGE_BYTES) {
            (true, _) => self.written(wanted, |_| Ok(())),
            (false, true) => self.written(bytes, |_| Ok(())),
            (false, false) => Ok(()),
        }
    }

    /// Before the files are opened again. The disk has answered then.
    ///
    /// # Errors
    /// While there is no room.
    pub(super) fn before_opening(&self) -> io::Result<()> {
        self.written(ROOM_BYTES, File::sync_all)
    }

    fn is_low(&self, wanted: usize) -> bool {
        match rustix::fs::statvfs(&*self.directory) {
            // Some file systems in memory have no limit, and say zero.
            Ok(disk) => {
                disk.f_blocks > 0 && disk.f_bavail.saturating_mul(disk.f_frsize) < wanted as u64
            }
            Err(_) => true,
        }
    }

    /// Writes and removes a file of so many bytes.
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

/// Random bytes: zeros take no room where the file system compresses.
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
    fn the_file_that_tries_the_disk_cannot_be_compressed() {
        let mut written = Vec::new();
        fill(&mut written, ROOM_BYTES + 1).unwrap();
        assert_eq!(written.len(), ROOM_BYTES + 1);
        let pages: Vec<_> = written.chunks_exact(4096).collect();
        assert!(pages.iter().all(|page| page.iter().any(|byte| *byte != page[0])));
        assert_eq!(pages.iter().collect::<BTreeSet<_>>().len(), pages.len());
    }

    #[test]
    fn a_large_value_is_tried_a_small_one_is_not_and_no_file_stays() {
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
