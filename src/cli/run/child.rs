//! The child process of `keyward run`: starts it, forwards signals, and waits for its end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, getpid, kill_process, waitid};

use crate::cli::backup::PASSPHRASE_VARIABLE;
use crate::cli::environment::AgentEnvironment;
use crate::cli::failure::{Exit, Failure};
use crate::cli::signals::{ReceivedSignal, SignalSender, Signals};

/// Signals that are forwarded. The terminal sends the first four to the whole process group, which includes
/// the program.
const PASSED: &[Signal] = &[
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::TSTP,
    Signal::TERM,
    Signal::CONT,
    Signal::USR1,
    Signal::USR2,
];
const OF_TERMINALS: &[Signal] = &[Signal::INT, Signal::QUIT, Signal::HUP, Signal::TSTP];
/// Those that a process sends to this one alone. Shells send HUP and TSTP to the whole group.
const OF_PROCESSES: &[Signal] = &[Signal::INT, Signal::QUIT];

/// Prefix of Keyward's variables, which may hold secrets of the configuration.
const OVERRIDES: &str = "KEYWARD__";

/// A program to start in the environment of this process.
pub(crate) struct Invocation<'a> {
    pub(crate) program: &'a [OsString],
    /// Variables to set.
    pub(crate) environment: &'a AgentEnvironment,
    /// Inherited variables that the program must not see.
    pub(crate) withheld: &'a [&'a str],
    pub(crate) stdout: Stdio,
}

/// The running program.
pub(crate) struct Child {
    process: tokio::process::Child,
    pid: Option<Pid>,
    signals: Signals,
}

impl Child {
    /// # Errors
    /// When no program is given, or it cannot be started.
    pub(crate) fn spawn(invocation: Invocation<'_>) -> Result<Self, Failure> {
        let Invocation { program, environment, withheld, stdout } = invocation;
        let [name, arguments @ ..] = program else {
            return Err(Failure::usage("no program is given"));
        };
        let mut command = tokio::process::Command::new(name);
        command.args(arguments).stdout(stdout);
        withhold_own(command.as_std_mut());
        for variable in withheld {
            command.env_remove(variable);
        }
        for variable in &environment.removed {
            command.env_remove(variable);
        }
        // After the removals: a placeholder may replace a withheld secret.
        command.envs(environment.variables.iter().map(|(name, value)| (name, value)));
        // Before the start, so that no signal is lost.
        let signals = Signals::of(&[PASSED, &[Signal::CHILD]].concat())
            .map_err(|error| Failure::failed("cannot wait for signals", &error))?;
        let process = command.spawn().map_err(|error| refusal(name, &error))?;
        let pid = process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Ok(Self { process, pid, signals })
    }

    /// Forwards signals until the program ends, and stops with it. Returns its exit code, or 128 and the signal that ended it.
    pub(crate) async fn ended(&mut self) -> Result<u8, Failure> {
        let Self { process, pid, signals } = self;
        let status = loop {
            tokio::select! {
                status = process.wait() => break status,
                Ok(received) = signals.next() => match received.signal {
                    Signal::CHILD => stop_with(*pid),
                    _ => pass(received, *pid),
                },
            }
        };
        let status =
            status.map_err(|error| Failure::failed("cannot wait for the program", &error))?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Failed as u8))
    }
}

/// Withholds the variables of Keyward that hold secrets.
pub(crate) fn withhold_own(command: &mut std::process::Command) {
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(OVERRIDES.as_bytes()) {
            command.env_remove(variable);
        }
    }
    // A user's token has more rights than the agent's, and a backup has the secrets of all.
    command.env_remove("KEYWARD_TOKEN").env_remove(PASSPHRASE_VARIABLE);
}

/// Forwards a signal, unless the terminal has sent it to the program too: a second Ctrl-C has another
/// meaning in many programs.
fn pass(received: ReceivedSignal, program: Option<Pid>) {
    let ReceivedSignal { signal, sender } = received;
    if signal == Signal::TSTP && is_of_the_terminal(sender) {
        // Ctrl-Z: this process stops when the program has stopped, and only once.
        return;
    }
    let is_sent_here = sender == SignalSender::Process && OF_PROCESSES.contains(&signal);
    let of_terminal = OF_TERMINALS.contains(&signal) && !is_sent_here && is_in_foreground();
    if let (false, Some(program)) = (of_terminal, program)
        && let Err(error) = kill_process(program, signal)
    {
        tracing::debug!(%error, ?signal, "the program did not get a signal");
    }
    if signal == Signal::TSTP {
        // A handled SIGTSTP does not stop the process, so it stops itself, and the shell sees the job stop.
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

/// Whether the terminal has sent a SIGTSTP, also if it is read after the shell has taken the terminal.
fn is_of_the_terminal(sender: SignalSender) -> bool {
    match sender {
        SignalSender::Kernel => true,
        SignalSender::Process => false,
        SignalSender::Unknown => is_in_foreground(),
    }
}

/// Stops this process in the foreground of a terminal if the program has stopped: the shell waits for this process, and
/// takes the terminal only when it stops. SIGCONT is forwarded.
fn stop_with(program: Option<Pid>) {
    let Some(program) = program else { return };
    // The end of the program is not consumed here.
    let stops = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
    let has_stopped = matches!(waitid(WaitId::Pid(program), stops), Ok(Some(_)));
    if has_stopped && is_in_foreground() {
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

/// Whether the terminal's signals go to this process group.
fn is_in_foreground() -> bool {
    let terminal = fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| rustix::termios::tcgetpgrp(&terminal) == Ok(getpgrp()))
}

fn refusal(name: &OsString, error: &io::Error) -> Failure {
    let name = name.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::NoProgram, format!("program `{name}` was not found"))
                .hint("give its path, or add its directory to PATH")
        }
        _ => Failure::new(Exit::NotExecutable, format!("cannot execute `{name}`: {error}"))
            .hint("make it executable, or name its interpreter: keyward run -- sh SCRIPT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_start_has_the_exit_code_of_its_error() {
        let table = [
            (io::ErrorKind::NotFound, Exit::NoProgram),
            (io::ErrorKind::PermissionDenied, Exit::NotExecutable),
            (io::ErrorKind::Other, Exit::NotExecutable),
        ];
        for (kind, exit) in table {
            assert_eq!(refusal(&"x".into(), &io::Error::from(kind)).exit(), exit, "{kind}");
        }
    }
}
