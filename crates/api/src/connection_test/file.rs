//! The test of a connection to a file: whether it exists, what it is, and what this user may do with it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use super::diagnosis::Diagnosis;
use super::status::Trial;
use crate::connections::file::ConnectionFile;
use crate::context::Context;
use crate::error::ApiError;
use crate::wire::{ConnectionTested, TestOutcome};
use keyward_state::directory::ConnectionRecord;

/// Why what is at the path cannot be used.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
enum Misfit {
    #[error("it does not exist on the gateway's machine")]
    Absent,
    #[error("it is a folder")]
    Folder,
    #[error("it is neither a file nor a folder")]
    Special,
    #[error("it is empty")]
    Empty,
    #[error("it does not begin as one does")]
    OtherFormat,
    #[error("the gateway's user cannot read it: {0}")]
    Unreadable(io::ErrorKind),
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
    let Some(file) = file else {
        let message = "the path of the file cannot be read";
        return Ok(Diagnosis::new(TestOutcome::NotSent, message).of(connection));
    };
    // The answers would tell others which files this machine has.
    if !(caller.edits_all() && caller.reads_install()) {
        let message = "only an admin may test what is on the gateway's machine";
        let diagnosis = Diagnosis::new(TestOutcome::NotSent, message);
        return Ok(diagnosis.hint("ask one, or add it untested").of(connection));
    }
    if file.is_private(admin).await {
        let message = format!("{} leads to Keyward's own files", file.path);
        let diagnosis = Diagnosis::new(TestOutcome::AddressRefused, message);
        return Ok(diagnosis.hint("no agent gets it: give another path").of(connection));
    }
    let (path, begins) = (file.path.clone(), file.text.begins.clone());
    let found = tokio::task::spawn_blocking(move || look(Path::new(&path), begins.as_bytes()));
    let diagnosis = match found.await.map_err(ApiError::internal)? {
        Ok(is_writable) => usable(&file, provider, is_writable),
        Err(misfit) => unusable(&file.path, provider, &misfit),
    };
    Ok(diagnosis.of(connection))
}

/// Whether the file can be written. Nothing is, and no pipe is opened, which would wait.
fn look(path: &Path, begins: &[u8]) -> Result<bool, Misfit> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Misfit::Absent,
        kind => Misfit::Unreadable(kind),
    };
    let found = path.metadata().map_err(unreadable)?;
    if found.is_dir() && begins.is_empty() {
        return Ok(!found.permissions().readonly());
    }
    if found.is_dir() {
        return Err(Misfit::Folder);
    }
    if !found.is_file() {
        return Err(Misfit::Special);
    }
    if found.len() == 0 && !begins.is_empty() {
        return Err(Misfit::Empty);
    }
    let (mut first, wanted) = (Vec::new(), u64::try_from(begins.len()).unwrap_or(u64::MAX));
    let file = File::open(path).map_err(unreadable)?;
    file.take(wanted).read_to_end(&mut first).map_err(unreadable)?;
    if first != begins {
        return Err(Misfit::OtherFormat);
    }
    Ok(OpenOptions::new().write(true).open(path).is_ok())
}

fn unusable(path: &str, provider: &str, misfit: &Misfit) -> Diagnosis {
    let rights = "programs have the rights of their own user: it can be used untested";
    let (outcome, hint) = match misfit {
        Misfit::Absent => (TestOutcome::WrongAddress, "correct the path, or make the file first"),
        Misfit::Unreadable(_) => (TestOutcome::MissingPermission, rights),
        Misfit::Empty => (
            TestOutcome::UnexpectedAnswer,
            "the first program that writes makes it one: it can be used untested",
        ),
        Misfit::Folder | Misfit::Special | Misfit::OtherFormat => {
            (TestOutcome::UnexpectedAnswer, "name another file")
        }
    };
    Diagnosis::new(outcome, format!("{path} is no file of {provider}: {misfit}")).hint(hint)
}

/// `/srv/app.db is a file of SQLite: readable and writable; read_only is advisory`.
fn usable(file: &ConnectionFile, provider: &str, is_writable: bool) -> Diagnosis {
    let what = match file.text.begins.is_empty() {
        true => "exists".to_owned(),
        false => format!("is a file of {provider}"),
    };
    let rights = if is_writable { "readable and writable" } else { "readable, not writable" };
    let message = format!("{} {what}: {rights}", file.path);
    match file.read_only && is_writable {
        false => Diagnosis::new(TestOutcome::Ok, message),
        true => Diagnosis::new(TestOutcome::Ok, format!("{message}; read_only is advisory")).hint(
            "the rights of the agent's user decide: run it as a user who may only read the file",
        ),
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
            ("good", Ok(true)),
            ("empty", Err(Misfit::Empty)),
            ("short", Err(Misfit::OtherFormat)),
            ("text", Err(Misfit::OtherFormat)),
            ("absent", Err(Misfit::Absent)),
            ("good/below", Err(Misfit::Unreadable(io::ErrorKind::NotADirectory))),
            ("socket", Err(Misfit::Special)),
            ("", Err(Misfit::Folder)),
        ] {
            assert_eq!(look(&at(name), BEGINS), found, "{name}");
        }
        for name in ["good", "empty", ""] {
            assert_eq!(look(&at(name), b""), Ok(true), "{name}");
        }
        assert_eq!(std::fs::read(at("good")).unwrap(), b"Format 1\0and more", "nothing is written");
    }
}
