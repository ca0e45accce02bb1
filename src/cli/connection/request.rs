//! Requests with a connection's credential: `keyward connection request` sends one for people and scripts, and
//! `keyward connection test` shows what the test of the API found.

use std::collections::BTreeMap;
use std::io::{self, Read};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde::de::IgnoredAny;

use super::state::path;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::terminal::wait;
use keyward_api::wire::{CallRequest, CallView, ConnectionTested};

/// What the API takes as a body.
const BODY_BYTES_MAX: u64 = 512 * 1024;

#[derive(Args, Debug)]
pub(crate) struct ConnectionRequest {
    /// name or id
    name: String,
    /// path at its host, or a whole https:// URL at one of its hosts
    path: String,
    /// method; POST where there is a body
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,
    /// field of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    headers: Vec<(String, String)>,
    /// body; an object or list is sent as application/json
    #[arg(short, long, value_name = "TEXT", conflicts_with = "body_stdin")]
    body: Option<String>,
    /// read the body from standard input
    #[arg(long)]
    body_stdin: bool,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl ConnectionRequest {
    pub(super) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let (at, waiting) =
            (format!("{}/request", path(&self.name)), format!("asking {}", self.name));
        let ask = self.ask()?;
        let answer: CallView = wait::during(&waiting, client.post(&at, &ask)).await?;
        if global.json {
            output::print_json(&answer)?
        } else {
            print(&answer)?
        }
        match answer.status {
            200..=399 => Ok(()),
            _ if global.json => Err(Failure::silent(Exit::Failed)),
            status => Err(Failure::new(Exit::Failed, format!("the provider answered {status}"))),
        }
    }

    fn ask(self) -> Result<CallRequest, Failure> {
        let mut headers = BTreeMap::new();
        for (name, value) in self.headers {
            if headers.insert(name.to_ascii_lowercase(), value).is_some() {
                return Err(Failure::usage(format!("--header {name} is given twice")));
            }
        }
        let bytes = match (self.body, self.body_stdin) {
            (Some(text), _) => Some(text.into_bytes()),
            (None, true) => Some(standard_input()?),
            (None, false) => None,
        };
        if bytes.as_deref().is_some_and(is_json) && !headers.contains_key("content-type") {
            headers.insert("content-type".to_owned(), "application/json".to_owned());
        }
        let posts = bytes.is_some().then(|| "POST".to_owned());
        let (body, body_base64) = match bytes.map(String::from_utf8) {
            None => (None, None),
            Some(Ok(text)) => (Some(text.into()), None),
            Some(Err(error)) => (None, Some(BASE64_STANDARD.encode(error.as_bytes()))),
        };
        let method = self.method.map(|method| method.to_ascii_uppercase()).or(posts);
        Ok(CallRequest { method, path: self.path, headers, body, body_base64 })
    }
}

/// An object or a list.
fn is_json(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..])
        && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::failed("standard input", &error))?;
    match bytes.len() as u64 > BODY_BYTES_MAX {
        true => Err(Failure::usage("standard input is longer than 512 KiB".to_owned())),
        false => Ok(bytes),
    }
}

/// The body as it came.
fn print(answer: &CallView) -> Result<(), Failure> {
    let coded = answer.body_base64.as_ref().map(|coded| BASE64_STANDARD.decode(coded));
    let mut bytes = match (&answer.body, coded) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(Ok(bytes))) => bytes,
        (None, _) => Vec::new(),
    };
    if answer.body.is_some() && bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    output::print_bytes(&bytes).map(drop)
}

pub(super) async fn run_test(global: &Global, client: &Client, name: &str) -> Result<(), Failure> {
    let found = ask_for_test(client, name).await?;
    match (global.json, found.ok) {
        (true, true) => output::print_json(&found),
        (true, false) => {
            output::print_json(&found)?;
            Err(Failure::silent(Exit::Failed))
        }
        (false, true) => output::print(&told(global, &found)),
        (false, false) => Err(test_failure(global, found)),
    }
}

/// Has a connection tested; shows that something is waited for.
pub(in crate::cli) async fn ask_for_test(
    client: &Client,
    name: &str,
) -> Result<ConnectionTested, Failure> {
    let at = format!("{}/test", path(name));
    wait::during(&format!("testing {name}"), client.post(&at, &serde_json::json!({}))).await
}

fn told(global: &Global, found: &ConnectionTested) -> String {
    let hint = found.hint.as_ref().map(|hint| format!("{}\n", global.remedy(hint)));
    let hint = hint.unwrap_or_default();
    format!("{}: {}\n{hint}", found.name, found.message)
}

/// A test that failed, as commands fail.
pub(in crate::cli) fn test_failure(global: &Global, found: ConnectionTested) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("{}: {}", found.name, found.message));
    match found.hint {
        Some(hint) => failure.hint(global.remedy(&hint)),
        None => failure,
    }
}
