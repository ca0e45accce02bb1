//! Connections of the same provider that no agent has, such as one that an earlier `keyward connect` left because it was
//! killed.

use std::collections::BTreeSet;

use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use keyward_api::wire::ProviderView;
use keyward_model::{Agent, Connection, Shown};

/// Notes each of them with what can be done, before another name is proposed. `asks`: there is a terminal to ask on.
pub(super) async fn note(
    client: &Client,
    stored: &[Shown<Connection>],
    provider: &ProviderView,
    asks: bool,
) -> Result<(), Failure> {
    // Those of users are used in sessions.
    let is_same =
        |one: &&Shown<Connection>| one.provider == provider.id && one.facts.owner.is_none();
    let mut same = stored.iter().filter(is_same).peekable();
    if !asks || same.peek().is_none() {
        return Ok(());
    }
    let agents = client.list::<Shown<Agent>>("/api/v1/agents", &[]).await?.items;
    let bindings = agents.iter().flat_map(|agent| &agent.facts.bindings);
    let bound: BTreeSet<&str> = bindings.map(|binding| binding.connection.as_str()).collect();
    for one in same.filter(|one| !bound.contains(one.id.as_str())) {
        let name = one.name();
        let remedy = match &one.facts.remedy {
            Some(remedy) => remedy.clone(),
            None => format!("`keyward agent bind AGENT {name}` gives it to one"),
        };
        output::note(&format!(
            "note: no agent of yours has connection {name}: {remedy}; `keyward connection remove {name}` removes it"
        ));
    }
    Ok(())
}
