//! A connection in the API and in words: its path, its state, whether an agent may be bound to it, and a note about
//! connections that the configuration declares and the store does not have yet.

use crate::cli::client::segment;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::terminal::table::moment;
use keyward_model::{Agent, Connection, ManagedBy, Shown};
use keyward_state::directory::ConnectionState;

/// The state, and since when refreshes fail.
pub(in crate::cli) fn state_of(connection: &Shown<Connection>) -> String {
    let state = state(&connection.facts.state);
    match connection.facts.token.as_ref().and_then(|token| token.failing.as_ref()) {
        None => state,
        Some(failing) => format!("{state}, refreshes fail since {}", moment(failing.since)),
    }
}

/// `active`, `paused`, `broken: revoked (detail)`.
pub(in crate::cli) fn state(state: &ConnectionState) -> String {
    // The API's own words, whatever the states are.
    let words = serde_json::to_value(state).unwrap_or_default();
    let word = |key: &str| words.get(key).and_then(|word| word.as_str()).map(str::to_owned);
    let reason =
        word("reason").or(word("failure")).map(|reason| format!(": {reason}")).unwrap_or_default();
    let detail = word("detail").map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{reason}{detail}", word("state").unwrap_or_default())
}

/// The same behind "is": `active`, `a draft: wrong_key (detail)`.
pub(in crate::cli) fn state_after_is(of: &ConnectionState) -> String {
    match of {
        ConnectionState::Draft { .. } => format!("a {}", state(of)),
        ConnectionState::Testing
        | ConnectionState::Active
        | ConnectionState::Paused
        | ConnectionState::Broken { .. } => state(of),
    }
}

/// Prints what the stored secret causes beside its use.
pub(in crate::cli) fn note_warnings(connection: &Shown<Connection>) {
    for warning in &connection.facts.warnings {
        output::note(&format!("note: connection {}: {warning}", connection.name));
    }
}

/// Whether a binding of this connection would be accepted, and would give the agent no account of another user.
pub(in crate::cli) fn may_bind(agent: &Shown<Agent>, connection: &Shown<Connection>) -> bool {
    let (owner, environment) = (&connection.facts.owner, &connection.environment);
    connection.facts.state.is_usable()
        && (owner.is_none() || *owner == agent.facts.owner)
        && (environment.is_none()
            || agent.environment.is_none()
            || *environment == agent.environment)
}

/// How the agent gets the connection. `keyward` is how the command line is called for this install.
pub(in crate::cli) fn how_to_bind(agent: &Shown<Agent>, connection: &str, keyward: &str) -> String {
    let name = &agent.name;
    match agent.managed_by {
        // Bindings of such an agent are refused elsewhere.
        Some(ManagedBy::File) => {
            format!("add `use: [{connection}]` to agent {name} in the configuration file")
        }
        Some(ManagedBy::Store) | None => format!("{keyward} agent bind {name} {connection}"),
    }
}

/// The path of a connection.
pub(in crate::cli) fn path(name: &str) -> String {
    format!("/api/v1/connections/{}", segment(name))
}

/// Notes declared connections that do not exist yet, because the gateway that creates them is not
/// running.
pub(super) fn declared_note(global: &Global, known: &[&str]) -> Result<(), Failure> {
    let config = global.load()?;
    let declared = config.connections.iter().map(|declared| &*declared.name);
    let missing: Vec<_> = declared.filter(|name| !known.contains(name)).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        output::note(&format!(
            "note: the configuration declares {missing}: made when the gateway starts"
        ));
    }
    Ok(())
}
