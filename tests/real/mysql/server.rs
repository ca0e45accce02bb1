//! A MariaDB server of the system's packages, with TLS, on a free port of loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::stage::{first_files, service};
use test_support::pki::pki;
use test_support::process::{OwnChild, reserved_address, wait_for};

/// The name that its certificate is for.
pub(crate) const NAME: &str = "sql.acme.test";

/// A running server. Stopped when dropped.
pub(crate) struct Server {
    _process: OwnChild,
    folder: TempDir,
    pub(crate) at: SocketAddr,
}

impl Server {
    /// With the database `app`, the table `t` of one row, and the user `app`, who may do everything in it.
    pub(crate) fn start(password: &str) -> Self {
        let (folder, at) = (TempDir::new().expect("a directory"), reserved_address());
        let file = |name: &str| folder.path().join(name);
        let (certificate, key) = pki().pem(&[NAME]);
        std::fs::write(file("server.crt"), certificate).expect("a file");
        std::fs::write(file("server.key"), key).expect("a file");
        let data = file("data");
        let said = std::fs::File::create(file("said")).expect("a file");
        first_files(&service("mariadbd"), &data, || {
            let mut make = Command::new("mariadb-install-db");
            // Its temporary files have equal names in every run.
            make.env("TMPDIR", folder.path());
            make.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
            make.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
            make.args(["--skip-name-resolve", &format!("--user={}", user())]).stdin(Stdio::null());
            make.stdout(said.try_clone().expect("a file"));
            make.stderr(said.try_clone().expect("a file"));
            let made = make.status().expect("`tests/run` installs it");
            assert!(made.success(), "{:?}", std::fs::read_to_string(file("said")));
        });
        let mut command = Command::new("mariadbd");
        command.env("TMPDIR", folder.path());
        command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        command.arg(format!("--port={}", at.port())).arg("--bind-address=127.0.0.1");
        command.arg(format!("--socket={}", file("socket").display()));
        command.arg(format!("--ssl-cert={}", file("server.crt").display()));
        command.arg(format!("--ssl-key={}", file("server.key").display()));
        command.arg(format!("--user={}", user())).args(["--skip-name-resolve", "--local-infile=1"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M"]);
        command.arg("--max-allowed-packet=64M");
        let process = command.stdin(Stdio::null()).stdout(said.try_clone().expect("a file"));
        let process = process.stderr(said).spawn().expect("`tests/run` installs it");
        let server = Self { folder, _process: OwnChild::from(process), at };
        let serves = wait_for(|| server.try_sql("SELECT 1").0.then_some(()));
        assert!(serves.is_some(), "{}", server.said());
        server.sql(&format!(
            "CREATE DATABASE app; CREATE TABLE app.t (a int); INSERT INTO app.t VALUES (1); \
             CREATE USER app@'%' IDENTIFIED BY '{password}'; GRANT ALL ON app.* TO app@'%'"
        ));
        server
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// What the superuser gets, past the gateway.
    pub(crate) fn sql(&self, text: &str) -> String {
        let (succeeded, said) = self.try_sql(text);
        assert!(succeeded, "{text}: {said}");
        said.trim_end().to_owned()
    }

    fn try_sql(&self, text: &str) -> (bool, String) {
        let socket: PathBuf = self.folder.path().join("socket");
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-u", "root", "-S"]).arg(socket).args(["-BNe", text]);
        let output = command.output().expect("`tests/run` installs it");
        let both = [&*output.stdout, &*output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&both).into_owned())
    }
}

/// The server's option for its user: as root it does not run without one.
pub(super) fn user() -> String {
    match rustix::process::geteuid().is_root() {
        true => "root".to_owned(),
        false => std::env::var("USER").unwrap_or_default(),
    }
}
