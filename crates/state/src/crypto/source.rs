//! Sources of master keys: a private file, an environment variable, or a command. It also creates the key file
//! of a new installation.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER_PERMISSIVE;
use zeroize::Zeroizing;

use super::command::{self, CommandLimits};
use super::key_file;
pub use super::key_file::KeyError;
use super::keyring::{KeyOrigin, Keyring, MasterKey};
use super::private_file::gateway_file;
use keyward_base::secret::Secret;
use keyward_envelope::{KEY_LEN, random};

/// Maximum length of a key's text: 64 bytes and possibly a line end.
const TEXT_LEN_MAX: usize = 256;

/// Maximum length of a key file. It may contain several keys, the current one first, as during a rotation.
const FILE_LEN_MAX: usize = 1024;

/// A command may ask a person or a key service, but must not block the start forever.
const COMMAND: CommandLimits =
    CommandLimits { timeout: Duration::from_secs(60), bytes_max: TEXT_LEN_MAX };

/// The source of a master key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    /// A file of mode 0600 (or 0400) with 64 hex digits or 44 base64 characters. Further lines are older keys.
    File(PathBuf),
    /// An environment variable in the same format.
    Env(String),
    /// A command that prints the same format.
    Command(Vec<String>),
}

impl KeySource {
    /// Loads all sources: the first key is current, the others are for reading. `variable` looks up environment
    /// variables. Blocks, up to a minute for a command, which does not get the `hidden` variables.
    ///
    /// # Errors
    /// When a source yields no key. A missing older key is an error too, because it would be noticed only when a row
    /// needs it.
    pub fn load(
        sources: &[KeySource],
        variable: impl Fn(&str) -> Option<Secret>,
        hidden: &[&str],
    ) -> Result<Keyring, KeyError> {
        let mut keys = Vec::new();
        for source in sources {
            let origin = source.origin();
            let read = source.read(&variable, hidden)?;
            keys.extend(read.into_iter().map(|key| MasterKey::new(key, origin.clone())));
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or(KeyError::NoSource)?;
        Ok(Keyring::new(current, keys))
    }

    /// Creates a file with a new random key (0600, write + fsync + link + fsync of the directory).
    ///
    /// # Errors
    /// [`KeyError::Exists`] instead of overwriting; [`KeyError::Unwritable`].
    pub fn create_file(path: &Path) -> Result<(), KeyError> {
        key_file::create(path, &random())
    }

    fn origin(&self) -> KeyOrigin {
        match self {
            Self::File(path) => KeyOrigin::File(path.clone()),
            Self::Env(name) => KeyOrigin::Env(name.clone()),
            Self::Command(words) => KeyOrigin::Command(words.first().cloned().unwrap_or_default()),
        }
    }

    fn read(
        &self,
        variable: impl Fn(&str) -> Option<Secret>,
        hidden: &[&str],
    ) -> Result<Vec<Zeroizing<[u8; KEY_LEN]>>, KeyError> {
        let one = match self {
            Self::File(path) => {
                let text = gateway_file(path, FILE_LEN_MAX)?;
                let lines = text.trim_ascii().split(|byte| *byte == b'\n');
                return lines.map(|line| parse(line, || path.display().to_string())).collect();
            }
            Self::Env(name) => {
                let text = variable(name).ok_or_else(|| KeyError::EnvMissing(name.clone()))?;
                parse(text.expose(), || format!("environment variable {name}"))
            }
            Self::Command(words) => {
                // Standard error is the user's terminal: a command may ask there.
                let text = command::output_of(words, hidden, COMMAND, Stdio::inherit())?;
                let program = words.first().map(String::as_str).unwrap_or_default();
                parse(&text, || format!("the output of `{program}`"))
            }
        };
        Ok(vec![one?])
    }
}

fn parse(text: &[u8], place: impl Fn() -> String) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let text = text.trim_ascii();
    let key =
        hex32(text).or_else(|| base64_32(text)).ok_or_else(|| KeyError::Malformed(place()))?;
    match key.iter().all(|byte| *byte == key[0]) {
        true => Err(KeyError::Weak(place())),
        false => Ok(key),
    }
}

/// Parses 64 hex digits of either case.
pub fn hex32(text: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let mut key: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new([0; KEY_LEN]);
    if text.len() != 2 * KEY_LEN {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode_mut(text, key.as_mut_slice()).ok()?;
    Some(key)
}

/// Parses 44 characters of base64 (RFC 4648 §4) with padding.
fn base64_32(text: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    // The decoder needs capacity for the padding too.
    let mut decoded = Zeroizing::new([0; KEY_LEN + 1]);
    if text.len() != 44 {
        return None;
    }
    let length = STANDARD.decode_slice(text, decoded.as_mut_slice()).ok()?;
    let mut key: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new([0; KEY_LEN]);
    (length == KEY_LEN).then(|| key.copy_from_slice(&decoded[..KEY_LEN]))?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::crypto::command::CommandError;
    use crate::crypto::private_file::FileError;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, KeySource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, KeySource::File(path))
    }

    fn load(sources: &[KeySource]) -> Result<Keyring, KeyError> {
        KeySource::load(sources, |name| (name == "SET").then(|| Secret::from(HEX.to_owned())), &[])
    }

    fn shell(script: &str) -> KeySource {
        KeySource::Command(["sh", "-c", script].map(str::to_owned).into())
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_without_showing_it() {
        let nearly = "g".repeat(64);
        for bad in ["", "\n", "hunter2", &HEX[1..], &format!("{HEX}0"), &nearly, &"A".repeat(44)] {
            let (_dir, source) = file(bad, 0o600);
            let refused = load(&[source]).unwrap_err();
            assert!(matches!(refused, KeyError::Malformed(_)), "{bad}: {refused}");
            assert!(bad.trim().is_empty() || !refused.to_string().contains(bad), "{refused}");
        }
        let (_dir, source) = file(&"7a".repeat(32), 0o600);
        assert!(matches!(load(&[source]), Err(KeyError::Weak(_))));
    }

    #[test]
    fn the_first_key_of_a_file_is_current_and_the_others_are_kept() {
        let other = HEX.replace("00", "ff");
        let (_a, both) = file(&format!("{other}\n{HEX}\n"), 0o600);
        let (_b, one) = file(&format!("{other}\n"), 0o600);
        let (both, one) = (load(&[both]).unwrap(), load(&[one]).unwrap());
        assert_eq!((both.current(), both.keys().len()), (one.current(), 2));
        for bad in [format!("{other}\n{}", &HEX[1..]), format!("{other}\n\n{HEX}")] {
            let (_dir, source) = file(&bad, 0o600);
            assert!(matches!(load(&[source]), Err(KeyError::Malformed(_))), "a key may be missing");
        }
    }

    #[test]
    fn a_missing_file_a_directory_and_no_source_are_refused_with_distinct_errors() {
        let dir = tempfile::tempdir().unwrap();
        let missing = KeySource::File(dir.path().join("nothing"));
        assert!(matches!(load(&[missing]), Err(KeyError::Missing(_))));
        let directory = KeySource::File(dir.path().into());
        assert!(matches!(load(&[directory]), Err(KeyError::File(FileError::NotAFile(_)))));
        assert!(matches!(load(&[]), Err(KeyError::NoSource)));
    }

    #[test]
    fn an_old_key_that_is_missing_stops_the_start() {
        let (dir, current) = file(HEX, 0o600);
        let old = KeySource::File(dir.path().join("old.key"));
        assert!(matches!(load(&[current, old]), Err(KeyError::Missing(_))));
    }

    #[test]
    fn an_unset_variable_is_named() {
        let refused = load(&[KeySource::Env("UNSET".into())]).unwrap_err();
        assert!(refused.to_string().contains("variable UNSET"), "{refused}");
    }

    #[test]
    fn a_command_that_gives_no_key_is_reported_without_its_output() {
        let failed = load(&[shell(&format!("echo {HEX}; exit 3"))]).unwrap_err();
        assert!(matches!(failed, KeyError::Command(_)), "{failed}");
        assert!(failed.to_string().starts_with("master key command `sh` failed"), "{failed}");
        assert!(!failed.to_string().contains(HEX), "{failed}");
        let empty = KeySource::Command(vec![]);
        assert!(matches!(load(&[empty]), Err(KeyError::Command(CommandError::Empty))));
        assert!(load(&[shell("yes | head -c 100000")]).is_err());
    }

    #[test]
    fn hex_base64_variables_and_commands_give_the_same_key() {
        let (_a, hex) = file(&format!("{}\n", HEX.to_uppercase()), 0o600);
        let (_b, base64) = file("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 0o400);
        let variable = KeySource::Env("SET".into());
        let ids = [hex, base64, variable, shell(&format!("echo {HEX}"))]
            .map(|source| load(&[source]).unwrap().current());
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn a_new_key_file_is_private_and_random_and_never_replaces_an_existing_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        KeySource::create_file(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        let made = load(&[KeySource::File(path.clone())]).unwrap().current();
        assert!(matches!(KeySource::create_file(&path), Err(KeyError::Exists(_))));
        assert_eq!(load(&[KeySource::File(path)]).unwrap().current(), made);
        let names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["master.key"], "no draft stays behind");
        let other = dir.path().join("other.key");
        KeySource::create_file(&other).unwrap();
        assert_ne!(load(&[KeySource::File(other)]).unwrap().current(), made);
        let nowhere = dir.path().join("absent/master.key");
        assert!(matches!(KeySource::create_file(&nowhere), Err(KeyError::Unwritable { .. })));
    }
}
