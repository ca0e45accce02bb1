//! Reads secrets that lie outside the store: files that only their owner may read, and what programs
//! print. What the bytes mean is for `source.rs` and the configuration to say.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// Between two looks at whether a command that has closed its output has ended as well.
const COMMAND_POLL: Duration = Duration::from_millis(5);

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No such file.
    #[error("file {0} does not exist")]
    Missing(PathBuf),
    /// The file cannot be opened or read.
    #[error("file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("file {0} is not a regular file")]
    NotAFile(PathBuf),
    /// Others can read it.
    #[error(
        "file {path} has mode {mode:04o}, so others can read it: run `chmod 600` on it and consider its content known"
    )]
    Loose {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Neither this user's nor root's.
    #[error(
        "file {path} belongs to user {owner}: it must belong to the user that runs keyward, or to root"
    )]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
}

/// Why a command gave nothing. Names the program, neither its arguments nor what it printed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No program at all.
    #[error("command is empty: give the program and its arguments")]
    Empty,
    /// The program cannot be started or its output not read.
    #[error("command `{program}` cannot be run: {source}")]
    Broken {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("command `{program}` failed ({status}): run it by hand to see why")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It did not end.
    #[error("command `{program}` did not end within {} s", patience.as_secs())]
    Timeout {
        /// The program.
        program: String,
        /// How long it was given.
        patience: Duration,
    },
}

/// The first `bytes_max` bytes of a file of mode 0600 or stricter, that is this user's or root's.
///
/// # Errors
/// [`FileError`].
pub fn private_file(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.into(), source };
    // Without O_NONBLOCK, opening a pipe would wait for a writer.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.into()),
        _ => unreadable(source),
    })?;
    // Checks are made on the open file, not on its name: nobody can swap it in between.
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(FileError::NotAFile(path.into()));
    }
    let owner = about.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(FileError::ForeignOwner { path: path.into(), owner });
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Loose { path: path.into(), mode });
    }
    read_bounded(file, bytes_max).map_err(unreadable)
}

/// The first `bytes_max` bytes that a program prints, once it has ended well. `words` are the program
/// and its arguments; it has no standard input, and is killed after `patience`.
///
/// # Errors
/// [`CommandError`].
pub fn output_of(
    words: &[String],
    stderr: Stdio,
    patience: Duration,
    bytes_max: usize,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let (program, arguments) = words.split_first().ok_or(CommandError::Empty)?;
    let program = program.clone();
    let broken = |source| CommandError::Broken { program: program.clone(), source };
    let deadline = Instant::now() + patience;
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(broken)?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || {
        // The receiver is gone after a timeout: then nobody wants the output.
        let _gone = done.send(read_bounded(stdout, bytes_max));
    });
    let text = output.recv_timeout(patience).ok();
    let status = ended(&mut child, text.as_ref().map_or(Instant::now(), |_| deadline));
    match (text, status.map_err(broken)?) {
        (Some(text), Some(status)) if status.success() => text.map_err(broken),
        (Some(_), Some(status)) => Err(CommandError::Failed { program, status }),
        _ => Err(CommandError::Timeout { program, patience }),
    }
}

/// Into a buffer that never grows: growing would leave copies behind.
fn read_bounded(from: impl Read, bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(bytes_max + 64));
    from.take(bytes_max as u64).read_to_end(&mut text)?;
    Ok(text)
}

/// How the child ended; `None` when it had to be killed at the deadline.
fn ended(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            // Killing what has just ended by itself fails, which is as good.
            let _ended = child.kill();
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(COMMAND_POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn shell(script: &str, patience: Duration) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        let words = ["sh", "-c", script].map(str::to_owned);
        output_of(&words, Stdio::null(), patience, 8)
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "canary").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601, 0o644, 0o666, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = private_file(&path, 64).unwrap_err();
            assert!(matches!(refused, FileError::Loose { mode: m, .. } if m == mode), "{refused}");
            let said = refused.to_string();
            assert!(said.contains("chmod 600") && !said.contains("canary"), "{said}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(private_file(&path, 4).unwrap().as_slice(), b"cana");
    }

    #[test]
    fn a_missing_file_and_a_directory_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let absent = private_file(&dir.path().join("nothing"), 64);
        assert!(matches!(absent, Err(FileError::Missing(path)) if path.ends_with("nothing")));
        assert!(matches!(private_file(dir.path(), 64), Err(FileError::NotAFile(_))));
    }

    #[test]
    fn a_command_that_fails_or_is_absent_is_told_without_its_output() {
        let minute = Duration::from_secs(60);
        let failed = shell("echo canary; echo canary >&2; exit 3", minute).unwrap_err();
        assert!(matches!(failed, CommandError::Failed { .. }), "{failed}");
        assert!(!failed.to_string().contains("canary"), "{failed}");
        let absent = ["keyward-no-such-program".to_owned()];
        let absent = output_of(&absent, Stdio::null(), minute, 8);
        assert!(matches!(absent, Err(CommandError::Broken { .. })));
        let none = output_of(&[], Stdio::null(), minute, 8);
        assert!(matches!(none, Err(CommandError::Empty)));
    }

    #[test]
    fn a_command_is_killed_when_its_time_is_up_also_with_its_output_closed() {
        for script in ["exec sleep 60", "echo x; exec sleep 60 >&-"] {
            let endless = shell(script, Duration::from_millis(50));
            assert!(matches!(endless, Err(CommandError::Timeout { .. })), "{script}");
        }
    }

    #[test]
    fn a_command_that_prints_too_much_is_cut_or_fails() {
        let minute = Duration::from_secs(60);
        assert_eq!(shell("echo 123456789", minute).unwrap().as_slice(), b"12345678");
        assert!(shell("yes", minute).is_err(), "it ends by the closed pipe");
    }
}
