//! `keyward export --yaml`: the resources of an organisation as a configuration that another gateway accepts. Secrets
//! become references to environment variables, which are listed.

use super::client::Client;
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use keyward_api::wire::ExportView;
use keyward_app::config;

pub(super) const EXAMPLES: &str = "\
Has no secret, no user and no token: `keyward backup` has those. Sections of the
gateway itself, such as `listen` and `limits`, are those of its own
configuration file.

examples:
  keyward export --yaml > resources.yaml
  keyward --org acme export --yaml";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// print YAML, as without it; --json prints JSON with the variables and notes
    #[arg(long)]
    yaml: bool,
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        let view: ExportView = client.get("/api/v1/export").await?;
        if global.json && !self.yaml {
            return output::print_json(&view);
        }
        let text = config::yaml(&view.configuration, &head(&view)).map_err(|error| {
            Failure::new(Exit::Failed, format!("this cannot be written as YAML: {error}"))
        })?;
        output::print(&text)?;
        if let [first, ..] = &*view.variables {
            let name = &first.name;
            output::note(&match view.variables.len() {
                1 => format!("note: variable {name} must be set"),
                count => format!(
                    "note: {count} variables must be set, such as {name}; they are listed at the top"
                ),
            });
        }
        Ok(())
    }
}

/// What a reader has to know before using it.
fn head(view: &ExportView) -> Vec<String> {
    let mut lines = vec!["Written by `keyward export`.".to_owned()];
    if !view.variables.is_empty() {
        lines.push(String::new());
        lines.push("Variables that must be set:".to_owned());
        let each = view.variables.iter();
        lines.extend(each.map(|it| format!("  {}  {}", it.name, it.secret_of)));
    }
    if !view.notes.is_empty() {
        lines.push(String::new());
        lines.extend(view.notes.iter().map(|note| format!("Note: {note}")));
    }
    lines
}
