//! Reading a configuration with the environment of this process, or with variables that are given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::reading::Folders;
use super::{Config, ConfigError, VariableSource, file};
use keyward_rules::provider::document::Problem;
use keyward_state::observe::log::Format;

impl Config {
    /// Finds and reads the configuration: `config`, else `$KEYWARD_CONFIG`, else `keyward.yaml` in
    /// the data directory, which alone may be absent. `KEYWARD__SECTION__KEY` variables are laid
    /// over it.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(config: Option<&Path>, data: Option<&Path>) -> Result<Self, ConfigError> {
        file::load(config, data, &VariableSource::Process)
    }

    /// The log format of file and variables, even if they have other errors, which are reported in it.
    pub fn log_format(config: Option<&Path>, data: Option<&Path>) -> Format {
        file::log_format(config, data, &VariableSource::Process).unwrap_or_default()
    }

    /// Like [`Config::load`], with `text` instead of the content of the file.
    ///
    /// # Errors
    /// As [`Config::load`], but for the file.
    pub fn load_with_text(
        text: &str,
        config: Option<&Path>,
        data: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        file::load_with_text(text, config, data, &VariableSource::Process)
    }

    /// Reads a text as if it stood in `file`, with these environment variables and no others. The
    /// data directory is `$KEYWARD_DATA` of them, else the file's folder.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse(
        yaml: &str,
        file: &Path,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<Problem>> {
        let environment = VariableSource::fixed(variables);
        let config = file.parent().unwrap_or(Path::new("")).to_owned();
        let data = environment.path("KEYWARD_DATA").unwrap_or_else(|| config.clone());
        file::read(yaml, file, Folders { config, data }, &environment)
    }
}

/// The data directory: `data`, `$KEYWARD_DATA`, `/var/lib/keyward` as root, else
/// `$XDG_DATA_HOME/keyward` or `~/.local/share/keyward`; absolute.
///
/// # Errors
/// When there is no home to put it in.
pub fn data_dir(data: Option<&Path>) -> Result<PathBuf, ConfigError> {
    file::data_dir(data, &VariableSource::Process)
}
