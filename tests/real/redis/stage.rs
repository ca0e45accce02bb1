//! A real server, a gateway with connections to it, and redis-cli.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value;

use super::server::{NAME, Server, USER};
use crate::stage::{run, said};
use crate::support::*;

/// A gateway with four connections to one server, and the agents `ci` (`main`, `plain` and `third`), `reader` and `stranger`.
pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) lab: Lab,
    pub(super) password: canary::Canary,
}

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
        let lab = plan.start(Origin::answering(|_| ok("fine")).await).await;
        Self { server, lab, password }
    }

    pub(super) fn listener(&self) -> SocketAddr {
        let listeners = self.lab.gateway.running().database_addrs();
        listeners[0].at.tcp().expect("it is TCP")
    }

    /// redis-cli with a token as its password, for the connection that `user` names.
    pub(super) fn cli(&self, token: &str, user: &str) -> Command {
        let mut command = Command::new("redis-cli");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.lab.gateway.folder()).env("REDISCLI_AUTH", token);
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

    /// Stops the gateway, looks for the secrets, and gives the audit records. Then the server stops.
    pub(super) async fn finish(self) -> Vec<Value> {
        let Self { server, lab, .. } = self;
        let records = lab.finish().await;
        drop(server);
        records
    }
}
