//! A test server, a gateway with connections to it, and clients.

use std::process::Command;

use super::server::{ALL, NAME, Server, USER, program};
use crate::database_stage::DatabaseStage;
use crate::stage::{installed, run, said};
use test_support::*;

pub(super) const LISTENER: &str = "databases: [{ at: \"127.0.0.1:0\", protocol: bolt }]";

/// A gateway with three connections to one server, and the agents `ci` (`main` and `plain`), `reader` and `stranger`.
pub(super) type Stage = DatabaseStage<Server>;

impl Stage {
    pub(super) async fn new() -> Self {
        Self::of_versions(ALL, "").await
    }

    /// Before a server of these versions. `settings`: further keys of the connection `main`, in flow style.
    pub(super) async fn of_versions(versions: &str, settings: &str) -> Self {
        let password = canary::Canary::new("bolt");
        let server = Server::start(&password.text, versions);
        let login = format!("fields: {{ username: {USER}, password: {{ env: BOLT_SECRET }} }}");
        let connection = |name: &str, at: &str, more: &str| {
            format!(
                "{{ name: {name}, provider: neo4j-bolt, variables: {{ host: \"{at}\"{more} }}, {login}"
            )
        };
        let at = format!("{NAME}:{}", server.at.port());
        let plain = server.plain.to_string();
        let plan = Plan::api_key()
            .no_agents()
            .agent("ci", "main, plain")
            .agent("reader", "reports")
            .agent("stranger", "acme")
            .connection(&(connection("main", &at, "") + settings + " }"))
            .connection(&(connection("plain", &plain, ", sslmode: disable") + " }"))
            .connection(
                &(connection("reports", &at, ", database: movies")
                    + ", settings: { read_only: true } }"),
            )
            .secret("BOLT_SECRET", &password)
            .listen(LISTENER)
            .resolve(&format!("{NAME}: \"{}\"", server.at))
            .allow(&server.at.to_string())
            .allow(&server.plain.to_string());
        Self::start(plan, server, password).await
    }

    /// As `keyward run` sets it.
    pub(super) fn uri(&self) -> String {
        format!("bolt://{}", self.listener())
    }

    /// The driver of Python with a program of one's own, in which `driver` is open.
    pub(super) fn python(&self, uri: &str, user: &str, token: &str, script: &str) -> Command {
        let mut command = self.command(installed("real-venv/bin/python"));
        command.arg(program("ask.py")).arg(script).env("NEO4J_URI", uri);
        command.env("NEO4J_USERNAME", user).env("NEO4J_PASSWORD", token);
        command
    }

    /// What that says.
    pub(super) async fn says(&self, agent: &str, user: &str, script: &str) -> String {
        let command = self.python(&self.uri(), user, self.lab.token(agent), script);
        let text = said(&run(command).await);
        self.password.assert_absent("what the driver said", text.as_bytes());
        text.trim_end().to_owned()
    }
}
