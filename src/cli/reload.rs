//! `keyward reload`: asks the running gateway to read its configuration again, and tells what it says.

use super::client::Client;
use super::failure::Failure;
use super::output;
use super::settings::Global;
use keyward_api::wire::ReloadView;

/// Asks.
pub(crate) async fn run(global: &Global) -> Result<(), Failure> {
    let client = Client::running(global).await?;
    let view: ReloadView = client.post("/api/v1/reload", &serde_json::json!({})).await?;
    if !global.json {
        for warning in &view.warnings {
            output::note(&format!("warning: {warning}"));
        }
    }
    output::show(global.json, &view, |_| "reloaded\n".to_owned())
}
