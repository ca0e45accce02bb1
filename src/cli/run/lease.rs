//! [`OpenRun`]: an open run at the gateway. The run lasts as long as its stream: when the stream closes,
//! the gateway revokes the token.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use super::gateway::RunGateway;
use crate::cli::client::events::AnswerLines;
use crate::cli::client::{segment, streamed};
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::secret::Typed;
use keyward_api::wire::TokenIssued;
use keyward_proxy::ProbeEvent;

/// How long the gateway may take to revoke the token and end its stream.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct OpenRun {
    agent: String,
    token: TokenIssued,
    lines: AnswerLines,
    /// What the gateway has seen of a program that is only examined.
    pub(crate) events: Vec<ProbeEvent>,
}

#[derive(Debug, Serialize)]
struct NewRun<'a> {
    agent: &'a str,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Typed>,
    examine: bool,
}

impl OpenRun {
    /// Opens a run, with a new token or `held`.
    ///
    /// # Errors
    /// `Unreachable` when no gateway answers, or it is stopping.
    pub(super) async fn open(
        gateway: &RunGateway,
        agent: &str,
        held: Option<TokenIssued>,
    ) -> Result<Self, Failure> {
        let token = held.as_ref().map(|held| Typed::from(held.token.clone()));
        let label = format!("run {}", std::process::id());
        Self::of(gateway, NewRun { agent, label, token, examine: false }, held).await
    }

    /// Opens a run whose program is only examined.
    ///
    /// # Errors
    /// As [`OpenRun::open`], and when the gateway cannot identify the program's streams.
    pub(crate) async fn examine(gateway: &RunGateway, agent: &str) -> Result<Self, Failure> {
        let label = format!("doctor {}", std::process::id());
        Self::of(gateway, NewRun { agent, label, token: None, examine: true }, None).await
    }

    async fn of(
        gateway: &RunGateway,
        new: NewRun<'_>,
        held: Option<TokenIssued>,
    ) -> Result<Self, Failure> {
        let answer = gateway.client().await?.begin("/api/v1/runs", &new).await?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            return Err(Failure::new(Exit::Unreachable, "the gateway is stopping"));
        }
        let mut lines = AnswerLines::new(streamed(answer).await?);
        let line = lines.next().await?;
        let token = match held {
            Some(held) => held,
            None => serde_json::from_str(&line).map_err(|_| {
                Failure::new(Exit::Failed, "the gateway's answer cannot be read")
                    .hint("use the same version of the gateway and the command line")
            })?,
        };
        Ok(Self { agent: new.agent.to_owned(), token, lines, events: Vec::new() })
    }

    /// The token's text.
    pub(crate) fn token(&self) -> &str {
        &self.token.token
    }

    pub(super) fn token_id(&self) -> &str {
        self.token.id.as_str()
    }

    /// The path of what was refused to it.
    pub(super) fn refusals_path(&self) -> String {
        format!("{}/refusals", self.path())
    }

    fn path(&self) -> String {
        format!("/api/v1/agents/{}/tokens/{}", segment(&self.agent), self.token.id)
    }

    /// Reads events until the gateway has closed the stream. Cancelling this loses none.
    pub(crate) async fn lost(&mut self) {
        while let Ok(line) = self.lines.next().await {
            self.events.extend(serde_json::from_str::<ProbeEvent>(&line));
        }
    }

    /// The same run at the gateway that answers now.
    pub(super) async fn reopen(&self, gateway: &RunGateway) -> Result<Self, Failure> {
        gateway.found_or_started_again().await?;
        let TokenIssued { id, label, expires, token } = &self.token;
        let held = TokenIssued {
            id: id.clone(),
            label: label.clone(),
            expires: *expires,
            token: token.clone(),
        };
        Self::open(gateway, &self.agent, Some(held)).await
    }

    /// Ends the token, the run, and with the last run the private gateway. The store is free when this
    /// returns.
    pub(crate) async fn close(mut self, gateway: &RunGateway) {
        self.end(gateway).await;
        drop(self.lines);
        gateway.ended_with_its_last_run().await;
    }

    /// Ends the token and the run. All events were read when this returns.
    pub(crate) async fn end(&mut self, gateway: &RunGateway) {
        let at = self.path();
        let revoked = async {
            if let Ok(client) = gateway.client().await
                && client.delete(&at).await.is_ok()
            {
                // Otherwise the gateway might still count this run below.
                self.lost().await;
            }
        };
        // The end of the stream ends the run too.
        drop(tokio::time::timeout(ENDED_WITHIN, revoked).await);
    }
}
