//! [`SecretSource`]: where a secret that the configuration names is read from, and the reading.
//! What YAML may say is decided in `source.rs`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::environment::VariableSource;
use keyward_base::secret::Secret;
use keyward_base::shared_map;
use keyward_state::crypto::command::{self, CommandError, CommandLimits};
use keyward_state::crypto::private_file::{FileError, private_file};

/// 64 KiB: certificates and service accounts' keys are a few KiB.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Room for a line end, and one byte to detect longer text.
const TEXT_BYTES_MAX: usize = SECRET_BYTES_MAX + 3;

/// A start must not hang on a command.
const COMMAND: CommandLimits =
    CommandLimits { timeout: Duration::from_secs(10), bytes_max: TEXT_BYTES_MAX };

/// Where a secret is read from.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file that only its owner may read.
    File(PathBuf),
    /// A program with arguments; what it prints is the secret.
    Command(Vec<String>),
    /// Written in the configuration: not secret, or `insecure_inline: true`.
    Inline(Secret),
}

/// Why a secret cannot be read. Names the source, never its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretSourceError {
    /// The variable is not set.
    #[error("environment variable {0} is not set")]
    EnvMissing(String),
    /// The same in a gateway that serves: the variable may be set for the command that asks it.
    #[error(
        "environment variable {0} is not set in the gateway's environment: restart it with the \
         variable, or use `{{ file: PATH }}`"
    )]
    EnvOfGatewayMissing(String),
    /// Nothing, or nothing but a line end.
    #[error("{0} is empty: put the secret there")]
    Empty(String),
    /// More than any secret.
    #[error("{0} is longer than 64 KiB, the limit of a secret")]
    TooLong(String),
    /// The file is not read.
    #[error("secret {0}")]
    File(#[from] FileError),
    /// The command gives nothing.
    #[error("{0}")]
    Command(#[from] CommandError),
}

/// Two inline secrets are never equal: secrets are not compared.
impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Env(one), Self::Env(other)) => one == other,
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Command(one), Self::Command(other)) => one == other,
            _ => false,
        }
    }
}

impl SecretSource {
    /// Reads the secret. Of files and commands, a byte order mark and one line end are cut off. Blocks, up to 10 s for a
    /// command, whose standard error is dropped: it may repeat the secret.
    /// A command does not see the `hidden` variables.
    ///
    /// # Errors
    /// When there is none, it is empty or over 64 KiB, or others can read its file.
    pub fn load(
        &self,
        environment: &VariableSource,
        hidden: &[&str],
    ) -> Result<Secret, SecretSourceError> {
        let (place, secret) = match self {
            Self::Inline(secret) => ("the value".to_owned(), secret.clone()),
            Self::Env(name) => {
                let missing = || SecretSourceError::EnvMissing(name.clone());
                let secret = environment.secret(name).ok_or_else(missing)?;
                (format!("environment variable {name}"), secret)
            }
            Self::File(path) => {
                let text = private_file(path, TEXT_BYTES_MAX)?;
                (format!("secret file {}", path.display()), trimmed(&text))
            }
            Self::Command(words) => {
                let output = command::output_of(words, hidden, COMMAND, Stdio::null())?;
                let program = words.first().map(String::as_str).unwrap_or_default();
                (format!("the output of command `{program}`"), trimmed(&output))
            }
        };
        match secret.len() {
            0 => Err(SecretSourceError::Empty(place)),
            length if length > SECRET_BYTES_MAX => Err(SecretSourceError::TooLong(place)),
            _ => Ok(secret),
        }
    }

    /// The file it is read from, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Env(_) | Self::Command(_) | Self::Inline(_) => None,
        }
    }

    /// The variable it is read from, if it is one: such variables never reach a child.
    pub fn variable(&self) -> Option<&str> {
        shared_map::increment();
        match self {
            Self::Env(name) => Some(name),
            Self::File(_) | Self::Command(_) | Self::Inline(_) => None,
        }
    }
}

/// Without a byte order mark, as Windows adds, and without one line end, as editors and `echo` add.
fn trimmed(text: &[u8]) -> Secret {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    Secret::new(text.strip_suffix(b"\r").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use keyward_state::crypto::token::TokenHash;

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, SecretSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, SecretSource::File(path))
    }

    fn shell(script: &str) -> SecretSource {
        SecretSource::Command(["sh", "-c", script].map(str::to_owned).into())
    }

    fn load(source: &SecretSource) -> Result<Secret, SecretSourceError> {
        let variables = BTreeMap::from([
            ("SET".to_owned(), "from-env".to_owned()),
            ("EMPTY".to_owned(), String::new()),
        ]);
        source.load(&VariableSource::fixed(&variables), &[])
    }

    fn is(source: &SecretSource, expected: &str) -> bool {
        TokenHash::of_secret(&load(source).unwrap()).matches(&TokenHash::of(expected))
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        let (_dir, source) = file(b"canary", 0o640);
        let said = load(&source).unwrap_err().to_string();
        assert!(said.contains("chmod 600") && !said.contains("canary"), "{said}");
    }

    #[test]
    fn a_missing_empty_or_too_long_secret_is_refused() {
        let missing = SecretSource::Env("UNSET".into());
        assert!(
            matches!(load(&missing), Err(SecretSourceError::EnvMissing(name)) if name == "UNSET")
        );
        let empty = SecretSource::Env("EMPTY".into());
        assert!(matches!(load(&empty), Err(SecretSourceError::Empty(_))));
        let (dir, line_end) = file(b"\n", 0o600);
        assert!(matches!(load(&line_end), Err(SecretSourceError::Empty(_))));
        let (_dir, long) = file(&vec![b'x'; SECRET_BYTES_MAX + 1], 0o600);
        assert!(matches!(load(&long), Err(SecretSourceError::TooLong(_))));
        let absent = SecretSource::File(dir.path().join("nothing"));
        assert!(matches!(load(&absent), Err(SecretSourceError::File(FileError::Missing(_)))));
        let directory = SecretSource::File(dir.path().into());
        assert!(matches!(load(&directory), Err(SecretSourceError::File(FileError::NotAFile(_)))));
    }

    #[test]
    fn a_command_that_gives_no_secret_is_an_error_that_omits_its_output() {
        let failed = load(&shell("echo canary; echo canary >&2; exit 3")).unwrap_err().to_string();
        assert!(failed.contains("`sh` failed") && !failed.contains("canary"), "{failed}");
        assert!(load(&shell("yes | head -c 100000")).is_err());
        assert!(matches!(load(&shell("true")), Err(SecretSourceError::Empty(_))));
        let absent = SecretSource::Command(vec!["keyward-no-such-program".into()]);
        assert!(matches!(
            load(&absent),
            Err(SecretSourceError::Command(CommandError::Broken { .. }))
        ));
        let none = SecretSource::Command(vec![]);
        let refused = load(&none);
        assert!(matches!(refused, Err(SecretSourceError::Command(CommandError::Empty))));
    }

    #[test]
    fn only_a_byte_order_mark_and_one_line_end_of_a_file_or_output_are_removed() {
        for (text, expected) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
            ("\u{feff}a\r\n", "a"),
            ("\u{feff}\u{feff}a\u{feff}", "\u{feff}a\u{feff}"),
        ] {
            let (_dir, source) = file(text.as_bytes(), 0o600);
            assert!(is(&source, expected), "{text:?}");
        }
        assert!(is(&shell("echo a; echo b >&2"), "a"));
        assert!(is(&SecretSource::Env("SET".into()), "from-env"));
        assert!(is(&SecretSource::Inline(Secret::from("x\n".to_owned())), "x\n"));
    }
}
