//! A test server, a gateway with connections to it, and clients.

use std::process::Command;

use super::server::{NAME, Server, USER, program};
use crate::database_stage::DatabaseStage;
use crate::stage::{installed, run, said};
use test_support::*;

/// A gateway with three connections to one server, and the agents `ci` (`main` and `plain`), `reader` and `stranger`.
pub(super) type Stage = DatabaseStage<Server>;

impl Stage {
    pub(super) async fn new() -> Self {
        let password = canary::Canary::new("mongodb");
        let server = Server::start(&password.text);
        Self::before(server, password, "databases: [{ at: \"127.0.0.1:0\", protocol: mongodb }]")
            .await
    }

    /// Before this server, with these listeners, as a part of `listen:` in flow style.
    pub(super) async fn before(server: Server, password: canary::Canary, listeners: &str) -> Self {
        let login = format!("fields: {{ username: {USER}, password: {{ env: MONGO_SECRET }} }}");
        let connection = |name: &str, at: &str, more: &str| {
            format!(
                "{{ name: {name}, provider: mongodb, variables: {{ host: \"{at}\", database: app{more} }}, {login}"
            )
        };
        let at = format!("{NAME}:{}", server.at.port());
        let plain = server.plain.to_string();
        let plan = Plan::api_key()
            .no_agents()
            .agent("ci", "main, plain")
            .agent("reader", "reports")
            .agent("stranger", "acme")
            .connection(&(connection("main", &at, "") + " }"))
            .connection(&(connection("plain", &plain, ", sslmode: disable") + " }"))
            .connection(&(connection("reports", &at, "") + ", settings: { read_only: true } }"))
            .secret("MONGO_SECRET", &password)
            .listen(listeners)
            .resolve(&format!("{NAME}: \"{}\"", server.at))
            .allow(&server.at.to_string())
            .allow(&server.plain.to_string());
        Self::start(plan, server, password).await
    }

    /// As `keyward run` sets it.
    pub(super) fn url(&self, token: &str, user: &str) -> String {
        let at = self.listener();
        format!("mongodb://{user}:{token}@{at}/app?authMechanism=PLAIN&loadBalanced=true")
    }

    /// PyMongo with a program of one's own, in which `client` is open.
    pub(super) fn python(&self, url: &str, script: &str) -> Command {
        let mut command = self.command(installed("real-venv/bin/python"));
        command.arg(program("ask.py")).arg(script).env("MONGODB_URI", url);
        command
    }

    /// What that says.
    pub(super) async fn says(&self, agent: &str, user: &str, script: &str) -> String {
        let url = self.url(self.lab.token(agent), user);
        let text = said(&run(self.python(&url, script)).await);
        self.password.assert_absent("what PyMongo said", text.as_bytes());
        text.trim_end().to_owned()
    }
}
