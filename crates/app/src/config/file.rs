//! Where the configuration is: the data directory, the file, and the variables laid over it. Never
//! the current directory: a cloned repository must not configure us.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_yaml::Value;

use super::checked_providers::{self, CheckedProviders};
use super::environment::{PREFIX, PrefixedVariable, VariableSource};
use super::error::ConfigError;
use super::error::ConfigOrigin;
use super::last_file::remembered;
use super::reading::Folders;
use super::{Config, parse};
use keyward_rules::provider::document::{Document, Problem, scalar};
use keyward_state::observe::log::Format;

/// In the data directory.
const FILE: &str = "keyward.yaml";

/// `--data`, `$KEYWARD_DATA`, `/var/lib/keyward` as root, else `$XDG_DATA_HOME/keyward` or
/// `~/.local/share/keyward`; absolute.
pub(super) fn data_dir(
    data: Option<&Path>,
    environment: &VariableSource,
) -> Result<PathBuf, ConfigError> {
    if let Some(given) = data.map(Path::to_owned).or_else(|| environment.path("KEYWARD_DATA")) {
        return absolute(&given);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/keyward"));
    }
    // A relative one is to be ignored: XDG Base Directory Specification, "Basics".
    let xdg = environment.path("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let home = || environment.path("HOME").map(|home| home.join(".local/share"));
    let share = xdg.or_else(home).ok_or(ConfigError::NoHome)?;
    absolute(&share.join("keyward"))
}

/// Finds and reads everything.
pub(super) fn load(
    config: Option<&Path>,
    data: Option<&Path>,
    environment: &VariableSource,
) -> Result<Config, ConfigError> {
    let (path, named, data) = place(config, data, environment)?;
    let mut config = read_file(&path, named.is_some(), data, environment)?;
    if named.is_none() {
        // Of a file that need not be there, whether it is decides what its absence means later.
        let (required, before) = (path.exists(), remembered(&config.data_dir));
        config.origin = ConfigOrigin { file: path, required, is_named: false, before };
    }
    Ok(config)
}

/// Reads a file; one that is not required may be absent.
fn read_file(
    path: &Path,
    required: bool,
    data: PathBuf,
    environment: &VariableSource,
) -> Result<Config, ConfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if !required && error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    };
    let folders = Folders { config: folder_of(path), data };
    read_or_known(&text, path, folders, environment).map_err(ConfigError::Problems)
}

/// The configuration if `text` were in the file.
pub(super) fn load_with_text(
    text: &str,
    config: Option<&Path>,
    data: Option<&Path>,
    environment: &VariableSource,
) -> Result<Config, ConfigError> {
    let (path, _, data) = place(config, data, environment)?;
    let folders = Folders { config: folder_of(&path), data };
    read(text, &path, folders, environment).map_err(ConfigError::Problems)
}

/// Where the file is, or would be; whether somebody named it; and the data directory.
fn place(
    config: Option<&Path>,
    data: Option<&Path>,
    environment: &VariableSource,
) -> Result<(PathBuf, Option<PathBuf>, PathBuf), ConfigError> {
    let data = data_dir(data, environment)?;
    let named = config.map(Path::to_owned).or_else(|| environment.path("KEYWARD_CONFIG"));
    let path = absolute(named.as_deref().unwrap_or(&data.join(FILE)))?;
    Ok((path, named, data))
}

/// Reads the file of a configuration that is in use.
pub(super) fn reread(
    origin: &ConfigOrigin,
    data: &Path,
    environment: &VariableSource,
) -> Result<Config, ConfigError> {
    let path = &origin.file;
    let mut config = read_file(path, origin.required, data.to_owned(), environment)?;
    let required = origin.required || path.exists();
    config.origin = ConfigOrigin { required, ..origin.clone() };
    Ok(config)
}

/// `log.format`, if it can be read.
pub(super) fn log_format(
    config: Option<&Path>,
    data: Option<&Path>,
    environment: &VariableSource,
) -> Option<Format> {
    let (path, ..) = place(config, data, environment).unwrap_or_default();
    let name = path.display().to_string();
    let text = fs::read_to_string(&path).unwrap_or_default();
    let document = Document::parse(&name, &text).or_else(|_| Document::parse(&name, ""));
    let mut document = document.ok()?;
    for variable in environment.beginning_with(PREFIX) {
        // `read` reports invalid variables.
        drop(set_from_variable(&mut document, variable));
    }
    let format = document.root().get("log")?.get("format")?.clone();
    serde_yaml::from_value(format).ok()
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).to_owned()
}

/// Keeps that the providers of the file are sound. Returns whether they were not kept before.
pub(super) fn keep_providers(
    origin: &ConfigOrigin,
    data: &Path,
    environment: &VariableSource,
) -> io::Result<bool> {
    checked_providers::keep(&fs::read_to_string(&origin.file)?, data, environment)
}

/// The same as [`read`]; providers that were found sound before are read at their first use.
fn read_or_known(
    text: &str,
    file: &Path,
    folders: Folders,
    environment: &VariableSource,
) -> Result<Config, Vec<Problem>> {
    if let Some(checked) = CheckedProviders::find(text, &folders.data, environment)
        && let Ok(config) =
            read_beside(Some(&checked), &checked.rest, file, folders.clone(), environment)
    {
        return Ok(config);
    }
    // Errors name places in the whole file.
    read(text, file, folders, environment)
}

/// Reads a text of `file`, and the variables.
pub(super) fn read(
    text: &str,
    file: &Path,
    folders: Folders,
    environment: &VariableSource,
) -> Result<Config, Vec<Problem>> {
    read_beside(None, text, file, folders, environment)
}

/// Reads a text, some of whose providers are `checked` instead.
fn read_beside(
    checked: Option<&CheckedProviders>,
    text: &str,
    file: &Path,
    folders: Folders,
    environment: &VariableSource,
) -> Result<Config, Vec<Problem>> {
    let read = |document: &Document| {
        parse::config(document, checked, folders.clone(), environment.clone())
    };
    let name = file.display().to_string();
    let (mut document, mut problems) = match Document::parse(&name, text) {
        Ok(document) => (document, Vec::new()),
        Err(problems) => (Document::parse(&name, "")?, problems),
    };
    for variable in environment.beginning_with(PREFIX) {
        problems.extend(set_from_variable(&mut document, variable).err().into_iter().flatten());
    }
    if problems.is_empty() {
        let mut config = read(&document)?;
        let file = file.to_owned();
        config.origin = ConfigOrigin { file, required: true, is_named: true, before: None };
        return Ok(config);
    }
    // A variable may be invalid because the file is, so errors of the file come first. A partial
    // document would only cause false errors.
    let alone = Document::parse(&name, text).map(|own| read(&own));
    Err(match alone {
        Ok(Err(own)) => own.into_iter().chain(problems).collect(),
        _ => problems,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path)
        .map_err(|source| ConfigError::Unreadable { path: path.into(), source })
}

/// Lays `KEYWARD__LOG__LEVEL` over `log.level`. Lists and maps are given as YAML flow text.
fn set_from_variable(
    document: &mut Document,
    variable: PrefixedVariable,
) -> Result<(), Vec<Problem>> {
    let name = &variable.name;
    let keys: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
    if keys.iter().any(String::is_empty) {
        let remedy = "write `KEYWARD__SECTION__KEY`";
        return Err(problem(name, "", "the name does not name a key", remedy));
    }
    let path = keys.join(".");
    let Some(text) = variable.value else {
        return Err(problem(name, &path, "the value is not UTF-8", "correct it"));
    };
    let value = value(name, &path, &text)?;
    match document.set_from_variable(name, &keys, &value) {
        true => Ok(()),
        false => {
            let remedy = "set the whole key above it, as `[…]` or `{…}`";
            Err(problem(name, &path, "the name leads through a key that is not a map", remedy))
        }
    }
}

fn value(variable: &str, path: &str, text: &str) -> Result<Value, Vec<Problem>> {
    if !text.trim_start().starts_with(['[', '{']) {
        return Ok(scalar(text));
    }
    let parsed = Document::parse(variable, text).map_err(|problems| {
        let found = |it: Problem| problem(variable, path, &it.message, &it.remedy);
        problems.into_iter().flat_map(found).collect::<Vec<_>>()
    })?;
    Ok(parsed.root().clone())
}

fn problem(variable: &str, path: &str, message: &str, remedy: &str) -> Vec<Problem> {
    vec![Problem {
        origin: format!("environment variable {variable}"),
        line: None,
        path: path.into(),
        message: message.into(),
        remedy: remedy.into(),
        is_away: false,
    }]
}
