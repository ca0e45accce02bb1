//! A new user at a shell: an empty home, the binary in `PATH`, nothing else. Commands and their output become
//! a transcript.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use regex_lite::Regex;
use tempfile::TempDir;

use super::canary::Canary;
use super::origin::Origin;
use super::pki::pki;
use super::process::{built, is_served, status, wait_for};
use super::pty::{Terminal, screen};

/// What differs from run to run, and what replaces it.
const VARYING: &[(&str, &str)] = &[
    (r"kwa_[A-Za-z0-9]{20,}", "kwa_…"),
    (r"kwn_[A-Za-z0-9]{20,}", "kwn_…"),
    (r"kwo_[A-Za-z0-9]{20,}", "kwo_…"),
    (r"[A-Za-z_-]*kwph[A-Za-z0-9]+", "(placeholder)"),
    (r"\b(con|agt|tok|exc|rul|key|usr|cns|hok)_[a-z0-9]{16,}", "${1}_…"),
    (r"(127\.0\.0\.1|\[::1\]|localhost):\d{4,5}", "${1}:PORT"),
    (r"\b[0-9a-f]{16}\b", "(key id)"),
    (r"\b\d+ ms\b", "N ms"),
    // Columns are as wide as the paths in them.
    (r"(\S) {3,}", "${1}   "),
    (r"\bprocess \d+", "process PID"),
    (r"\brun \d+\b", "run PID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?Z?", "TIME"),
    (r"\b[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){19,31}\b", "FINGERPRINT"),
];

/// The person. Whatever they paste must be in nothing that they read, nor in any file.
pub struct Newcomer {
    home: TempDir,
    said: String,
    variables: Vec<(String, String)>,
    serving: Option<Child>,
    pasted: Vec<Canary>,
}

impl Newcomer {
    /// With an empty home.
    pub fn new() -> Self {
        Self {
            home: TempDir::new().expect("a directory"),
            said: String::new(),
            variables: vec![],
            serving: None,
            pasted: vec![],
        }
    }

    /// Whose `names` are served by `origin`; that is in a configuration which they need not know of.
    pub fn before(origin: &Origin, names: &[&str]) -> Self {
        let person = Self::new();
        std::fs::write(person.home.path().join("origin.pem"), &pki().pem).expect("a file");
        let resolve: Vec<_> =
            names.iter().map(|name| format!("{name}: \"{}\"", origin.addr)).collect();
        let yaml = format!(
            "listen: {{ proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }}\n\
             upstream: {{ trust: [../origin.pem], allow_private: [\"{}\"], resolve: {{ {} }} }}\n",
            origin.addr,
            resolve.join(", ")
        );
        person.file("data/keyward.yaml", &yaml);
        person
    }

    /// The home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A variable that they have exported.
    pub fn exports(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.said, "$ export {name}={value}");
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A file of theirs, which the transcript does not show.
    pub fn file(&self, name: &str, text: &str) {
        let path = self.home.path().join(name);
        let folder = path.parent().expect("a file stands in a folder");
        let mut made = std::fs::DirBuilder::new();
        made.recursive(true).mode(0o700).create(folder).expect("a folder");
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("a file");
    }

    /// Writes a file in an editor.
    pub fn edits(&mut self, name: &str, text: &str) {
        self.file(name, text);
        let _ = writeln!(self.said, "# {name} is now");
        text.lines().for_each(|line| {
            let _ = writeln!(self.said, "#   {line}");
        });
    }

    /// Types a line into the shell, and reads.
    pub fn types(&mut self, line: &str) {
        let _ = writeln!(self.said, "$ {line}");
        self.runs(line, "");
    }

    /// The same, and pastes a secret into what it asks.
    pub fn pastes(&mut self, line: &str, secret: &str) {
        let _ = writeln!(self.said, "$ {line}  # and pastes");
        self.pasted.push(Canary::of(secret.to_owned()));
        self.runs(line, &format!("{secret}\n"));
    }

    fn runs(&mut self, line: &str, input: &str) {
        // Both outputs in the order they came, as on a terminal.
        let mut shell = self.shell(&format!("exec 2>&1; {line}"));
        let mut child = shell.spawn().expect("a shell");
        let mut stdin = child.stdin.take().expect("piped");
        // A program that refuses does not read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        for secret in &self.pasted {
            secret.assert_absent("what the person reads", &output.stdout);
        }
        let read = String::from_utf8_lossy(&output.stdout);
        // Whether it is said depends on the machine's own limit.
        let lines =
            read.lines().filter(|line| !line.contains("the limit of open files is too low"));
        lines.for_each(|line| {
            let _ = writeln!(self.said, "{line}");
        });
        match output.status.code() {
            Some(0) => {}
            code => {
                let _ = writeln!(self.said, "(exit {})", code.expect("it was not killed"));
            }
        }
    }

    /// Starts the gateway in another terminal.
    ///
    /// # Panics
    /// When it does not come to serve.
    pub fn serves(&mut self) {
        let _ = writeln!(self.said, "$ keyward serve &");
        let mut shell = self.shell("exec keyward serve");
        let mut child = shell.stderr(Stdio::piped()).spawn().expect("a shell");
        let mut lines = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("ready") {
            assert_ne!(lines.read_line(&mut said).expect("text"), 0, "it ended: {said}");
        }
        // Someone must read on, or it would wait for its reader.
        std::thread::spawn(move || drop(lines.read_to_end(&mut Vec::new())));
        self.serving = Some(child);
    }

    /// The gateway dies of `kill -9`.
    pub fn kills_it(&mut self) {
        let _ = writeln!(self.said, "$ kill -9 %1");
        let mut child = self.serving.take().expect("it serves");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// The process id of the gateway.
    pub fn pid(&self) -> u32 {
        self.serving.as_ref().expect("it serves").id()
    }

    /// Whether a gateway answers.
    pub fn is_served(&self) -> bool {
        is_served(&self.data())
    }

    /// What was typed and read, without what differs from run to run.
    pub fn transcript(&self) -> String {
        for secret in &self.pasted {
            secret.assert_absent_below(&self.data());
        }
        let home = self.home.path().to_str().expect("UTF-8");
        steady(&self.said.replace(home, "~"))
    }

    /// Types a command at a terminal of 80 columns; `walk` answers what it asks. The screen is read at its end.
    pub fn walks(&mut self, line: &str, walk: impl FnOnce(&mut Terminal)) {
        let _ = writeln!(self.said, "$ {line}");
        let mut shell = self.shell(&format!("exec {line}"));
        shell.env("TERM", "xterm").env("NO_COLOR", "1");
        let mut terminal = Terminal::of_columns(shell, 80);
        walk(&mut terminal);
        let (code, output) = terminal.ends();
        for secret in &self.pasted {
            secret.assert_absent("what the person reads", output.as_bytes());
        }
        let shown = screen(&output);
        let lines = shown.lines().filter(|line| !line.contains("the limit of open files"));
        for line in lines {
            let _ = writeln!(self.said, "{}", line.trim_end());
        }
        if code != Some(0) {
            let _ = writeln!(self.said, "(exit {})", code.expect("it was not killed"));
        }
    }

    /// The answer of a command as JSON, which the transcript does not show.
    pub fn json(&self, line: &str) -> serde_json::Value {
        let output = self.shell(line).output().expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{line}: {text}"))
    }

    /// Where the proxy listens.
    pub fn proxy(&self) -> std::net::SocketAddr {
        let status = status(&self.data());
        status["proxy"][0].as_str().expect("an address").parse().expect("an address")
    }

    /// Waits until the command succeeds, which the transcript does not show.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn waits(&self, line: &str) {
        let succeeds =
            || self.shell(line).output().expect("a shell").status.success().then_some(());
        assert!(wait_for(succeeds).is_some(), "it never succeeds: {line}");
    }

    /// A secret that is pasted during a walk.
    pub fn guards(&mut self, secret: &str) {
        self.pasted.push(Canary::of(secret.to_owned()));
    }

    fn shell(&self, line: &str) -> Command {
        let keyward = built();
        let folder = keyward.parent().expect("it stands in a folder").display();
        let path = std::env::var("PATH").expect("programs are found by it");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .env_clear()
            .env("PATH", format!("{folder}:{path}"))
            .env("HOME", self.home.path())
            .env("KEYWARD_DATA", self.data())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        shell
    }
}

/// Without what differs from run to run.
fn steady(said: &str) -> String {
    let mut said = said.to_owned();
    for (pattern, stands) in VARYING {
        let pattern = Regex::new(pattern).expect("a pattern of ours");
        said = pattern.replace_all(&said, *stands).into_owned();
    }
    said
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        if let Some(mut child) = self.serving.take() {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
