//! [`OpenRun`]: an open run at the gateway. The run lasts as long as its stream: when the stream closes,
//! the gateway revokes the token.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::gateway::RunGateway;
use crate::cli::client::{self, segment};
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::secret::Typed;
use keyward_api::wire::TokenIssued;
use keyward_proxy::ProbeEvent;

/// How long the gateway may take to revoke the token and end its stream.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
/// Longest line with the token.
const LINE_BYTES_MAX: usize = 16 * 1024;

pub(crate) struct OpenRun {
    agent: String,
    token: TokenIssued,
    body: Incoming,
    driver: JoinHandle<()>,
    /// What was read and is no whole line yet.
    rest: Vec<u8>,
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
        let (mut body, driver) = post(gateway, &new).await?;
        let line = first_line(&mut body).await?;
        let token = match held {
            Some(held) => held,
            None => serde_json::from_slice(&line).map_err(|_| {
                Failure::new(Exit::Failed, "the gateway's answer cannot be read")
                    .hint("use the same version of the gateway and the command line")
            })?,
        };
        let (agent, rest, events) = (new.agent.to_owned(), Vec::new(), Vec::new());
        Ok(Self { agent, token, body, driver, rest, events })
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
        while let Some(Ok(frame)) = self.body.frame().await {
            if let Some(data) = frame.data_ref() {
                self.rest.extend_from_slice(data);
            }
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                self.events.extend(serde_json::from_slice::<ProbeEvent>(&line));
            }
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
        self.driver.abort();
        drop(self.body);
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

async fn post(
    gateway: &RunGateway,
    new: &NewRun<'_>,
) -> Result<(Incoming, JoinHandle<()>), Failure> {
    let gone = |what: &dyn std::fmt::Display| {
        Failure::new(Exit::Unreachable, format!("the gateway closed the connection: {what}"))
    };
    let json = serde_json::to_vec(new)
        .map_err(|error| Failure::failed("cannot write the request", &error))?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/api/v1/runs")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json))
        .map_err(|error| Failure::failed("cannot write the request", &error))?;
    gateway.identity()?.mark(request.headers_mut());
    let stream = UnixStream::connect(&gateway.socket).await.map_err(|error| gone(&error))?;
    let (mut sender, stream) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| gone(&e))?;
    let driver = tokio::spawn(async move {
        // The body reports its errors too.
        drop(stream.await);
    });
    let answer = sender.send_request(request).await.map_err(|error| gone(&error))?;
    match answer.status() {
        status if status.is_success() => Ok((answer.into_body(), driver)),
        http::StatusCode::SERVICE_UNAVAILABLE => Err(gone(&"it is stopping")),
        _ => match client::read(answer.map(Body::new)).await {
            Err(refusal) => Err(refusal),
            Ok(_) => Err(gone(&"it sent no answer")),
        },
    }
}

async fn first_line(body: &mut Incoming) -> Result<Vec<u8>, Failure> {
    let mut line: Vec<u8> = Vec::new();
    while line.last() != Some(&b'\n') && line.len() < LINE_BYTES_MAX {
        let frame = body.frame().await;
        let data = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
        let data: Bytes = data
            .ok_or_else(|| Failure::new(Exit::Unreachable, "the gateway closed the connection"))?;
        line.extend_from_slice(&data);
    }
    Ok(line)
}
