//! Sources on the gateway's own machine: variables, files and programs. Only the configuration file declares them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::error::SourceError;
use super::value::filled;
use keyward_base::secret::Secret;
use keyward_state::crypto::command::{self, ChildEnvironment, CommandLimits};
use keyward_state::crypto::private_file::private_file;

/// The limit for fields of grants, 16 KiB, and a line end.
const VALUE_BYTES_MAX: usize = 16 * 1024 + 3;

/// How long a program may run by default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The argument that the reference replaces.
const PLACE: &str = "{ref}";

/// A variable of the gateway, which was read with the configuration.
pub(super) fn variable(
    names: &[String],
    values: &BTreeMap<String, Secret>,
    reference: &str,
) -> Result<Secret, SourceError> {
    if !names.iter().any(|name| name == reference) {
        return Err(SourceError::Reference("a name of `env.names`"));
    }
    filled(values.get(reference).cloned().ok_or(SourceError::NotFound)?)
}

/// The path of a reference below the folder.
pub(crate) fn path_of(folder: &str, reference: &str) -> Option<PathBuf> {
    let below = Path::new(reference);
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let is_below = below.components().next().is_some() && below.components().all(is_plain);
    is_below.then(|| Path::new(folder).join(below))
}

/// The content of a file that only the gateway's user may read.
pub(super) async fn file(folder: &str, reference: &str) -> Result<Secret, SourceError> {
    let rule = "a path below `file.folder`, without `..`";
    let path = path_of(folder, reference).ok_or(SourceError::Reference(rule))?;
    let read = move || private_file(&path, VALUE_BYTES_MAX);
    let text = tokio::task::spawn_blocking(read).await.map_err(|_| SourceError::Kind)??;
    filled(Secret::new(trimmed(&text)))
}

/// What a program prints. Its standard error is dropped, because it may repeat the value.
pub(super) async fn command(
    mut words: Vec<String>,
    timeout: Option<Duration>,
    credentials: &BTreeMap<String, Secret>,
    reference: &str,
) -> Result<Secret, SourceError> {
    // The program would read it as an option.
    if reference.starts_with('-') {
        return Err(SourceError::Reference("a text that does not begin with `-`"));
    }
    match words.iter_mut().find(|word| *word == PLACE) {
        Some(word) => reference.clone_into(word),
        None => words.push(reference.to_owned()),
    }
    let timeout = timeout.unwrap_or(TIMEOUT);
    let limits = CommandLimits { timeout, bytes_max: VALUE_BYTES_MAX };
    let environment = ChildEnvironment::Only(credentials.clone());
    let run = move || command::output_in(&words, &environment, limits, Stdio::null());
    let output = tokio::task::spawn_blocking(run).await.map_err(|_| SourceError::Kind)??;
    filled(Secret::new(trimmed(&output)))
}

/// Without one line end.
fn trimmed(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(result: Result<Secret, SourceError>) -> Result<String, String> {
        let secret = result.map_err(|error| error.to_string())?;
        Ok(secret.expose_text().unwrap().to_owned())
    }

    #[test]
    fn a_reference_stays_below_the_folder() {
        let folder = "/run/secrets";
        for bad in ["", "/etc/shadow", "../a", "a/../../b", "./..", "."] {
            assert_eq!(path_of(folder, bad), None, "{bad}");
        }
        let path = path_of(folder, "team/token").unwrap();
        assert_eq!(path, Path::new("/run/secrets/team/token"));
    }

    #[test]
    fn only_variables_that_env_names_lists_are_read() {
        let names = ["A".to_owned(), "B".to_owned()];
        let values = ["A", "MASTER"].map(|name| (name.to_owned(), Secret::new("canary"))).into();
        let of = |name: &str| said(variable(&names, &values, name));
        assert_eq!(of("A").unwrap(), "canary");
        assert_eq!(of("B").unwrap_err(), "it has no value of that reference");
        assert_eq!(of("MASTER").unwrap_err(), "the reference must be a name of `env.names`");
    }

    #[tokio::test]
    async fn a_program_gets_the_reference_as_one_argument_and_a_minimal_environment() {
        let of = async |words: &[&str], reference: &str| {
            let credentials = [("TOKEN".to_owned(), Secret::new("t"))].into();
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            said(command(words, None, &credentials, reference).await)
        };
        let print = ["sh", "-c", "printf '%s|' \"$@\"", "sh"];
        assert_eq!(of(&print, "a b; echo c").await.unwrap(), "a b; echo c|");
        assert_eq!(
            of(&["sh", "-c", "printf '%s|' \"$@\"", "sh", "{ref}", "z"], "a").await.unwrap(),
            "a|z|"
        );
        let refused = of(&print, "--output=/tmp/x").await.unwrap_err();
        assert!(refused.contains("does not begin with `-`"), "{refused}");
        let names = of(
            &["sh", "-c", "env | cut -d= -f1 | grep -v -e PWD -e _ -e SHLVL | sort | tr '\\n' ' '"],
            "x",
        );
        assert_eq!(names.await.unwrap().trim(), "HOME PATH TOKEN");
        let failed = of(&["sh", "-c", "echo canary; exit 3", "sh"], "a").await.unwrap_err();
        assert!(failed.contains("failed") && !failed.contains("canary"), "{failed}");
        assert_eq!(of(&["true"], "a").await.unwrap_err(), "the value is empty");
    }
}
