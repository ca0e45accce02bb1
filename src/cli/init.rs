//! `keyward init`: writes a commented configuration and creates the data directory.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::files::chown_like;
use super::output;
use super::settings::Global;
use super::terminal::table;
use keyward_app::config::Config;
use keyward_app::{Opening, Services, create_private_dir};

/// The new configuration: only comments, so that all defaults apply.
const CONFIGURATION: &str = include_str!("init.yaml");

#[derive(Debug, Serialize)]
struct InitReport {
    data: PathBuf,
    config: PathBuf,
}

/// Writes the configuration and the data directory. Existing files are not overwritten. A failure leaves no
/// files, or reports them.
pub(crate) async fn run(global: &Global) -> Result<(), Failure> {
    let (config, data) = (global.config.as_deref(), global.data.as_deref());
    // Errors in environment variables are reported before anything is created.
    let config = Config::load_with_text(CONFIGURATION, config, data)?;
    let file = config.file().to_owned();
    if file.exists() {
        return Err(exists(&file));
    }
    let begun = InitRun::new(&config.data_dir);
    if let Err(failure) = make(global, &config, &file).await {
        return Err(begun.undo(failure, &global.keyward()));
    }
    output::show(global.json, &InitReport { data: config.data_dir, config: file }, |made| {
        let places = [
            ("configuration", made.config.display().to_string()),
            ("data directory", made.data.display().to_string()),
        ];
        format!("{}start it: {} serve\n", table::fields(&places), global.keyward())
    })
}

/// The configuration is renamed into place last, as the mark of completion. Its text is written first, so that
/// an unwritable folder is detected before keys are created.
async fn make(global: &Global, config: &Config, file: &Path) -> Result<(), Failure> {
    make_directory(&config.data_dir)?;
    let draft = Draft::write(file)?;
    // A running gateway has created the master key, the CA and the store.
    if Client::if_running(global).await?.is_none() {
        drop(Services::open(config, Opening::Make).await?);
    }
    draft.publish(file)
}

/// The text of the configuration under another name; removed when dropped.
struct Draft(PathBuf);

impl Draft {
    /// Writes it beside `file`.
    fn write(file: &Path) -> Result<Self, Failure> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let draft = Self(file.with_file_name(name));
        write_new(&draft.0, file)?;
        Ok(draft)
    }

    /// Renames the draft to `file`, unless that exists.
    fn publish(self, file: &Path) -> Result<(), Failure> {
        match std::fs::hard_link(&self.0, file) {
            // Some file systems have no links.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !file.exists() => {
                std::fs::rename(&self.0, file).map_err(|error| refused(file, &error))
            }
            linked => linked.map_err(|error| refused(file, &error)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // If it stays, it is a comment beside the configuration.
        drop(std::fs::remove_file(&self.0));
    }
}

/// State of a running `init`.
struct InitRun<'a> {
    data: &'a Path,
    /// The data directory and those above it that were not there, the deepest first.
    missing: Vec<&'a Path>,
    before: Vec<OsString>,
}

impl<'a> InitRun<'a> {
    fn new(data: &'a Path) -> Self {
        let missing = data.ancestors().take_while(|path| !path.exists()).collect();
        Self { data, missing, before: entries(data) }
    }

    /// Removes empty new directories. Keys are never removed: they are reported, and the next `init` uses
    /// them.
    fn undo(self, failure: Failure, keyward: &str) -> Failure {
        for path in &self.missing {
            // One that is not empty stays, and so do those above it.
            if std::fs::remove_dir(path).is_err() {
                break;
            }
        }
        let now = entries(self.data).into_iter().filter(|name| !self.before.contains(name));
        let names: Vec<_> = now.map(|name| name.to_string_lossy().into_owned()).collect();
        if names.is_empty() {
            return failure;
        }
        let before = failure.advice().map(|advice| format!("{advice}; ")).unwrap_or_default();
        let (data, names) = (self.data.display(), names.join(", "));
        failure.hint(format!(
            "{before}{names} were created in {data}, but no configuration: run `{keyward} init` \
             again, which continues with them"
        ))
    }
}

/// The names in a folder, sorted.
fn entries(folder: &Path) -> Vec<OsString> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = found.map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    names
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    let made = create_private_dir(path);
    made.map_err(|error| {
        let above = path.ancestors().find(|above| above.exists()).unwrap_or(path);
        Failure::in_data_directory(&format!("cannot create {}", path.display()), above, &error)
    })
}

/// `shown`: the file that messages name.
fn write_new(path: &Path, shown: &Path) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        let mut write = || {
            // Root may write it for the gateway's user.
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                chown_like(&file, &std::fs::metadata(folder)?)?;
            }
            file.write_all(CONFIGURATION.as_bytes())?;
            file.sync_all()
        };
        let written = write();
        // Half of it would be taken for the whole. That it cannot be removed is the smaller trouble.
        written.inspect_err(|_| drop(std::fs::remove_file(path)))
    });
    written.map_err(|error| refused(shown, &error))
}

fn refused(file: &Path, error: &io::Error) -> Failure {
    let failure = || Failure::failed(&format!("cannot write {}", file.display()), error);
    match error.kind() {
        io::ErrorKind::AlreadyExists => exists(file),
        io::ErrorKind::NotFound => {
            failure().hint("create its folder, or choose another with --config")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            failure().hint("choose a folder that you may write to: --config FILE")
        }
        _ => failure(),
    }
}

fn exists(path: &Path) -> Failure {
    Failure::new(Exit::Failed, format!("{} exists already", path.display()))
        .hint("edit it, or choose another file with --config")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_configuration_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyward.yaml");
        std::fs::write(&path, "mine: true\n").unwrap();
        let draft = Draft::write(&path).unwrap();
        assert!(draft.publish(&path).unwrap_err().to_string().contains("exists already"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine: true\n");
    }

    #[test]
    fn the_data_directory_and_the_configuration_are_private_to_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        make_directory(&data).unwrap();
        let path = data.join("keyward.yaml");
        Draft::write(&path).unwrap().publish(&path).unwrap();
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "nothing else is left");
        for (path, mode) in [(&data, 0o700), (&path, 0o600)] {
            let found = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{}", path.display());
        }
    }

    #[test]
    fn the_configuration_changes_no_default() {
        let lines = CONFIGURATION.lines();
        for line in lines {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
        }
    }
}
