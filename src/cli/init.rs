//! `keyward init`: a commented configuration and a data directory, before the first start.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use super::table;

/// What is written: comments only, so that every default stays the program's.
const CONFIGURATION: &str = include_str!("init.yaml");

#[derive(Debug, Serialize)]
struct Made {
    data: PathBuf,
    config: PathBuf,
}

/// Writes both. Nothing that exists is overwritten.
pub(crate) async fn run(global: &Global) -> Result<(), Failure> {
    let data = global.data_dir()?;
    make_directory(&data)?;
    let config = global.config.clone().unwrap_or_else(|| data.join("keyward.yaml"));
    write_new(&config)?;
    // Opening an empty data directory makes the master key, the CA and the store.
    Client::open(global).await?;
    output::show(global.json, &Made { data, config }, |made| {
        let places = [
            ("configuration", made.config.display().to_string()),
            ("data directory", made.data.display().to_string()),
        ];
        format!("{}start it: {} serve\n", table::fields(&places), global.keyward())
    })
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Failure::failed(&format!("cannot make {}", path.display()), &error))
}

fn write_new(path: &Path) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(CONFIGURATION.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(Exit::Failed, format!("{} exists already", path.display()))
                .hint("edit it, or name another file with --config")
        }
        _ => Failure::failed(&format!("cannot write {}", path.display()), &error),
    })
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
        assert!(write_new(&path).unwrap_err().to_string().contains("exists already"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine: true\n");
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        make_directory(&data).unwrap();
        let path = data.join("keyward.yaml");
        write_new(&path).unwrap();
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
