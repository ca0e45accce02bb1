//! Finds the plugin that a command names.

use clap::Args;

use crate::cli::client::segment;

/// Which plugin.
#[derive(Clone, Debug, Args)]
pub(crate) struct PluginArgument {
    /// name or id
    pub(super) name: String,
    /// its agent, if several have a plugin of that name
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

impl PluginArgument {
    /// Its path in the API.
    pub(super) fn path(&self) -> String {
        let query = self.agent.as_deref().map(|agent| format!("?agent={}", segment(agent)));
        format!("/api/v1/plugins/{}{}", segment(&self.name), query.unwrap_or_default())
    }
}
