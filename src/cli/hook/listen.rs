//! `keyward hook listen`: runs a program for each event of a hook, one at a time, in order. An event is removed after its
//! program has succeeded, so that none is lost.

use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::cli::client::events::ServerEvents;
use crate::cli::client::{Client, segment};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::resource::path;
use crate::cli::run::child::withhold_own;
use crate::cli::settings::Global;
use keyward_api::wire::HookEventView;
use keyward_model::Hook;

pub(crate) const HELP: &str = "\
The program gets the body on standard input, and KEYWARD_EVENT_ID,
KEYWARD_EVENT_TYPE (the content type) and KEYWARD_EVENT_HEADERS (JSON). Exit
status 0 removes the event; otherwise the same event is tried again, first after
one second and later at most once a minute. Without --exec each event is printed
as a line of JSON and removed.

examples:
  keyward hook listen payments --exec ./handle-event
  keyward hook listen payments | jq .body";

/// The first pause before a failed event is tried again; it doubles.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct ListenCommand {
    /// name or id
    name: String,
    /// a command of the shell
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

impl ListenCommand {
    pub(crate) fn has_program(&self) -> bool {
        self.exec.is_some()
    }

    /// Until the gateway stops.
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::running(global).await?;
        let hook = path::<Hook>(&self.name);
        let mut events =
            ServerEvents::new(client.stream(&format!("{hook}/events?follow=true")).await?);
        loop {
            let event: HookEventView = events.next().await?;
            match &self.exec {
                Some(command) => handle(command, &event).await?,
                None if output::print_on(&format!("{}\n", output::json_line(&event)?))? => {}
                None => return Ok(()),
            }
            match client.delete(&format!("{hook}/events/{}", segment(&event.id))).await {
                Ok(()) => {}
                // Another listener has handled it as well.
                Err(failure) if failure.exit() == Exit::NotFound => {}
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// Runs the program until it succeeds.
async fn handle(command: &str, event: &HookEventView) -> Result<(), Failure> {
    let mut pause = PAUSE;
    loop {
        let why = match run(command, event).await {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        output::note(&format!("event {} is tried again in {} s: {why}", event.id, pause.as_secs()));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn run(command: &str, event: &HookEventView) -> std::io::Result<std::process::ExitStatus> {
    let headers = serde_json::to_string(&event.headers).unwrap_or_default();
    let mut program = Command::new("/bin/sh");
    withhold_own(program.as_std_mut());
    let mut child = program
        .args(["-c", command])
        .env("KEYWARD_EVENT_ID", &event.id)
        .env("KEYWARD_EVENT_TYPE", event.content_type.as_deref().unwrap_or_default())
        .env("KEYWARD_EVENT_HEADERS", headers)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let decoded = event.body_base64.as_ref().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let body = decoded.unwrap_or_else(|| event.body.clone().unwrap_or_default().into_bytes());
    if let Some(mut input) = child.stdin.take() {
        // A program need not read it.
        let _ = input.write_all(&body).await;
    }
    child.wait().await
}
