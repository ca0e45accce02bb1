//! Warnings about environment variables that are ignored, and look like settings: `KEYWARD_LOG_LEVEL`
//! for `KEYWARD__LOG__LEVEL`, `KEYWARD_CONFGI` for `KEYWARD_CONFIG`.

use super::Config;
use super::environment::PREFIX;
use super::reference::{self, ReferencePart};
use keyward_rules::provider::decode::nearest;
use keyward_rules::provider::document::Problem;

/// Begins the names of all variables of Keyward.
const OWN: &str = "KEYWARD_";
/// Variables without a key in the configuration, which decide what a gateway starts with.
const OF_START: &[&str] = &["CONFIG", "DATA"];
/// Those of commands and programs.
const OF_COMMANDS: &[&str] =
    &["AGENT_TOKEN", "BACKUP_PASSPHRASE", "BASE_URL", "CA", "PLACEHOLDERS", "TOKEN", "URL"];

/// The ignored variables, each with the variable that was probably meant. Variables that hold secrets
/// of the configuration may have any name.
pub(crate) fn ignored_variables(config: &Config) -> Vec<Problem> {
    let own = config.environment.beginning_with(OWN).into_iter().map(|variable| variable.name);
    let mut names: Vec<String> = own.filter(|name| !name.starts_with(PREFIX)).collect();
    let secrets = config.secret_variables();
    names.retain(|name| !secrets.contains(&name.as_str()));
    if names.is_empty() {
        return Vec::new();
    }
    let parts = reference::parts();
    let warnings = names.iter().filter_map(|name| {
        let meant = meant(name.strip_prefix(OWN)?, &parts)?;
        Some(Problem {
            origin: format!("environment variable {name}"),
            line: None,
            path: String::new(),
            message: "it is ignored".to_owned(),
            remedy: format!("did you mean `{meant}`?"),
            is_away: false,
        })
    });
    warnings.collect()
}

/// The variable that `KEYWARD_REST` was probably meant to be.
fn meant(rest: &str, parts: &[ReferencePart]) -> Option<String> {
    if OF_START.contains(&rest) || OF_COMMANDS.contains(&rest) {
        return None;
    }
    let mut keys = parts.iter().filter(|part| !part.path.contains("[]")).flat_map(|it| &it.entries);
    let same = |path: &str| path.replace('.', "_").eq_ignore_ascii_case(rest);
    if let Some(key) = keys.find(|key| same(&key.path)) {
        return Some(format!("{PREFIX}{}", key.path.replace('.', "__").to_ascii_uppercase()));
    }
    nearest(rest, OF_START.iter().copied()).map(|name| format!("{OWN}{name}"))
}
