//! `keyward reload`: asks the running gateway to read its configuration again, and prints the result.

use super::client::Client;
use super::failure::Failure;
use super::settings::Global;
use super::{output, plan};
use keyward_api::wire::ReloadView;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// print what would be made, changed, paused and removed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        if self.dry_run {
            return plan::of_reload(global).await;
        }
        let client = Client::running(global).await?;
        let view: ReloadView = client.post("/api/v1/reload", &serde_json::json!({})).await?;
        if !global.json {
            for warning in &view.warnings {
                output::note(&format!("warning: {warning}"));
            }
        }
        output::show(global.json, &view, |_| "reloaded\n".to_owned())
    }
}
