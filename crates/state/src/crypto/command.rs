//! Runs a program and returns its output, bounded in time and length. Used for master keys and secrets in the
//! configuration; the caller interprets the output.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use keyward_base::secret::Secret;

/// Poll interval for the exit of a program that has closed its output.
const POLL: Duration = Duration::from_millis(5);

/// Variables that programs need to be found, and to find their own files.
const KEPT: [&str; 2] = ["PATH", "HOME"];

/// Limits of a program's time and output.
#[derive(Clone, Copy, Debug)]
pub struct CommandLimits {
    /// Maximum run time.
    pub timeout: Duration,
    /// Maximum number of bytes read; further output is discarded.
    pub bytes_max: usize,
}

/// Why there is no output. The message names the program without its arguments, and never quotes its output.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("command is empty: give the program and its arguments")]
    Empty,
    /// The program cannot be started, or its output cannot be read.
    #[error("command `{program}` cannot be run: {source}")]
    Broken {
        /// The program's path.
        program: String,
        source: io::Error,
    },
    /// The program failed.
    #[error("command `{program}` failed ({status}): run it by hand to see why")]
    Failed {
        /// The program's path.
        program: String,
        status: ExitStatus,
    },
    /// The program did not exit in time.
    #[error("command `{program}` did not end within {} s", .timeout.as_secs())]
    Timeout {
        /// The program's path.
        program: String,
        timeout: Duration,
    },
}

impl CommandError {
    /// Whether the program was run and gave nothing, such as one that asks a service: it may give something later.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Timeout { .. })
    }
}

/// The environment of a program.
#[derive(Clone, Debug)]
pub enum ChildEnvironment<'a> {
    /// The environment of this process, without these variables, which hold its secrets.
    Without(&'a [&'a str]),
    /// PATH and HOME of this process, and these variables.
    Only(BTreeMap<String, Secret>),
}

/// A started program.
struct Program {
    child: Child,
    /// Whether the program leads a process group. Programs that it started are in the group, and may hold its output
    /// open.
    leads_group: bool,
}

impl ChildEnvironment<'_> {
    /// Whether the program gets a process group of its own. A program that asks on the terminal gets none, because only
    /// the foreground group may read from the terminal: commands for master keys may ask.
    fn has_own_group(&self) -> bool {
        matches!(self, Self::Only(_))
    }

    fn give(&self, command: &mut Command) {
        match self {
            Self::Without(hidden) => {
                for variable in *hidden {
                    command.env_remove(variable);
                }
            }
            Self::Only(variables) => {
                command.env_clear();
                for kept in KEPT {
                    command.envs(std::env::var_os(kept).map(|value| (kept, value)));
                }
                let text = |secret: &Secret| OsStr::from_bytes(secret.expose()).to_owned();
                command.envs(variables.iter().map(|(name, value)| (name, text(value))));
            }
        }
    }
}

/// Runs a program with empty standard input and without the `hidden` environment variables, which hold secrets
/// of this process. Blocks until it has exited.
///
/// # Errors
/// When it cannot be run, fails, or exceeds the time limit and was killed.
pub fn output_of(
    words: &[String],
    hidden: &[&str],
    bounds: CommandLimits,
    stderr: Stdio,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    output_in(words, &ChildEnvironment::Without(hidden), bounds, stderr)
}

/// Runs a program with empty standard input and this environment. Blocks until it has exited. With
/// [`ChildEnvironment::Only`], the programs that it started are killed with it.
///
/// # Errors
/// As [`output_of`].
pub fn output_in(
    words: &[String],
    environment: &ChildEnvironment<'_>,
    bounds: CommandLimits,
    stderr: Stdio,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let (program, arguments) = words.split_first().ok_or(CommandError::Empty)?;
    let broken = |source| CommandError::Broken { program: program.clone(), source };
    let deadline = Instant::now() + bounds.timeout;
    let mut command = Command::new(program);
    environment.give(&mut command);
    if environment.has_own_group() {
        command.process_group(0);
    }
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(broken)?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || {
        // After a timeout the receiver was dropped, and so is the output.
        let _gone = done.send(read_bounded(stdout, bounds.bytes_max));
    });
    let text = output.recv_timeout(bounds.timeout).ok();
    let mut started = Program { child, leads_group: environment.has_own_group() };
    let status = match &text {
        Some(_) => started.ended(deadline),
        // Killed also if the program has exited, because another program in its group holds its output.
        None => started.kill().map(|()| None),
    };
    match (text, status.map_err(broken)?) {
        (Some(text), Some(status)) if status.success() => text.map_err(broken),
        (Some(_), Some(status)) => Err(CommandError::Failed { program: program.clone(), status }),
        _ => Err(CommandError::Timeout { program: program.clone(), timeout: bounds.timeout }),
    }
}

impl Program {
    /// Waits for the program; `None` when it had to be killed at the deadline.
    fn ended(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return self.kill().map(|()| None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Kills the program, with its group if it leads one, and waits for it. Must not be called after its exit was
    /// collected, because another group could have its id by then.
    fn kill(&mut self) -> io::Result<()> {
        // Killing a program that has just exited fails, which is harmless.
        if self.leads_group {
            let _ended = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        } else {
            let _ended = self.child.kill();
        }
        self.child.wait().map(drop)
    }
}

/// Reads into a buffer of fixed size, because growing it would leave copies of the secret.
pub(super) fn read_bounded(from: impl Read, bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // `read_to_end` probes for the end with a few bytes of room.
    let mut text = Zeroizing::new(Vec::with_capacity(bytes_max + 64));
    from.take(bytes_max as u64).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout_ms: u64) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        let words = ["sh", "-c", script].map(str::to_owned);
        let bounds = CommandLimits { timeout: Duration::from_millis(timeout_ms), bytes_max: 16 };
        output_of(&words, &[], bounds, Stdio::null())
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_even_after_it_closed_its_output() {
        for script in ["exec sleep 60", "echo canary; exec sleep 60 >&-"] {
            let began = Instant::now();
            let refused = shell(script, 50).unwrap_err();
            assert!(matches!(refused, CommandError::Timeout { .. }), "{script}: {refused}");
            assert!(began.elapsed() < Duration::from_secs(20), "{script}");
        }
    }

    #[test]
    fn programs_that_a_killed_program_started_are_killed_with_it() {
        for script in ["sleep 60; :", "sleep 60 & :", "sleep 60 >&- & exec sleep 60 >&-"] {
            let began = Instant::now();
            // Each program of the script holds the writer.
            let (mut held, writer) = io::pipe().unwrap();
            let words = ["sh", "-c", script].map(str::to_owned);
            let bounds = CommandLimits { timeout: Duration::from_millis(50), bytes_max: 16 };
            let environment = ChildEnvironment::Only(BTreeMap::new());
            let refused = output_in(&words, &environment, bounds, Stdio::from(writer)).unwrap_err();
            assert!(matches!(refused, CommandError::Timeout { .. }), "{script}: {refused}");
            held.read_to_end(&mut Vec::new()).unwrap();
            assert!(began.elapsed() < Duration::from_secs(20), "{script}: a program remains");
        }
    }

    #[test]
    fn a_failure_is_reported_without_the_output() {
        let refused = shell("echo canary; exit 3", 60_000).unwrap_err();
        assert!(matches!(refused, CommandError::Failed { .. }), "{refused}");
        assert!(!refused.to_string().contains("canary"), "{refused}");
        let bounds = CommandLimits { timeout: Duration::from_secs(60), bytes_max: 16 };
        let absent = ["keyward-no-such-program".to_owned()];
        let refused = output_of(&absent, &[], bounds, Stdio::null()).unwrap_err();
        assert!(matches!(refused, CommandError::Broken { .. }), "{refused}");
        assert!(matches!(output_of(&[], &[], bounds, Stdio::null()), Err(CommandError::Empty)));
    }

    #[test]
    fn no_more_output_than_the_limit_is_read() {
        assert_eq!(shell("printf 0123456789abcdef-", 60_000).unwrap().len(), 16);
        assert_eq!(&**shell("echo fine", 60_000).unwrap(), b"fine\n");
    }
}
