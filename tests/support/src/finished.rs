//! A command that has ended: its exit code, and what it printed.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::wire::PATIENCE;

/// What a command did.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// Runs a command with `input` on standard input.
pub fn finished(mut command: Command, input: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program is there");
    let mut stdin = child.stdin.take().expect("piped");
    // The program may end before it reads.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    Finished::from(child.wait_with_output().expect("our child"))
}

/// Starts a command and kills it when `moment` has come; it may end before.
pub fn killed_at(mut command: Command, mut moment: impl FnMut() -> bool) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program is there");
    let began = Instant::now();
    while child.try_wait().expect("our child").is_none() && !moment() {
        assert!(began.elapsed() < PATIENCE, "it neither ends nor comes to the moment");
        std::thread::yield_now();
    }
    child.kill().expect("our child");
    child.wait().expect("our child");
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

impl Finished {
    /// Its standard output, when it succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Its standard error, when it failed with this code.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.err
    }

    /// Its standard output as JSON, when it succeeded.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("JSON")
    }
}
