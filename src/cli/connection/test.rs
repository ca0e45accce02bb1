//! `keyward connection test`: what the API found, for a person or a script.

use super::state::path;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings::Global;
use crate::cli::{output, wait};
use keyward_api::wire::ConnectionTested;

pub(super) async fn run(global: &Global, name: &str) -> Result<(), Failure> {
    let client = Client::open_to_send(global).await?;
    let found = ask(&client, name).await?;
    match (global.json, found.ok) {
        (true, true) => output::print_json(&found),
        (true, false) => {
            output::print_json(&found)?;
            Err(Failure::silent(Exit::Failed))
        }
        (false, true) => output::print(&told(global, &found)),
        (false, false) => Err(failure(global, found)),
    }
}

/// Has a connection tested; shows that something is waited for.
pub(in crate::cli) async fn ask(client: &Client, name: &str) -> Result<ConnectionTested, Failure> {
    let at = format!("{}/test", path(name));
    wait::during(&format!("testing {name}"), client.post(&at, &serde_json::json!({}))).await
}

fn told(global: &Global, found: &ConnectionTested) -> String {
    let hint = found.hint.as_ref().map(|hint| format!("{}\n", global.remedy(hint)));
    let hint = hint.unwrap_or_default();
    format!("{}: {}\n{hint}", found.name, found.message)
}

/// A test that failed, as commands fail.
pub(in crate::cli) fn failure(global: &Global, found: ConnectionTested) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("{}: {}", found.name, found.message));
    match found.hint {
        Some(hint) => failure.hint(global.remedy(&hint)),
        None => failure,
    }
}
