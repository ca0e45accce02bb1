//! Notes about filters that matched nothing because their name does not exist. They are no errors: records keep the
//! names of agents and connections that were removed.

use super::filters::AuditFilters;
use crate::cli::client::Client;
use crate::cli::output;
use keyward_base::codes::Code;
use keyward_base::visible::visible;
use keyward_model::{Agent, Connection, Shown};
use keyward_rules::provider::decode::did_you_mean;

/// Notes each name of the filters that does not exist, with the nearest that does. Without a gateway, only codes
/// are known.
pub(super) async fn note_unknown(client: &Client, filters: &AuditFilters) {
    if let Some(agent) = &filters.agent
        && let Ok(agents) = client.list::<Shown<Agent>>("/api/v1/agents", &[]).await
    {
        note("agent", agent, agents.items.iter().map(|agent| &*agent.name));
    }
    if let Some(connection) = &filters.connection
        && let Ok(all) = client.list::<Shown<Connection>>("/api/v1/connections", &[]).await
    {
        note("connection", connection, all.items.iter().map(|connection| &*connection.name));
    }
    if let Some(code) = &filters.code {
        note("code", code, Code::ALL.iter().map(|code| code.as_str()));
    }
}

fn note<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) {
    if let Some(text) = unknown(what, name, known) {
        output::note(&text);
    }
}

/// `hint: there is no agent `clade`: did you mean `claude`?`
fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    if known.clone().any(|known| known == name) {
        return None;
    }
    let near = did_you_mean(name, known).map(|near| format!(": {near}")).unwrap_or_default();
    // It comes from the user's own command line, but may have been pasted.
    Some(format!("hint: there is no {what} `{}`{near}", visible(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_exists_needs_no_hint_and_a_mistyped_one_gets_the_nearest() {
        let known = || ["claude", "ci"].into_iter();
        assert_eq!(unknown("agent", "ci", known()), None);
        let near = unknown("agent", "clade", known());
        assert_eq!(
            near.as_deref(),
            Some("hint: there is no agent `clade`: did you mean `claude`?")
        );
        let far = unknown("agent", "elsewhere", known());
        assert_eq!(far.as_deref(), Some("hint: there is no agent `elsewhere`"));
    }
}
