//! Runs the `keyward` program on a data directory of its own, without a terminal.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::process::built;
use crate::canary::Canary;
use crate::finished::{Finished, finished};

/// Input of at least this length is taken for a secret: what an agent's token must have.
const SECRET_BYTES_MIN: usize = 20;

/// A data directory, and the program to use it with. What it is given as a secret must be in
/// nothing that it says afterwards, nor in its files.
pub struct Cli {
    home: tempfile::TempDir,
    secrets: RefCell<Vec<Canary>>,
}

/// A gateway in a process of its own; killed when dropped.
pub struct Serving {
    child: Child,
}

impl Cli {
    /// On an empty data directory.
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { home, secrets: RefCell::default() }
    }

    /// With the agent `ci`.
    pub fn with_agent() -> Self {
        let cli = Self::new();
        cli.run(&["agent", "add", "ci"]).ok();
        cli
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A file beside the data directory.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Runs `keyward` with these arguments.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, "")
    }

    /// The same, with `input` on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Finished {
        let done = finished(self.command(arguments), input);
        let secrets = input.lines().filter(|line| line.len() >= SECRET_BYTES_MIN);
        self.secrets.borrow_mut().extend(secrets.map(|line| Canary::of(line.to_owned())));
        for secret in &*self.secrets.borrow() {
            secret.assert_absent("standard output", done.out.as_bytes());
            secret.assert_absent("standard error", done.err.as_bytes());
        }
        done
    }

    /// Starts a gateway on free ports; returns when it is ready.
    pub fn serve(&self) -> Serving {
        self.serve_with("")
    }

    /// The same, with more lines of configuration.
    pub fn serve_with(&self, more: &str) -> Serving {
        let listen = "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";
        let config = self.file("keyward.yaml", &format!("{listen}{more}"));
        let config = config.to_str().expect("a path in UTF-8");
        let mut child =
            self.command(&["serve", "--config", config]).spawn().expect("keyward starts");
        let mut lines = BufReader::new(child.stderr.as_mut().expect("stderr is piped"));
        let mut said = String::new();
        while !said.contains("ready") {
            assert_ne!(lines.read_line(&mut said).expect("text"), 0, "it ended: {said}");
        }
        Serving { child }
    }

    /// The program with these arguments; its output is piped.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built());
        for name in ["KEYWARD_DATA", "KEYWARD_CONFIG", "KEYWARD_URL", "KEYWARD_TOKEN", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.arg("--data").arg(self.data()).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.data().exists() {
            return;
        }
        for secret in &*self.secrets.borrow() {
            secret.assert_absent_below(&self.data());
        }
    }
}

impl Serving {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.id()).expect("a process id");
        let id = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(id, signal).expect("it runs");
    }

    /// Nobody reads its standard error any more.
    pub fn close_stderr(&mut self) {
        drop(self.child.stderr.take());
    }

    /// Its exit code, once it has ended.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("our child").code()
    }

    /// Ends it as a crash would; nothing is cleaned up.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request over a unix socket: status and everything after the head.
pub fn over_socket(socket: &Path, request: &str) -> (u16, String) {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("a gateway");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.expect("a status");
    (status, body.to_owned())
}
