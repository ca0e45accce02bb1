//! An installation as a user has it: a configuration, a data directory and the command line; a test may start
//! a gateway.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use super::gateway;
use super::lab::Plan;
use super::origin::Origin;
use super::pki::pki;
use super::process::{OwnChild, built, is_served, status, wait_for};

/// The token of agent `ci`, where a plan has it.
pub const TOKEN_CI: &str = "kwa_token-of-an-agent-in-these-tests";

/// The install.
pub struct Install {
    folder: TempDir,
    variables: BTreeMap<String, String>,
}

/// A program that `keyward run` started, and the run. Killed when dropped.
pub struct Ran {
    child: OwnChild,
    lines: BufReader<ChildStdout>,
    /// Kept open: programs of these tests end when it closes.
    pub stdin: Option<ChildStdin>,
    stderr: ChildStderr,
}

impl Install {
    /// Of [`Plan::api_key`], before an origin that says `fine`.
    pub fn simple() -> (Self, Origin) {
        let origin = Origin::saying("fine");
        (Self::new(&Plan::api_key(), &origin), origin)
    }

    /// What a command prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.keyward(arguments).arg("--json").output().expect("it runs");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Of a plan before `origin`.
    pub fn new(plan: &Plan, origin: &Origin) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        std::fs::write(folder.path().join("keyward.yaml"), plan.yaml(origin)).expect("a file");
        std::fs::write(folder.path().join("origin-ca.pem"), &pki().pem).expect("the roots");
        let variables = [
            ("CANARY", plan.canary().text.clone()),
            ("TOKEN_CI", TOKEN_CI.to_owned()),
            ("PATH", std::env::var("PATH").expect("programs are found by it")),
            ("HOME", folder.path().display().to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        Self { folder, variables: variables.into() }
    }

    /// With another environment variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Its directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Audit records written so far.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        gateway::audit(&self.data().join("audit/audit.jsonl"))
    }

    /// The command line.
    pub fn keyward(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built());
        command
            .env_clear()
            .envs(&self.variables)
            .env("KEYWARD_DATA", self.data())
            .env("KEYWARD_CONFIG", self.folder.path().join("keyward.yaml"))
            .args(arguments)
            .current_dir(self.folder.path());
        command
    }

    /// `keyward run` with these arguments, as a job of its own.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.keyward(&["run"]);
        command.args(arguments);
        Ran::start(command)
    }

    /// A shell script in `keyward run`.
    pub fn script(&self, script: &str) -> Ran {
        self.run(&["--agent", "ci", "--", "sh", "-c", script])
    }

    /// A gateway that serves until it is killed.
    pub fn serve(&self) -> Ran {
        let mut ran = Ran::start(self.keyward(&["serve"]));
        let ended = wait_for(|| match self.is_served() {
            true => Some(None),
            false => ran.child.try_wait().expect("our child").map(Some),
        });
        match ended {
            Some(None) => ran,
            Some(Some(ended)) => panic!("it ended ({ended:?}): {}", ran.said()),
            None => panic!("it does not serve"),
        }
    }

    /// Whether a gateway answers.
    pub fn is_served(&self) -> bool {
        is_served(&self.data())
    }

    /// What the gateway says of itself (`/api/v1/status`).
    pub fn status(&self) -> serde_json::Value {
        status(&self.data())
    }

    /// Asks until it is so.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let so = wait_for(|| is_so().then_some(()));
        assert!(so.is_some(), "{what}: it never came to that");
    }

    /// An agent as the command line shows it.
    pub fn agent(&self, name: &str) -> serde_json::Value {
        let shown = self.keyward(&["agent", "show", name, "--json"]).output().expect("it runs");
        serde_json::from_slice(&shown.stdout).expect("JSON")
    }

    /// The tokens of `ci`'s runs.
    pub fn runs(&self) -> Vec<serde_json::Value> {
        let tokens = self.agent("ci")["tokens"].as_array().expect("a list").clone();
        let of_run = |token: &serde_json::Value| {
            token["label"].as_str().is_some_and(|label| label.starts_with("run "))
        };
        tokens.into_iter().filter(of_run).collect()
    }
}

impl Ran {
    /// Starts a command as a job of its own.
    pub fn start(mut command: Command) -> Self {
        // Not of the terminal that the tests may run in: signals are then passed on.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take().expect("piped"));
        Self { child: OwnChild::from(child), lines, stdin, stderr }
    }

    /// The next line of its output; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// What it has said on standard error, until it ends.
    pub fn said(&mut self) -> String {
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).expect("text");
        text
    }

    /// Waits until it says `text` on standard error.
    ///
    /// # Panics
    /// With what it has said, when it ends without it.
    pub fn says(&mut self, text: &str) {
        let (mut said, mut byte) = (String::new(), [0]);
        while !said.contains(text) {
            let read = self.stderr.read(&mut byte).expect("text");
            assert!(read > 0, "no `{text}` in: {said}");
            said.push(char::from(byte[0]));
        }
    }

    /// Writes a line to it.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("open");
        writeln!(stdin, "{line}").expect("it reads");
    }

    /// Sends a signal to the run, not to its program.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("our child");
    }

    /// `kill -9` of the run; the program goes on.
    pub fn kill(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// Waits for its end: the exit code.
    pub fn code(&mut self) -> Option<i32> {
        self.child.wait().expect("our child").code()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}
