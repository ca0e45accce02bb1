//! Changes the owner of files that commands of root create in the directory of the gateway's user, who must be able to
//! open them.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// The new owner of files.
struct NewOwner {
    user: u32,
    group: u32,
}

/// Makes the owner of `folder` the owner of `made` and all files below it that belong to root. Does nothing if this
/// process is not of root, or if the folder belongs to root.
///
/// # Errors
/// When a file cannot be read or changed.
pub fn chown_tree_to_owner_of(folder: &Path, made: &Path) -> io::Result<()> {
    give(folder, made, NewOwner::take)
}

/// The same for `made` only, such as a directory whose folders stay with root.
///
/// # Errors
/// When it cannot be read or changed.
pub fn chown_to_owner_of(folder: &Path, made: &Path) -> io::Result<()> {
    give(folder, made, NewOwner::take_alone)
}

fn give(
    folder: &Path,
    made: &Path,
    take: fn(&NewOwner, &File) -> io::Result<()>,
) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let is_here = folder.as_os_str().is_empty();
    let about = fs::metadata(if is_here { Path::new(".") } else { folder })?;
    if about.uid() == 0 {
        return Ok(());
    }
    let owner = NewOwner { user: about.uid(), group: about.gid() };
    opened(CWD, made)?.map_or(Ok(()), |made| take(&owner, &made))
}

impl NewOwner {
    fn take(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.is_dir() {
            for entry in Dir::read_from(file)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                if let Some(inner) = opened(file, name)? {
                    self.take(&inner)?;
                }
            }
        }
        self.take_alone(file)
    }

    /// Skips a file with several hard links: the user could have linked a file of another user.
    fn take_alone(&self, file: &File) -> io::Result<()> {
        let about = file.metadata()?;
        if about.uid() == 0 && (about.is_dir() || about.nlink() == 1) {
            fchown(file, Some(self.user), Some(self.group))?;
        }
        Ok(())
    }
}

/// Opens a file; `None` if there is none, or it is a link or a socket.
fn opened(folder: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Option<File>> {
    // Without NONBLOCK, opening a pipe would wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Adds a file of another user and the remedy to a permission error: a killed command of root leaves such files.
pub(super) fn explained(directory: &Path, source: io::Error) -> io::Error {
    let own = geteuid();
    if source.kind() != io::ErrorKind::PermissionDenied || own.is_root() {
        return source;
    }
    let Some((file, user)) = foreign(directory, own.as_raw()) else { return source };
    let above = directory.parent().unwrap_or(directory).display();
    let (file, directory) = (file.display(), directory.display());
    let text = format!(
        "{file} belongs to user {user}: run `chown -R --reference={above} {directory}` as root"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// A file in this directory, or the directory itself, whose owner is not `own`; and its owner.
fn foreign(path: &Path, own: u32) -> Option<(PathBuf, u32)> {
    let about = fs::symlink_metadata(path).ok()?;
    if about.uid() != own {
        return Some((path.to_owned(), about.uid()));
    }
    if !about.is_dir() {
        return None;
    }
    fs::read_dir(path).ok()?.flatten().find_map(|entry| foreign(&entry.path(), own))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    const NOBODY: u32 = 65_534;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    /// The owner of the folder could have created such links to files of root.
    #[test]
    fn chown_of_a_tree_skips_hard_links_and_targets_of_symbolic_links() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
        fs::create_dir_all(theirs.join("inner")).unwrap();
        fs::create_dir(&ours).unwrap();
        for file in [ours.join("linked"), ours.join("file"), theirs.join("inner/made")] {
            fs::write(file, "").unwrap();
        }
        fs::hard_link(ours.join("linked"), theirs.join("second")).unwrap();
        symlink(&ours, theirs.join("link")).unwrap();
        chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
        chown_tree_to_owner_of(&theirs, &theirs).unwrap();
        assert_eq!(owner(&theirs.join("inner")), NOBODY);
        assert_eq!(owner(&theirs.join("inner/made")), NOBODY);
        for file in ["", "linked", "file"] {
            assert_eq!(owner(&ours.join(file)), 0, "{file}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let own = owner(dir.path());
        assert_eq!(foreign(dir.path(), own), None);
        assert_eq!(foreign(dir.path(), own + 1), Some((dir.path().to_owned(), own)));
        if geteuid().is_root() {
            chown(dir.path().join("file"), Some(NOBODY), None).unwrap();
            let file = dir.path().join("file");
            assert_eq!(foreign(dir.path(), own), Some((file, NOBODY)));
        }
    }
}
