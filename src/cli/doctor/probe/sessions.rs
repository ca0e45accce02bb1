//! The agent's databases in a probe: the program's sessions are real, with a token that ends with the probe, and each
//! connection is tested.

use crate::cli::client::{Client, segment};
use crate::cli::connection::request;
use crate::cli::doctor::report::DoctorReport;
use crate::cli::environment::EnvironmentFacts;
use crate::cli::failure::Failure;
use crate::cli::settings::Global;
use keyward_api::wire::TokenIssued;

/// How long the token lives if the probe is killed.
const TTL: &str = "1h";

/// A token of the agent at the gateway. It is also the one that the probe accepts.
pub(super) struct DatabaseSessions {
    client: Client,
    agent: String,
    token: TokenIssued,
}

impl DatabaseSessions {
    /// Issues the token; `None` for an agent without databases, or if no gateway runs.
    pub(super) async fn open(
        client: Option<Client>,
        facts: &EnvironmentFacts,
    ) -> Result<Option<Self>, Failure> {
        let Some(client) = client.filter(|it| !it.is_in_process() && !facts.databases.is_empty())
        else {
            return Ok(None);
        };
        let agent = facts.agent.name.clone();
        let at = format!("/api/v1/agents/{}/tokens", segment(&agent));
        let token = client.post(&at, &serde_json::json!({ "label": "doctor", "ttl": TTL })).await?;
        Ok(Some(Self { client, agent, token }))
    }

    pub(super) fn token(&self) -> &str {
        &self.token.token
    }

    /// Revokes the token, and tests a session with each database where a report is made.
    pub(super) async fn end(
        self,
        global: &Global,
        facts: &EnvironmentFacts,
        report: Option<&mut DoctorReport>,
    ) {
        let at = format!("/api/v1/agents/{}/tokens/{}", segment(&self.agent), self.token.id);
        let revoked = self.client.delete(&at).await;
        let Some(report) = report else { return };
        if let Err(failure) = revoked {
            let message = format!("the token of the probe lives for {TTL}: {}", failure.message());
            let (agent, id) = (&self.agent, &self.token.id);
            report.warn("database", message, format!("keyward agent token revoke {agent} {id}"));
        }
        for database in &facts.databases {
            let failure = match request::ask_for_test(&self.client, &database.connection).await {
                Ok(found) if found.ok => {
                    report.ok("database", format!("{}: {}", found.name, found.message));
                    continue;
                }
                Ok(found) => request::test_failure(global, found),
                Err(failure) => failure,
            };
            report.fail("database", failure.message(), failure.advice().unwrap_or_default());
        }
    }
}
