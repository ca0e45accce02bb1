//! [`Trail`]: the files of an audit log in order. The active file has the configured name; for full files, the
//! number of the first record is appended. `sink.rs` writes; `query.rs`, `follow.rs` and `verify.rs` read.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Digits of the number in a full file's name, so that names sort in order.
const DIGITS: usize = 12;

/// When a file is full, and how many files are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rotation {
    /// Size limit: a file that would exceed it is closed, and a new one is started.
    pub file_bytes_max: u64,
    /// Maximum number of files, including the active one; the oldest are removed.
    pub files_max: usize,
}

/// The location of an audit log; cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trail {
    active: PathBuf,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct FullFile {
    /// The number of its first record.
    pub(super) first: u64,
    pub(super) path: PathBuf,
}

impl Default for Rotation {
    /// 4 GiB in total: about ten million records. A busy agent makes a few thousand per day.
    fn default() -> Self {
        Self { file_bytes_max: 64 * 1024 * 1024, files_max: 64 }
    }
}

impl Trail {
    /// The log with the active file `path`. A symbolic link is resolved: full files are next to its target.
    pub fn at(path: &Path) -> Self {
        Self { active: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()) }
    }

    /// The active file.
    pub fn active(&self) -> &Path {
        &self.active
    }

    /// The name of the active file once it is full.
    pub(super) fn full_path(&self, first: u64) -> PathBuf {
        let mut name = self.name();
        name.push(format!(".{first:0DIGITS$}"));
        self.active.with_file_name(name)
    }

    /// The full files, oldest first; empty if the directory does not exist.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn full(&self) -> io::Result<Vec<FullFile>> {
        let entries = match fs::read_dir(self.folder()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            found.extend(self.number(&path).map(|first| FullFile { first, path }));
        }
        found.sort_by_key(|full| full.first);
        Ok(found)
    }

    /// Opens the active file; `None` if it does not exist, as during a rotation, or is a device or pipe, which
    /// must not be read.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open_active(&self) -> io::Result<Option<File>> {
        match found(fs::metadata(&self.active))? {
            Some(metadata) if metadata.is_file() => found(File::open(&self.active)),
            _ => Ok(None),
        }
    }

    /// Whether `file` is the active one. Other files get no more records.
    pub(super) fn is_active(&self, file: &File) -> io::Result<bool> {
        let now = found(fs::metadata(&self.active))?;
        let own = file.metadata()?;
        Ok(now.is_some_and(|now| (now.dev(), now.ino()) == (own.dev(), own.ino())))
    }

    /// Syncs the directory, so that new files persist.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        File::open(self.folder())?.sync_all()
    }

    /// The directory of the files.
    pub(super) fn folder(&self) -> &Path {
        match self.active.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn name(&self) -> OsString {
        self.active.file_name().map(OsString::from).unwrap_or_default()
    }

    fn number(&self, path: &Path) -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        let digits = name.strip_prefix(self.name().to_str()?)?.strip_prefix('.')?;
        let is_number = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok())?
    }
}

/// Converts the error "not found" to `None`.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the active file, and creates it if it does not exist.
pub(super) fn create(trail: &Trail) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).open(trail.active())
}

/// Creates the active file, with its folder, after they were moved or deleted. Root gives them to the owner of `old`.
pub(super) fn create_again(trail: &Trail, old: &File) -> io::Result<File> {
    let old = old.metadata()?;
    let is_given = geteuid().is_root() && old.uid() != 0;
    let folder = trail.folder();
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) if is_given => lchown(folder, Some(old.uid()), Some(old.gid()))?,
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    // A link that another user has put there is not followed.
    let options = options.read(true).append(true).create_new(true).mode(0o600);
    let file = options.open(trail.active())?;
    if is_given {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    trail.sync_folder()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::samples;

    #[test]
    fn only_files_with_a_number_of_at_least_12_digits_belong_to_the_log() {
        let (folder, trail) = samples::empty();
        for name in [
            "audit.jsonl",
            "audit.jsonl.1",
            "audit.jsonl.000000000001.gz",
            "audit.jsonl.00000000000x",
            "other.jsonl.000000000001",
            "audit.jsonl.000000000120",
            "audit.jsonl.000000000007",
            "audit.jsonl.1000000000000",
        ] {
            File::create(folder.path().join(name)).unwrap();
        }
        let firsts: Vec<_> = trail.full().unwrap().iter().map(|full| full.first).collect();
        assert_eq!(firsts, [7, 120, 1_000_000_000_000]);
        assert_eq!(trail.full_path(7), folder.path().join("audit.jsonl.000000000007"));
    }

    #[test]
    fn a_log_that_was_never_written_has_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::at(&folder.path().join("none/audit.jsonl"));
        assert_eq!(trail.full().unwrap(), []);
        assert!(trail.open_active().unwrap().is_none());
        assert!(Trail::at(Path::new("/dev/zero")).open_active().unwrap().is_none());
    }

    #[test]
    fn full_files_are_beside_the_target_of_a_symbolic_link() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("disk");
        fs::create_dir(&real).unwrap();
        File::create(real.join("a.jsonl")).unwrap();
        let link = folder.path().join("audit.jsonl");
        std::os::unix::fs::symlink(real.join("a.jsonl"), &link).unwrap();
        let full = Trail::at(&link).full_path(1);
        assert!(full.ends_with("disk/a.jsonl.000000000001"), "{full:?}");
    }
}
