//! [`Blobs`]: sled's files of large items, single rows or whole leaves of more than 128 KiB. sled never syncs them, and
//! its log contains only their numbers.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{Dir, fsync};

/// The folder of the blobs.
#[derive(Debug)]
pub(super) struct Blobs {
    path: PathBuf,
    listed: Mutex<ListedBlobs>,
}

#[derive(Debug)]
struct ListedBlobs {
    /// Kept open, so that a flush needs no new descriptor.
    folder: Dir,
    /// The blobs that were synced, with their lengths. sled writes each once.
    synced: BTreeMap<OsString, u64>,
}

impl Blobs {
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let path = database.join("blobs");
        let folder = Dir::new(File::open(&path)?)?;
        Ok(Self { path, listed: Mutex::new(ListedBlobs { folder, synced: BTreeMap::new() }) })
    }

    /// Makes all blobs durable that were written before.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut listed = self.listed.lock();
        let ListedBlobs { folder, synced } = &mut *listed;
        let (mut found, mut has_new) = (BTreeMap::new(), false);
        folder.rewind();
        for entry in folder.by_ref() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let path = self.path.join(name);
            // The length is read before the sync, so that a blob that is still being written is synced again.
            let about = present(fs::symlink_metadata(&path))?;
            let Some(about) = about.filter(fs::Metadata::is_file) else { continue };
            if synced.get(name) != Some(&about.len()) {
                let Some(file) = present(File::open(&path))? else { continue };
                file.sync_all()?;
                has_new = true;
            }
            found.insert(name.to_owned(), about.len());
        }
        if has_new {
            fsync(folder.fd()?)?;
        }
        *synced = found;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn synced(&self) -> BTreeMap<OsString, u64> {
        self.listed.lock().synced.clone()
    }
}

/// `None`: sled has removed the blob, which no page needs any more.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
