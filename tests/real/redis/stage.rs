//! A real server, a gateway with connections to it, and redis-cli.

use std::process::{Command, Output};

use super::server::{NAME, Server, USER};
use crate::database_stage::DatabaseStage;
use crate::stage::{run, said};
use test_support::*;

/// A gateway with four connections to one server, and the agents `ci` (`main`, `plain` and `third`), `reader` and `stranger`.
pub(super) type Stage = DatabaseStage<Server>;

impl Stage {
    pub(super) async fn new() -> Self {
        Self::listening("databases: [{ at: \"127.0.0.1:0\", protocol: redis }]").await
    }

    /// With these listeners, as a part of `listen:` in flow style.
    pub(super) async fn listening(listeners: &str) -> Self {
        let password = canary::Canary::new("redis");
        let server = Server::start(&password.text);
        let connection = |name: &str, more: &str| {
            format!(
                "{{ name: {name}, provider: redis, variables: {{ host: \"{NAME}:{}\"{more}, \
                 fields: {{ username: {USER}, password: {{ env: REDIS_SECRET }} }}",
                server.at.port()
            )
        };
        let plain = format!(
            "{{ name: plain, provider: redis, variables: {{ host: \"{}\", sslmode: disable }}, \
             fields: {{ password: {{ env: REDIS_SECRET }} }} }}",
            server.plain
        );
        let plan = Plan::api_key()
            .no_agents()
            .agent("ci", "main, plain, third")
            .agent("reader", "reports")
            .agent("stranger", "acme")
            .connection(&(connection("main", " }") + " }"))
            .connection(&plain)
            .connection(&(connection("third", ", database: \"3\" }") + " }"))
            .connection(&(connection("reports", " }") + ", settings: { read_only: true } }"))
            .secret("REDIS_SECRET", &password)
            .listen(listeners)
            .resolve(&format!("{NAME}: \"{}\"", server.at))
            .allow(&server.at.to_string())
            .allow(&server.plain.to_string());
        Self::start(plan, server, password).await
    }

    /// redis-cli with a token as its password, for the connection that `user` names.
    pub(super) fn cli(&self, token: &str, user: &str) -> Command {
        let mut command = self.command("redis-cli");
        command.env("REDISCLI_AUTH", token);
        let at = self.listener();
        command.args(["-h", &at.ip().to_string(), "-p", &at.port().to_string()]);
        command.args(["--user", user, "--no-raw"]);
        command
    }

    pub(super) async fn asked(&self, agent: &str, user: &str, arguments: &[&str]) -> Output {
        let mut command = self.cli(self.lab.token(agent), user);
        command.args(arguments);
        let output = run(command).await;
        self.password.assert_absent("what redis-cli said", said(&output).as_bytes());
        output
    }

    /// What redis-cli shows of an answer.
    pub(super) async fn answer(&self, agent: &str, user: &str, arguments: &[&str]) -> String {
        said(&self.asked(agent, user, arguments).await).trim_end().to_owned()
    }
}
