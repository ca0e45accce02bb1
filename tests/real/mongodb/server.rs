//! The test server of `programs/mongodb/server.py`, with and without TLS, on free ports of loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::stage::installed;
use test_support::pki::pki;
use test_support::process::{reserved_address, wait_for};

/// The name that its certificate is for.
pub(crate) const NAME: &str = "documents.acme.test";

/// The name of a second server of its replica set, for which the certificate is as well.
pub(crate) const SECOND: &str = "second.acme.test";

/// The name of a server that leads to another domain.
pub(crate) const FAR: &str = "far.acme.test";

/// Its user, in the database `admin`.
pub(crate) const USER: &str = "app";

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
    /// With the mechanisms of MongoDB.
    pub(crate) fn start(password: &str) -> Self {
        Self::with(password, &["SCRAM-SHA-256,SCRAM-SHA-1"])
    }

    /// `arguments`: the mechanisms, and how it behaves.
    pub(crate) fn with(password: &str, arguments: &[&str]) -> Self {
        let (folder, at, plain) =
            (TempDir::new().expect("a directory"), reserved_address(), reserved_address());
        let (certificate, key) = pki().pem(&[NAME, SECOND, FAR]);
        std::fs::write(folder.path().join("server.crt"), certificate).expect("a file");
        std::fs::write(folder.path().join("server.key"), key).expect("a file");
        let said = std::fs::File::create(folder.path().join("said")).expect("a file");
        let mut command = Command::new(installed("real-venv/bin/python"));
        command.arg(program("server.py")).arg(folder.path());
        command.args([&plain.port().to_string(), &at.port().to_string(), USER]).args(arguments);
        command.env("PASSWORD", password).stdin(Stdio::null()).stderr(said);
        let process = command.spawn().expect("`tests/run` installs it");
        let server = Self { folder, process, at, plain };
        let ready = wait_for(|| server.folder.path().join("ready").exists().then_some(()));
        assert!(ready.is_some(), "{}", server.text("said"));
        server
    }

    /// Makes it a secondary that names this server as the primary; an empty name means that it knows none.
    pub(crate) fn follows(&self, primary: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, primary).expect("a file");
        std::fs::rename(new, self.folder.path().join("primary")).expect("a file");
    }

    /// Makes it the primary.
    pub(crate) fn is_elected(&self) {
        std::fs::remove_file(self.folder.path().join("primary")).expect("it was a secondary");
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// The commands that it has received, each with its database and user.
    pub(crate) fn received(&self) -> Vec<Value> {
        let text = self.text("received");
        // The last line may be incomplete.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Whether it has received a command of this name.
    pub(crate) fn has_received(&self, name: &str) -> bool {
        self.received().iter().any(|command| command["name"] == name)
    }
}

/// A program of these tests.
pub(crate) fn program(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/real/programs/mongodb", name].iter().collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
        let (said, failed) = (self.text("said"), self.text("failed"));
        assert!(std::thread::panicking() || (said + &failed).is_empty(), "{}", self.text("failed"));
    }
}
