//! The test of a connection to a file: whether it exists, what it is, and what this user may do with it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use super::diagnosis::Diagnosis;
use super::status::Trial;
use crate::connections::file::ConnectionFile;
use crate::context::Context;
use crate::error::ApiError;
use crate::wire::{ConnectionTested, TestOutcome};
use keyward_state::directory::ConnectionRecord;

/// What is found at the path.
#[derive(Debug, Eq, PartialEq)]
enum FoundFile {
    /// Nothing.
    Absent,
    /// A folder, where a file is wanted.
    Folder,
    /// A socket, a device, a pipe.
    Special,
    /// A file without content.
    Empty,
    /// A file that begins otherwise.
    OtherFormat,
    /// It cannot be read.
    Unreadable(io::ErrorKind),
    /// As it is wanted.
    Usable { is_writable: bool },
}

/// Looks at the file.
///
/// # Errors
/// When the look is interrupted.
pub(super) async fn tested(
    context: &Context,
    connection: &ConnectionRecord,
    provider: &str,
    trial: Option<Trial>,
) -> Result<ConnectionTested, ApiError> {
    let (admin, caller) = (&context.admin, &context.caller);
    let file = match trial {
        Some(trial) => ConnectionFile::given(admin, connection, trial.shown),
        None => ConnectionFile::of(admin, connection).await,
    };
    let diagnosis = match file {
        None => Diagnosis::new(TestOutcome::NotSent, "the path of the file cannot be read"),
        // The answers would tell others which files this machine has.
        Some(_) if !(caller.edits_all() && caller.reads_install()) => {
            let message = "only an admin may test what is on the gateway's machine";
            Diagnosis::new(TestOutcome::NotSent, message).hint("ask one, or add it untested")
        }
        Some(file) if file.is_private(admin).await => {
            let message = format!("{} leads to Keyward's own files", file.path);
            Diagnosis::new(TestOutcome::AddressRefused, message)
                .hint("no agent gets it: give another path")
        }
        Some(file) => {
            let (path, begins) = (file.path.clone(), file.text.begins.clone());
            let look = move || look(Path::new(&path), begins.as_bytes());
            let found = tokio::task::spawn_blocking(look).await.map_err(ApiError::internal)?;
            diagnosed(&file, provider, &found)
        }
    };
    Ok(diagnosis.of(connection))
}

/// Nothing is written, and no pipe is opened, which would wait.
fn look(path: &Path, begins: &[u8]) -> FoundFile {
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return FoundFile::Absent,
        Err(error) => return FoundFile::Unreadable(error.kind()),
    };
    if found.is_dir() && begins.is_empty() {
        return FoundFile::Usable { is_writable: !found.permissions().readonly() };
    }
    if found.is_dir() {
        return FoundFile::Folder;
    }
    read(path, &found, begins).unwrap_or_else(|error| FoundFile::Unreadable(error.kind()))
}

fn read(path: &Path, found: &Metadata, begins: &[u8]) -> io::Result<FoundFile> {
    if !found.is_file() {
        return Ok(FoundFile::Special);
    }
    if found.len() == 0 && !begins.is_empty() {
        return Ok(FoundFile::Empty);
    }
    let (mut first, wanted) = (Vec::new(), u64::try_from(begins.len()).unwrap_or(u64::MAX));
    File::open(path)?.take(wanted).read_to_end(&mut first)?;
    if first != begins {
        return Ok(FoundFile::OtherFormat);
    }
    Ok(FoundFile::Usable { is_writable: OpenOptions::new().write(true).open(path).is_ok() })
}

fn diagnosed(file: &ConnectionFile, provider: &str, found: &FoundFile) -> Diagnosis {
    let path = &file.path;
    let (outcome, message, hint) = match found {
        FoundFile::Absent => (
            TestOutcome::WrongAddress,
            format!("{path} does not exist on the gateway's machine"),
            "correct the path, or make the file first",
        ),
        FoundFile::Folder => (
            TestOutcome::UnexpectedAnswer,
            format!("{path} is a folder, not a file of {provider}"),
            "name the file in it",
        ),
        FoundFile::Special => (
            TestOutcome::UnexpectedAnswer,
            format!("{path} is neither a file nor a folder"),
            "name a file",
        ),
        FoundFile::Empty => (
            TestOutcome::UnexpectedAnswer,
            format!("{path} is empty: it is no file of {provider} yet"),
            "a program that may write makes it one; it can be used untested",
        ),
        FoundFile::OtherFormat => (
            TestOutcome::UnexpectedAnswer,
            format!("{path} does not begin as a file of {provider} does"),
            "name another file",
        ),
        FoundFile::Unreadable(kind) => (
            TestOutcome::MissingPermission,
            format!("{path} cannot be read by the gateway's user: {kind}"),
            "programs have the rights of their own user: it can be used untested",
        ),
        FoundFile::Usable { is_writable } => return usable(file, provider, *is_writable),
    };
    Diagnosis::new(outcome, message).hint(hint)
}

/// `/srv/app.db is a file of SQLite: readable and writable; read_only is advisory`.
fn usable(file: &ConnectionFile, provider: &str, is_writable: bool) -> Diagnosis {
    let what = match file.text.begins.is_empty() {
        true => "exists".to_owned(),
        false => format!("is a file of {provider}"),
    };
    let rights = if is_writable { "readable and writable" } else { "readable, not writable" };
    let mode = match (file.read_only, is_writable) {
        (true, true) => "; read_only is advisory",
        (true, false) | (false, _) => "",
    };
    let diagnosis =
        Diagnosis::new(TestOutcome::Ok, format!("{} {what}: {rights}{mode}", file.path));
    match (file.read_only, is_writable) {
        (true, true) => diagnosis.hint(
            "the rights of the agent's user decide: run it as a user who may only read the file",
        ),
        (false, false) => diagnosis.hint("programs that write need the rights of another user"),
        (true, false) | (false, true) => diagnosis,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGINS: &[u8] = b"Format 1\0";

    #[test]
    fn a_file_is_told_from_what_only_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("good"), b"Format 1\0and more").unwrap();
        std::fs::write(at("empty"), b"").unwrap();
        std::fs::write(at("short"), b"Format").unwrap();
        std::fs::write(at("text"), b"Format 2\0and more").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, found) in [
            ("good", FoundFile::Usable { is_writable: true }),
            ("empty", FoundFile::Empty),
            ("short", FoundFile::OtherFormat),
            ("text", FoundFile::OtherFormat),
            ("absent", FoundFile::Absent),
            ("good/below", FoundFile::Unreadable(io::ErrorKind::NotADirectory)),
            ("socket", FoundFile::Special),
            ("", FoundFile::Folder),
        ] {
            assert_eq!(look(&at(name), BEGINS), found, "{name}");
        }
        for name in ["good", "empty", ""] {
            assert_eq!(look(&at(name), b""), FoundFile::Usable { is_writable: true }, "{name}");
        }
        assert_eq!(std::fs::read(at("good")).unwrap(), b"Format 1\0and more", "nothing is written");
    }
}
