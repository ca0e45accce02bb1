//! A Redis server of the system's packages, with and without TLS, on free ports of loopback.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use test_support::pki::pki;
use test_support::process::{OwnChild, reserved_address, wait_for};

/// The name that its certificate is for.
pub(crate) const NAME: &str = "cache.acme.test";

/// The ACL user of the tests.
pub(crate) const USER: &str = "app";

/// A running server. Stopped when dropped.
pub(crate) struct Server {
    _process: OwnChild,
    folder: TempDir,
    /// With TLS.
    pub(crate) at: SocketAddr,
    /// Without TLS.
    pub(crate) plain: SocketAddr,
    password: String,
}

impl Server {
    /// With the password for the default user, and for the ACL user `app`, who may do everything.
    pub(crate) fn start(password: &str) -> Self {
        let (folder, at, plain) =
            (TempDir::new().expect("a directory"), reserved_address(), reserved_address());
        let (certificate, key) = pki().pem(&[NAME]);
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("server.crt"), certificate).expect("a file");
        std::fs::write(file("server.key"), key).expect("a file");
        let folder_text = folder.path().display();
        let settings = format!(
            "bind 127.0.0.1\nport {}\ntls-port {}\ntls-auth-clients no\ntls-cert-file {folder_text}/server.crt\n\
             tls-key-file {folder_text}/server.key\ntls-ca-cert-file {folder_text}/server.crt\ndir {folder_text}\nsave \"\"\n\
             requirepass {password}\nuser {USER} on >{password} ~* &* +@all\n",
            plain.port(),
            at.port(),
        );
        std::fs::write(file("redis.conf"), settings).expect("a file");
        let said = std::fs::File::create(file("said")).expect("a file");
        let mut command = Command::new("redis-server");
        command.arg(file("redis.conf")).stdin(Stdio::null()).stderr(Stdio::null()).stdout(said);
        let process = command.spawn().expect("`tests/run` installs it");
        let server = Self {
            folder,
            _process: OwnChild::from(process),
            at,
            plain,
            password: password.to_owned(),
        };
        // It says so, and then accepts.
        let accepts =
            wait_for(|| server.said().contains("Ready to accept connections").then_some(()));
        assert!(accepts.is_some(), "{}", server.said());
        server
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// What the default user gets, past the gateway.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("REDISCLI_AUTH", &self.password);
        command.args(["-p", &self.plain.port().to_string()]).args(arguments);
        let output = command.output().expect("`tests/run` installs it");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}
