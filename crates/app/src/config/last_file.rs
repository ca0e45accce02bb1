//! The configuration file that the last start was given. The data directory remembers it, for commands and starts that
//! are given none.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::FileBefore;
use super::{Config, StoreChoice};

/// In the data directory.
const FILE: &str = "last-config";

/// Begins the variables that name a store.
const STORE: &str = "KEYWARD__STORE";

/// Begins the variables that name an audit log.
const AUDIT: &str = "KEYWARD__AUDIT";

/// Follows the number of rules.
const IN_MEMORY: &str = " in memory";

/// `None`: the last start was given none.
pub(super) fn remembered(data: &Path) -> Option<FileBefore> {
    let text = fs::read_to_string(data.join(FILE)).ok()?;
    // Earlier versions wrote the path alone.
    let line = text.rsplit_once('\n');
    let told = line.and_then(|(path, rest)| {
        let rules = rest.strip_suffix(IN_MEMORY);
        Some((path, rules.unwrap_or(rest).parse::<usize>().ok()?, rules.is_some()))
    });
    let (path, rules, was_in_memory) = told.unwrap_or((text.as_str(), 0, false));
    (!path.is_empty()).then(|| FileBefore { path: path.into(), rules, was_in_memory })
}

impl Config {
    /// Remembers the file that this configuration was given, its store, and the number of rules in force. Returns where that
    /// was written; `None` if it was given none.
    ///
    /// # Errors
    /// The data directory cannot be written.
    pub fn remember_file(&self, rules: usize) -> io::Result<Option<PathBuf>> {
        let at = self.data_dir.join(FILE);
        if !self.origin.is_named {
            remove(&at)?;
            return Ok(None);
        }
        let staged = at.with_extension("new");
        remove(&staged)?;
        // A new file: the directory's owner could have put a link there, which root must not follow.
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&staged)?;
        let store = if let StoreChoice::Memory = self.store { IN_MEMORY } else { "" };
        write!(file, "{}\n{rules}{store}", self.origin.file.display())?;
        fs::rename(&staged, &at)?;
        Ok(Some(at))
    }

    /// The file that the last start was given, if this configuration was given none.
    pub fn file_before(&self) -> Option<&Path> {
        self.origin.before.as_ref().map(|before| &*before.path)
    }

    /// The same, if the store of that file may be another one and on disk: this configuration has no file, and no variable
    /// names a store.
    pub fn file_of_store_before(&self) -> Option<&Path> {
        let before = self.forgotten(STORE).filter(|before| !before.was_in_memory);
        before.map(|before| &*before.path)
    }

    /// The same, if the audit log of that file may be another one.
    pub fn file_of_audit_log_before(&self) -> Option<&Path> {
        self.forgotten(AUDIT).map(|before| &*before.path)
    }

    /// The file that the last start was given, if this configuration has no file, and no variable that begins like this.
    fn forgotten(&self, variables: &str) -> Option<&FileBefore> {
        let is_named = self.has_file() || !self.environment.beginning_with(variables).is_empty();
        self.origin.before.as_ref().filter(|_| !is_named)
    }

    /// How many rules fewer this configuration has than the last start, which was given that file.
    pub fn rules_missing(&self) -> usize {
        let before = self.origin.before.as_ref();
        before.map_or(0, |before| before.rules.saturating_sub(self.rules.len()))
    }

    /// Whether the file was named or is there. One in the default place may be absent.
    pub fn has_file(&self) -> bool {
        self.origin.required
    }

    /// Whether `--config` or `KEYWARD_CONFIG` named the file.
    pub fn is_file_named(&self) -> bool {
        self.origin.is_named
    }
}

/// Removes a file, which need not be there.
fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
