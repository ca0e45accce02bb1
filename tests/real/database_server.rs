//! [`DatabaseServer`]: a test server of a database, which is a program of these tests, with and without TLS on free ports of
//! loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::stage::installed;
use test_support::pki::pki;
use test_support::process::{reserved_address, wait_for};

/// A running server. Stopped when dropped.
pub(crate) struct DatabaseServer {
    folder: TempDir,
    process: Child,
    /// With TLS.
    pub(crate) at: SocketAddr,
    /// Without TLS.
    pub(crate) plain: SocketAddr,
}

impl DatabaseServer {
    /// `kind`: the folder of its `server.py`. `names`: those of its certificate. `arguments`: its user, and how it behaves.
    pub(crate) fn start(kind: &str, names: &[&str], password: &str, arguments: &[&str]) -> Self {
        let (folder, at, plain) =
            (TempDir::new().expect("a directory"), reserved_address(), reserved_address());
        let (certificate, key) = pki().pem(names);
        std::fs::write(folder.path().join("server.crt"), certificate).expect("a file");
        std::fs::write(folder.path().join("server.key"), key).expect("a file");
        let said = std::fs::File::create(folder.path().join("said")).expect("a file");
        let mut command = Command::new(installed("real-venv/bin/python"));
        command.arg(program(kind, "server.py")).arg(folder.path());
        command.args([plain.port().to_string(), at.port().to_string()]).args(arguments);
        command.env("PASSWORD", password).stdin(Stdio::null()).stderr(said);
        let process = command.spawn().expect("`tests/run` installs it");
        let server = Self { folder, process, at, plain };
        let ready = wait_for(|| server.file("ready").exists().then_some(()));
        assert!(ready.is_some(), "{}", server.text("said"));
        server
    }

    /// A file of the server.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// What it has received, each with its user.
    pub(crate) fn received(&self) -> Vec<Value> {
        let text = self.text("received");
        // The last line may be incomplete.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// A program of the tests of a kind of database.
pub(crate) fn program(kind: &str, name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/real/programs", kind, name].iter().collect()
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
        let (said, failed) = (self.text("said"), self.text("failed"));
        assert!(std::thread::panicking() || (said + &failed).is_empty(), "{}", self.text("failed"));
    }
}
