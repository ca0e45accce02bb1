//! Detects changed files by polling. This works with atomic renames of editors and with the symbolic links
//! of Kubernetes, on every file system. A change counts after one poll without a further change, so that a
//! file is not read while it is written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// A change is noticed after at most twice this time.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The version of a file: device, inode, size, and the times of content and inode in seconds and
/// nanoseconds. `None`: the file does not exist.
type Mark = Option<(u64, u64, u64, [i64; 4])>;

/// Files with their versions when they were last read.
#[derive(Debug)]
pub(super) struct WatchedFiles {
    files: Vec<PathBuf>,
    read: Vec<Mark>,
    seen: Vec<Mark>,
}

impl WatchedFiles {
    /// Watches files that are about to be read.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let read = marks(&files);
        Self { files, seen: read.clone(), read }
    }

    /// Whether a file has changed since it was read, and has been stable for one poll. Blocks for as long
    /// as the file system takes.
    pub(super) fn poll(&mut self) -> bool {
        let now = marks(&self.files);
        let still = now == self.seen;
        self.seen = now;
        still && self.seen != self.read
    }

    /// The files that have changed since they were read, as of the last look.
    pub(super) fn changed(&self) -> impl Iterator<Item = &PathBuf> {
        let marks = self.read.iter().zip(&self.seen);
        self.files.iter().zip(marks).filter(|(_, (read, seen))| read != seen).map(|(file, _)| file)
    }

    /// Notes that the files are about to be read.
    pub(super) fn mark_read(&mut self) {
        self.seen = marks(&self.files);
        self.read.clone_from(&self.seen);
    }

    /// Sets the files that the configuration depends on. New ones were just read; one that has changed
    /// since is read again.
    pub(super) fn set_files(&mut self, files: Vec<PathBuf>) {
        let before: Vec<_> = self.files.drain(..).zip(self.read.drain(..)).collect();
        self.seen = marks(&files);
        let known = |file: &PathBuf| before.iter().find(|(known, _)| known == file);
        let read = files.iter().zip(&self.seen).map(|(file, now)| match known(file) {
            Some((_, read)) => *read,
            None => *now,
        });
        self.read = read.collect();
        self.files = files;
    }
}

fn marks(files: &[PathBuf]) -> Vec<Mark> {
    let mark = |file: &PathBuf| {
        let about = fs::metadata(file).ok()?;
        let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
        Some((about.dev(), about.ino(), about.size(), times))
    };
    files.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Whether two looks tell a change, as they do when nothing moves in between.
    fn told(watched: &mut WatchedFiles) -> bool {
        watched.poll();
        watched.poll()
    }

    #[test]
    fn unchanged_and_absent_files_are_not_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "1").unwrap();
        let mut watched = WatchedFiles::new(vec![file, dir.path().join("absent")]);
        assert!(!told(&mut watched) && !told(&mut watched));
    }

    #[test]
    fn a_file_that_is_still_changing_is_not_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let other_file = dir.path().join("b");
        let mut watched = WatchedFiles::new(vec![file.clone(), other_file]);
        for text in ["", "half", "whole text"] {
            fs::write(&file, text).unwrap();
            assert!(!watched.poll(), "{text:?}");
        }
        assert!(watched.poll());
        assert!(watched.changed().eq([&file]));
        watched.mark_read();
        assert!(!told(&mut watched));
    }

    #[test]
    fn a_rename_a_new_link_target_a_new_mode_and_a_removal_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "1").unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("secret"), "same").unwrap();
        }
        symlink("v1", at("data")).unwrap();
        let mut watched = WatchedFiles::new(vec![at("file"), at("data").join("secret")]);
        let steps: [&dyn Fn(); 4] = [
            &|| {
                fs::write(at("new"), "1").unwrap();
                fs::rename(at("new"), at("file")).unwrap();
            },
            &|| {
                symlink("v2", at("link")).unwrap();
                fs::rename(at("link"), at("data")).unwrap();
            },
            &|| {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(at("file"), PermissionsExt::from_mode(0o600)).unwrap();
            },
            &|| fs::remove_file(at("file")).unwrap(),
        ];
        for (number, step) in steps.iter().enumerate() {
            step();
            assert!(told(&mut watched), "step {number}");
            watched.mark_read();
        }
    }

    #[test]
    fn added_files_are_watched_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "1").unwrap();
        let mut watched = WatchedFiles::new(vec![one.clone()]);
        watched.set_files(vec![one, two.clone()]);
        assert!(!told(&mut watched));
        fs::write(&two, "2").unwrap();
        assert!(told(&mut watched));
    }
}
