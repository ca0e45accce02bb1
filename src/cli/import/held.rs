//! [`held_placeholders`]: candidates that are placeholders already. Those of another agent lead to its connection.

use std::collections::BTreeMap;

use super::candidate::ImportCandidate;
use super::known::{Existing, Relation};
use super::recognise::{FoundAccount, FoundField};
use super::report::Skipped;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::terminal::secret::Typed;
use keyward_api::wire::ProviderView;
use keyward_model::{Agent, BindingShown, Connection, Shown};

/// What the placeholders among the candidates are.
#[derive(Debug, Default)]
pub(super) struct HeldPlaceholders {
    /// Connections of other agents, in files that can get the placeholders of the importing agent.
    pub(super) accounts: Vec<(FoundAccount, Relation)>,
    /// The other placeholders.
    pub(super) skipped: Vec<Skipped>,
}

/// A placeholder of an agent that a candidate has.
struct HeldPlaceholder<'a> {
    /// The index of the candidate.
    at: usize,
    agent: &'a str,
    binding: &'a BindingShown,
    field: &'a str,
    text: &'a str,
}

/// Which of the candidates are placeholders, for an import of `agent`.
///
/// # Errors
/// When the gateway does not answer.
pub(super) async fn held_placeholders(
    client: &Client,
    candidates: &[ImportCandidate],
    providers: &[ProviderView],
    agent: &str,
) -> Result<HeldPlaceholders, Failure> {
    let mut held = HeldPlaceholders::default();
    if !candidates.iter().any(ImportCandidate::has_placeholder) {
        return Ok(held);
    }
    let agents = client.list::<Shown<Agent>>("/api/v1/agents", &[]).await?.items;
    let connections = client.list::<Shown<Connection>>("/api/v1/connections", &[]).await?.items;
    let mut of_others: BTreeMap<(&str, &str), Vec<HeldPlaceholder<'_>>> = BTreeMap::new();
    for (at, candidate) in candidates.iter().enumerate().filter(|(_, it)| it.has_placeholder()) {
        match held_by(&agents, at, candidate) {
            Some(it) if it.agent != agent && it.may_be_replaced(candidate) => {
                let key = (it.binding.connection.as_str(), it.agent);
                of_others.entry(key).or_default().push(it);
            }
            other => {
                let why = why_not(other.as_ref(), agent);
                held.skipped.push(Skipped { place: candidate.place.clone(), why });
            }
        }
    }
    for ((id, _), placeholders) in of_others {
        let connection = connections.iter().find(|it| it.id.as_str() == id);
        let auth = connection.and_then(|it| it.spec.auth.clone()).unwrap_or_default();
        held.accounts.extend(account_of(&placeholders, providers, auth));
    }
    Ok(held)
}

impl HeldPlaceholder<'_> {
    /// Whether the value is this placeholder and nothing else, in a file that is written.
    fn may_be_replaced(&self, candidate: &ImportCandidate) -> bool {
        candidate.at.is_some() && candidate.value.text() == self.text
    }
}

/// The placeholder in the candidate at this index, if an agent has it.
fn held_by<'a>(
    agents: &'a [Shown<Agent>],
    at: usize,
    candidate: &ImportCandidate,
) -> Option<HeldPlaceholder<'a>> {
    let value = candidate.value.text();
    for agent in agents {
        for binding in &agent.facts.bindings {
            let mut all = binding.placeholders.iter();
            if let Some((field, text)) = all.find(|(_, text)| value.contains(text.as_str())) {
                return Some(HeldPlaceholder { at, agent: &agent.name, binding, field, text });
            }
        }
    }
    None
}

/// Why a placeholder stays as it is.
fn why_not(placeholder: Option<&HeldPlaceholder<'_>>, agent: &str) -> String {
    let Some(HeldPlaceholder { agent: of, binding, .. }) = placeholder else {
        return "a placeholder that no agent of yours has: its connection was removed, or belongs \
                to other users or another installation"
            .to_owned();
    };
    let name = &binding.name;
    match *of == agent {
        true => format!("already the placeholder of agent {agent} for connection {name}"),
        false => format!(
            "a placeholder of agent {of} for connection {name}: keyward agent bind {agent} {name}"
        ),
    }
}

/// The connection of the placeholders, which are all of one agent.
fn account_of(
    placeholders: &[HeldPlaceholder<'_>],
    providers: &[ProviderView],
    auth: String,
) -> Option<(FoundAccount, Relation)> {
    let HeldPlaceholder { agent, binding, .. } = placeholders.first()?;
    let provider = binding.provider.clone();
    let known = providers.iter().find(|it| it.id == provider);
    let title = known.map_or_else(|| provider.clone(), |it| it.name.clone());
    let mut fields: BTreeMap<String, FoundField> = BTreeMap::new();
    for it in placeholders {
        let value = Typed::from(it.text.to_owned());
        let field = fields.entry(it.field.to_owned());
        field
            .or_insert_with(|| FoundField { value, is_secret: false, at: Vec::new() })
            .at
            .push(it.at);
    }
    let account = FoundAccount { provider, title, auth, group: String::new(), fields };
    let existing = Existing { id: binding.connection.to_string(), name: binding.name.clone() };
    let agent = (*agent).to_owned();
    Some((account, Relation::Placeholder { existing, agent }))
}
