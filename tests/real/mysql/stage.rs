//! A real server, a gateway with connections to it, and the client of MariaDB.

use std::process::{Command, Output};

use super::server::{NAME, Server};
use crate::database_stage::DatabaseStage;
use crate::stage::{installed, run, said};
use test_support::*;

/// A gateway with connections to one server, and the agents `ci` (two of them), `reader` (one that may only read), `ruled` (one with rules), `signer` (one whose
/// user signs) and `stranger`.
pub(super) type Stage = DatabaseStage<Server>;

impl<S> DatabaseStage<S> {
    /// Every line of the list is tried by `reader` as a text and as a prepared statement; then the session is asked for its
    /// mode. What the program says.
    pub(super) async fn has_no_way_out(&self) -> String {
        let ways = include_str!("../../../crates/databases/src/mysql/statements/ways_out.sql");
        let list = self.lab.gateway.folder().join("ways.sql");
        std::fs::write(&list, ways).expect("a file");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/programs/mysql/ways_out.py");
        let mut command = self.command(installed("real-venv/bin/python"));
        let at = self.listener();
        command.env("MYSQL_HOST", at.ip().to_string()).env("MYSQL_TCP_PORT", at.port().to_string());
        command.env("MYSQL_PWD", self.lab.token("reader")).arg(script).arg(&list);
        let text = said(&run(command).await);
        let tried = ways.lines().filter(|line| !line.is_empty()).count();
        assert!(tried > 60, "{tried}");
        assert!(text.contains(&format!("{} statements refused", 2 * tried)), "{text}");
        assert!(text.contains("\n8 refused in latin1"), "{text}");
        let writes = text.contains("it may write") || text.contains("a function has written");
        assert!(!writes, "{text}");
        assert!(text.contains("reads (1,)") && text.contains("READ ONLY transaction"), "{text}");
        assert!(text.contains("reset: (1227"), "{text}");
        text
    }
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::listening("databases: [{ at: \"127.0.0.1:0\", protocol: mysql }]").await
    }

    /// With these listeners, as a part of `listen:` in flow style.
    pub(super) async fn listening(listeners: &str) -> Self {
        let password = canary::Canary::new("mysql");
        let server = Server::start(&password.text);
        let login = "fields: { username: app, password: { env: SQL_SECRET } }";
        let port = server.at.port();
        let main = format!(
            "{{ name: main, provider: mysql, variables: {{ host: \"{NAME}:{port}\", database: app }}, {login} }}"
        );
        let plain = format!(
            "{{ name: plain, provider: mysql, variables: {{ host: \"{}\", database: app, sslmode: disable }}, {login} }}",
            server.at
        );
        let reports = format!(
            "{{ name: reports, provider: mysql, variables: {{ host: \"{NAME}:{port}\", database: app }}, {login}, \
             settings: {{ read_only: true }} }}"
        );
        let ruled = format!(
            "{{ name: ruled, provider: mysql, variables: {{ host: \"{NAME}:{port}\", database: app }}, {login}, \
             settings: {{ statements: [select], tables: [orders, sales.*], audit_statements: true }} }}"
        );
        let signer = format!(
            "{{ name: signer, provider: mysql, variables: {{ host: \"{}\", database: app, sslmode: disable }}, \
             fields: {{ username: signer, password: {{ env: SQL_SECRET }} }} }}",
            server.at
        );
        let plan = Plan::api_key()
            .no_agents()
            .agent("ci", "main, plain")
            .agent("one", "main")
            .agent("reader", "reports")
            .agent("signer", "signer")
            .agent("ruled", "ruled")
            .agent("stranger", "acme")
            .connection(&main)
            .connection(&plain)
            .connection(&reports)
            .connection(&ruled)
            .connection(&signer)
            .secret("SQL_SECRET", &password)
            .listen(listeners)
            .resolve(&format!("{NAME}: \"{}\"", server.at))
            .allow(&server.at.to_string());
        Self::start(plan, server, password).await
    }

    /// The client with a token as its password, for the connection that `database` names.
    pub(super) fn client(&self, token: &str, database: &str) -> Command {
        let mut command = self.command("mariadb");
        command.env("MYSQL_PWD", token);
        let at = self.listener();
        command.args(["--no-defaults", "--protocol=TCP", "-h", &at.ip().to_string()]);
        command.args(["-P", &at.port().to_string(), "-u", "anybody", "-BN", "-D", database]);
        command
    }

    pub(super) async fn sql(&self, agent: &str, database: &str, text: &str) -> Output {
        let mut command = self.client(self.lab.token(agent), database);
        command.args(["-e", text]);
        let output = run(command).await;
        self.password.assert_absent("what the client said", said(&output).as_bytes());
        output
    }

    pub(super) async fn served(&self, agent: &str, database: &str, text: &str) -> String {
        let output = self.sql(agent, database, text).await;
        assert!(output.status.success(), "{text}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}
