//! `keyward audit tail -f`: prints the gateway's stream of records (Server-Sent Events) as it arrives.

use super::filters::AuditFilters;
use super::show::{AuditScreen, rendered};
use crate::cli::client::Client;
use crate::cli::client::events::ServerEvents;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::settings::Global;
use clap::Args;
use keyward_api::wire::Event;

/// Most existing records that the stream can begin with.
const LIMIT_MAX: usize = 1_000;

/// Records of requests to the running gateway, as they end.
pub(in crate::cli) struct Followed(ServerEvents);

impl Followed {
    /// Begins with the next request, of a token or of all.
    pub(in crate::cli) async fn begin(
        client: &Client,
        token: Option<&str>,
    ) -> Result<Self, Failure> {
        Self::begin_after(client, token, None).await
    }

    /// Begins with the request after the record with number `last`, or with the next one.
    pub(in crate::cli) async fn begin_after(
        client: &Client,
        token: Option<&str>,
        last: Option<u64>,
    ) -> Result<Self, Failure> {
        let token = token.map(|token| format!("&token={token}")).unwrap_or_default();
        let after = last.map(|last| format!("&after={last}")).unwrap_or_default();
        let at = format!("/api/v1/audit?follow=true&requests=true{token}{after}");
        let body = client.stream(&at).await?;
        Ok(Self(ServerEvents::new(body)))
    }

    /// The next record; `None` when the gateway ended the stream. Cancelling this loses no record.
    pub(in crate::cli) async fn next(&mut self) -> Option<Event> {
        self.0.next().await.ok()
    }
}

/// Shows records until the gateway stops or the reader goes away. Ctrl-C ends the process, as it
/// does every other: nothing is left to be done.
pub(super) async fn run(
    global: &Global,
    tail: &Tail,
    lines: &mut AuditScreen,
) -> Result<(), Failure> {
    let limit = tail.lines;
    if limit > LIMIT_MAX {
        return Err(Failure::usage(format!("`-n` is at most {LIMIT_MAX} with `-f`")));
    }
    let client = Client::running(global).await.map_err(|failure| match failure.exit() {
        Exit::Unreachable => failure.hint(
            "no gateway writes records: start one, or omit `-f` to read the existing records",
        ),
        _ => failure,
    })?;
    let more = [("follow", "true".to_owned()), ("limit", limit.to_string())];
    let body = client.stream(&tail.filters.path("/audit", &more)).await?;
    let mut events = ServerEvents::new(body);
    loop {
        let record: Event = events.next().await?;
        if !output::print_on(&rendered(global.json, &[record], lines)?)? {
            return Ok(());
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(super) filters: AuditFilters,
    /// show this many existing records
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
    pub(super) lines: usize,
    /// follow new records until Ctrl-C
    #[arg(short, long, conflicts_with = "until")]
    pub(super) follow: bool,
}
