//! Other connections of the same provider: those that an agent has, with the one that requests use by default; and
//! those that cannot be used, such as one that an earlier `keyward connect` left because it was killed.

use super::super::failure::Failure;
use super::super::output;
use super::questions;
use crate::cli::settings::Global;
use keyward_api::wire::ProviderView;
use keyward_model::{Agent, BindingShown, Connection, ConnectionState, Shown};
use keyward_rules::provider::AuthKind;

/// Asks which account is the default, if the agent has another one of the provider.
pub(super) fn becomes_default(
    agent: Option<&Shown<Agent>>,
    connection: &Shown<Connection>,
) -> Result<bool, Failure> {
    let Some(present) = present_default(agent, &connection.provider) else { return Ok(false) };
    output::note("which account do requests use by default?");
    let present = format!("{present} (as before)");
    Ok(questions::choose("default", &[&present, &connection.name])? == 1)
}

/// Which of several accounts of a provider a request uses, after `new` was bound.
pub(super) fn note(
    before: Option<&Shown<Agent>>,
    agent: &str,
    new: &BindingShown,
    selected: &str,
) -> String {
    let BindingShown { name, provider, .. } = new;
    match present_default(before, provider) {
        _ if new.default => format!("note: {name} is the default of agent {agent} now\n"),
        Some(present) => format!(
            "note: {present} stays the default of agent {agent}; {selected}\nchange it: keyward agent bind \
             {agent} {name} --default\n"
        ),
        None => format!("note: {agent} has several accounts there; {selected}\n"),
    }
}

/// How one of several connections of a provider is selected.
pub(super) fn selected(connection: &Shown<Connection>, provider: &ProviderView) -> String {
    let name = &connection.name;
    match (provider.protocol, connection.facts.kind) {
        (Some(_), _) => {
            format!("a session uses {name} if it names\n{name} as its database or user")
        }
        (None, Some(AuthKind::SshKey)) => {
            "a login is signed by\nthe first key that permits its server and account".to_owned()
        }
        (None, Some(AuthKind::File)) => {
            "programs find the\nfile of the default by the variables".to_owned()
        }
        (None, _) => format!(
            "a request uses {name} with its placeholder, or with\nthe field `Keyward-Connection: {name}`"
        ),
    }
}

/// The agent's default among its connections of the provider.
fn present_default<'a>(agent: Option<&'a Shown<Agent>>, provider: &str) -> Option<&'a str> {
    let mut bindings = agent?.facts.bindings.iter();
    let found = bindings.find(|it| it.default && it.provider == provider)?;
    Some(&found.name)
}

/// How many are named.
const NAMED_MAX: usize = 3;

/// Notes each of them with its remedy, before another name is proposed. `asks`: there is a terminal to ask on.
pub(super) fn unusable_note(
    global: &Global,
    stored: &[Shown<Connection>],
    provider: &ProviderView,
    asks: bool,
) {
    if !asks {
        return;
    }
    // One that works may be used without a binding that is seen here: by a rule, a hook or agents of others.
    let is_unusable = |one: &&Shown<Connection>| {
        let state = &one.facts.state;
        one.provider == provider.id
            && matches!(state, ConnectionState::Draft { .. } | ConnectionState::Broken { .. })
    };
    for one in stored.iter().filter(is_unusable).take(NAMED_MAX) {
        let (name, remedy) = (one.name(), one.facts.remedy.as_deref().unwrap_or_default());
        let remedy = global.remedy(remedy);
        output::note(&format!("note: connection {name} cannot be used: {remedy}"));
    }
}
