//! The test server of `programs/bolt/server.py`, with and without TLS, on free ports of loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::stage::installed;
use test_support::pki::pki;
use test_support::process::{reserved_address, wait_for};

/// The name that its certificate is for.
pub(crate) const NAME: &str = "graph.acme.test";

pub(crate) const USER: &str = "app";

/// The versions of a server of today.
pub(crate) const ALL: &str = "0-8";

/// A running server. Stopped when dropped.
pub(crate) struct Server {
    folder: TempDir,
    process: Child,
    /// With TLS.
    pub(crate) at: SocketAddr,
    /// Without TLS.
    pub(crate) plain: SocketAddr,
}

impl Server {
    /// `versions`: as `server.py` takes them.
    pub(crate) fn start(password: &str, versions: &str) -> Self {
        let (folder, at, plain) =
            (TempDir::new().expect("a directory"), reserved_address(), reserved_address());
        let (certificate, key) = pki().pem(&[NAME]);
        std::fs::write(folder.path().join("server.crt"), certificate).expect("a file");
        std::fs::write(folder.path().join("server.key"), key).expect("a file");
        let said = std::fs::File::create(folder.path().join("said")).expect("a file");
        let mut command = Command::new(installed("real-venv/bin/python"));
        command.arg(program("server.py")).arg(folder.path());
        command.args([&plain.port().to_string(), &at.port().to_string(), USER, versions]);
        command.env("PASSWORD", password).stdin(Stdio::null()).stderr(said);
        let process = command.spawn().expect("`tests/run` installs it");
        let server = Self { folder, process, at, plain };
        let ready = wait_for(|| server.folder.path().join("ready").exists().then_some(()));
        assert!(ready.is_some(), "{}", server.text("said"));
        server
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// The messages that it has received, each with its user.
    pub(crate) fn received(&self) -> Vec<Value> {
        let text = self.text("received");
        // The last line may be incomplete.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// How often it has received a statement.
    pub(crate) fn count(&self, statement: &str) -> usize {
        self.received().iter().filter(|message| message["statement"] == statement).count()
    }
}

/// A program of these tests.
pub(crate) fn program(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/real/programs/bolt", name].iter().collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
        let (said, failed) = (self.text("said"), self.text("failed"));
        assert!(std::thread::panicking() || (said + &failed).is_empty(), "{}", self.text("failed"));
    }
}
