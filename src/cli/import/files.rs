//! [`File`]: a file whose values become placeholders, and its backup.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::candidate::ImportCandidate;
use super::source::ImportPlace;
use super::{dotenv, logins};
use crate::cli::failure::{Exit, Failure};
use crate::cli::files::{chown_like, replace_file, replace_file_like};

/// The folder of backups, beside the files whose values are replaced.
const BACKUPS: &str = ".keyward-backup";

/// A file whose values become placeholders, as it was read.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: Zeroizing<String>,
    pub(super) source: ImportPlace,
}

impl File {
    /// Its path, for people.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether [`replace`] can keep the file as it was.
    ///
    /// # Errors
    /// When there is the backup of an earlier import.
    pub(super) fn may_be_replaced(&self) -> Result<(), Failure> {
        let backup = backup_of(&self.path);
        let what = format!("cannot write {}", backup.display());
        match std::fs::symlink_metadata(&backup) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Failure::failed(&what, &error).hint("nothing was imported")),
            Ok(_) => {
                let hint = "it has keys of an earlier import: move it away or delete it. Nothing was imported";
                Err(Failure::new(Exit::Failed, format!("{what}: it exists already")).hint(hint))
            }
        }
    }

    /// The text with placeholders of the candidates that are connected; `None` if there are none in it.
    pub(super) fn with(
        &self,
        placeholders: &BTreeMap<usize, String>,
        candidates: &[ImportCandidate],
    ) -> Option<Zeroizing<String>> {
        let mut own = self.own(placeholders, candidates);
        if self.source.is_agent_login() {
            return logins::codex_with(&self.text, own.next()?.1);
        }
        let places: Vec<_> = own
            .filter_map(|(candidate, placeholder)| {
                Some((candidate.at.clone()?, placeholder.clone()))
            })
            .collect();
        (!places.is_empty()).then(|| dotenv::replaced(&self.text, &places))
    }

    /// The lines of its new text that have one of these keys.
    pub(super) fn lines_with(&self, text: &str, keys: &BTreeSet<&str>) -> Vec<String> {
        let has_key = |line: &str| keys.iter().any(|key| line.contains(key));
        let lines = text.lines().enumerate().filter(|(_, line)| has_key(line));
        lines.map(|(index, _)| format!("{}:{}", self.name(), index + 1)).collect()
    }

    /// Whether [`with`](Self::with) replaces keys, and not only placeholders of another agent.
    pub(super) fn has_keys(
        &self,
        placeholders: &BTreeMap<usize, String>,
        candidates: &[ImportCandidate],
    ) -> bool {
        self.own(placeholders, candidates).any(|(candidate, _)| !candidate.has_placeholder())
    }

    /// The candidates of the file that get placeholders, each with its own.
    fn own<'a>(
        &self,
        placeholders: &'a BTreeMap<usize, String>,
        candidates: &'a [ImportCandidate],
    ) -> impl Iterator<Item = (&'a ImportCandidate, &'a String)> {
        let group = match self.source.is_agent_login() {
            true => logins::CODEX.to_owned(),
            false => self.name(),
        };
        let all = placeholders.iter().map(move |(index, text)| (&candidates[*index], text));
        all.filter(move |(candidate, _)| candidate.group == group)
    }
}

/// Writes the other text in the place of the file, with its mode and owner. A file that `has_keys` is kept as it was.
pub(super) fn replace(
    path: &Path,
    before: &str,
    after: &str,
    has_keys: bool,
) -> Result<(), Failure> {
    let backup = backup_of(path);
    let failed = |path: &Path, error: &io::Error| {
        Failure::failed(&format!("cannot write {}", path.display()), error)
            .hint("the accounts are connected; the file is as it was")
    };
    // A link is followed, so that the file that it leads to is replaced.
    let target = path.canonicalize().map_err(|error| failed(path, &error))?;
    let found = std::fs::metadata(&target).map_err(|error| failed(path, &error))?;
    check_unchanged(&target, before).map_err(|error| failed(path, &error))?;
    if has_keys {
        let written = create_folder(&path.with_file_name(BACKUPS), &found);
        let written = written.and_then(|()| create(&backup, before, &found));
        written.map_err(|error| failed(&backup, &error))?;
    }
    replace_file_like(&target, after.as_bytes(), &found).map_err(|error| failed(path, &error))
}

/// Refuses a file that someone wrote after it was read: its new text would be in neither file.
fn check_unchanged(path: &Path, before: &str) -> io::Result<()> {
    let now = Zeroizing::new(std::fs::read(path)?);
    match now.as_slice() == before.as_bytes() {
        true => Ok(()),
        false => Err(io::Error::other("it has changed since it was read; import it again")),
    }
}

/// Where the file is kept as it was.
pub(super) fn backup_of(path: &Path) -> PathBuf {
    path.with_file_name(BACKUPS).join(path.file_name().unwrap_or_default())
}

/// The folder of backups. A repository that ignores `.env` may not ignore its copy, so the folder ignores itself.
fn create_folder(folder: &Path, like: &Metadata) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // A link could lead root to any folder.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    chown_like(rustix::fs::open(folder, flags, Mode::empty())?, like)?;
    replace_file(&folder.join(".gitignore"), b"*\n", 0o644)
}

/// A new file for its owner: an earlier backup has keys that may be nowhere else.
fn create(path: &Path, text: &str, like: &Metadata) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    chown_like(&file, like)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_edited_meanwhile_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        std::fs::write(&file, "edited").unwrap();
        let refused = replace(&file, "read", "new", true).unwrap_err();
        assert!(refused.message().contains("has changed since it was read"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "edited");
        assert!(!backup_of(&file).exists());
        replace(&file, "edited", "new", true).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(backup_of(&file)).unwrap(), "edited");
    }
}
