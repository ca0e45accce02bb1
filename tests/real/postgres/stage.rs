//! A real server, a gateway with connections to it, and psql.

use std::process::{Command, Output};

use super::server::{NAME, Server};
use crate::database_stage::DatabaseStage;
use crate::stage::{run, said};
use test_support::*;

/// A gateway with connections to one server, and the agents `ci` (three of them), `reader`, `own` and `stranger`.
pub(super) type Stage = DatabaseStage<Server>;

impl Stage {
    pub(super) async fn new() -> Self {
        Self::listening("databases: [{ at: \"127.0.0.1:0\" }]").await
    }

    /// With the agent `own`, whose connection `own` has these settings.
    pub(super) async fn with_settings(settings: &str) -> Self {
        Self::made("databases: [{ at: \"127.0.0.1:0\" }]", settings).await
    }

    /// With these listeners, as a part of `listen:` in flow style.
    pub(super) async fn listening(listeners: &str) -> Self {
        Self::made(listeners, "{}").await
    }

    async fn made(listeners: &str, settings: &str) -> Self {
        let password = canary::Canary::new("pg");
        let server = Server::start(&password.text);
        let port = server.at.port();
        let connection = |name: &str, more: &str| {
            format!(
                "{{ name: {name}, provider: postgres, variables: {{ host: \"{NAME}:{port}\", database: app }}, \
                 fields: {{ username: app, password: {{ env: PG_SECRET }} }}{more} }}"
            )
        };
        let plain = format!(
            "{{ name: plain, provider: postgres, variables: {{ host: \"127.0.0.1:{port}\", database: app, sslmode: disable }}, \
             fields: {{ username: app, password: {{ env: PG_SECRET }} }} }}"
        );
        let plan = Plan::api_key()
            .no_agents()
            .agent("ci", "main, plain, copy")
            .agent("reader", "reports")
            .agent("own", "own")
            .agent("stranger", "acme")
            .connection(&connection("main", ""))
            .connection(&connection("own", &format!(", settings: {settings}")))
            .connection(&plain)
            .connection(&connection("copy", ""))
            .connection(&connection(
                "reports",
                ", settings: { read_only: true, statement_timeout: 20s }",
            ))
            .secret("PG_SECRET", &password)
            .listen(listeners)
            .resolve(&format!("{NAME}: \"{}\"", server.at))
            .allow(&server.at.to_string());
        Self::start(plan, server, password).await
    }

    /// psql with a token as its password, for the connection that `database` names.
    pub(super) fn psql(&self, token: &str, database: &str) -> Command {
        let mut command = self.command("psql");
        if let Some(at) = self.lab.gateway.running().database_addrs()[0].at.tcp() {
            command.env("PGHOST", at.ip().to_string()).env("PGPORT", at.port().to_string());
        }
        command
            .env("PGUSER", "anybody")
            .env("PGDATABASE", database)
            .env("PGPASSWORD", token)
            .current_dir(self.lab.gateway.folder())
            .args(["-X", "-v", "ON_ERROR_STOP=1", "-qAt"]);
        command
    }

    pub(super) async fn sql(&self, agent: &str, database: &str, text: &str) -> Output {
        let mut command = self.psql(self.lab.token(agent), database);
        command.args(["-c", text]);
        let output = run(command).await;
        self.password.assert_absent("what psql said", said(&output).as_bytes());
        output
    }

    pub(super) async fn refused(&self, token: &str, database: &str) -> String {
        let mut command = self.psql(token, database);
        command.args(["-c", "SELECT 1"]);
        let output = run(command).await;
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    }

    pub(super) async fn served(&self, agent: &str, database: &str, text: &str) -> String {
        let output = self.sql(agent, database, text).await;
        assert!(output.status.success(), "{text}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}
