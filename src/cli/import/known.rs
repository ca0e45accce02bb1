//! [`relations`]: which found accounts are connected already, and [`names_of`], the names of new connections. The
//! vault compares their values with the secrets of connections; none comes out.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::logins;
use super::recognise::FoundAccount;
use crate::cli::client::Client;
use crate::cli::connection::state::path;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::secret::Typed;
use keyward_api::wire::Comparison;
use keyward_model::{Agent, Connection, Shown};

/// How a found account relates to the connections that exist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Relation {
    /// No connection has its values; this name is free.
    New(String),
    /// This connection has the same values.
    Same(Existing),
    /// The agent has this connection by an earlier import, with other values.
    Changed(Existing),
    /// The values are placeholders of this connection, of another agent.
    Placeholder { existing: Existing, agent: String },
}

/// A connection that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Existing {
    pub(super) id: String,
    pub(super) name: String,
}

/// The body of a comparison.
#[derive(Serialize)]
struct Values<'a> {
    fields: BTreeMap<&'a str, &'a Typed>,
}

impl Relation {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::New(name) => name,
            Self::Same(existing) | Self::Changed(existing) | Self::Placeholder { existing, .. } => {
                &existing.name
            }
        }
    }
}

/// The relation of each account to the connections, in their order. A value that differs from a connection of the
/// agent has changed; with `another`, or if only others have that connection, it is a new account.
///
/// # Errors
/// When the gateway cannot compare.
pub(super) async fn relations(
    client: &Client,
    accounts: &[FoundAccount],
    agent: &str,
    another: bool,
) -> Result<Vec<Relation>, Failure> {
    let agents = client.list::<Shown<Agent>>("/api/v1/agents", &[]).await?.items;
    let agent = agents.iter().filter(|it| it.name == agent && !another);
    let bound: HashSet<&str> =
        agent.flat_map(|it| &it.facts.bindings).map(|it| it.connection.as_str()).collect();
    let all = client.list::<Shown<Connection>>("/api/v1/connections", &[]).await?.items;
    let mut same: Vec<Option<Existing>> = Vec::new();
    for account in accounts {
        same.push(the_same(client, account, &all).await?);
    }
    let of_this_import: HashSet<String> = same.iter().flatten().map(|it| it.id.clone()).collect();
    let mut taken: HashMap<String, Option<&Shown<Connection>>> =
        all.iter().map(|it| (it.spec.name.clone(), Some(it))).collect();
    let mut relations = Vec::new();
    for (account, same) in accounts.iter().zip(same) {
        if let Some(same) = same {
            relations.push(Relation::Same(same));
            continue;
        }
        let earlier = |name: &String| {
            let other = taken.get(name).copied().flatten()?;
            let is_other = of_this_import.contains(other.id.as_str());
            let is_bound = bound.contains(other.id.as_str());
            (is_bound && !is_other && is_of(other, account)).then(|| existing(other))
        };
        let decide = |name: String| match (earlier(&name), taken.contains_key(&name)) {
            (Some(earlier), _) => Some(Relation::Changed(earlier)),
            (None, true) => None,
            (None, false) => Some(Relation::New(name)),
        };
        let relation = names_of(account).find_map(decide);
        let relation = relation.unwrap_or_else(|| Relation::New(account.provider.clone()));
        taken.insert(relation.name().to_owned(), None);
        relations.push(relation);
    }
    Ok(relations)
}

/// The connection that has the account's values in force.
async fn the_same(
    client: &Client,
    account: &FoundAccount,
    all: &[Shown<Connection>],
) -> Result<Option<Existing>, Failure> {
    let fields = account.fields.iter().map(|(name, field)| (name.as_str(), &field.value));
    let values = Values { fields: fields.collect() };
    for connection in all.iter().filter(|it| is_of(it, account)) {
        let at = format!("{}/compare", path(connection.id.as_str()));
        match client.post::<Comparison>(&at, &values).await {
            Ok(found) if found.same => return Ok(Some(existing(connection))),
            Ok(_) => {}
            // Removed meanwhile, or another user's.
            Err(failure) if matches!(failure.exit(), Exit::NotFound | Exit::Forbidden) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(None)
}

fn is_of(connection: &Shown<Connection>, account: &FoundAccount) -> bool {
    connection.spec.provider == account.provider
        && connection.spec.auth.as_deref() == Some(account.auth.as_str())
}

fn existing(connection: &Shown<Connection>) -> Existing {
    Existing { id: connection.id.to_string(), name: connection.spec.name.clone() }
}

/// The provider, with the group where it is a profile; then the same with a number.
pub(super) fn names_of(account: &FoundAccount) -> impl Iterator<Item = String> {
    let is_plain = |group: &str| group.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let base = match account.group.as_str() {
        "default" | "environment" | "gh" | "gcloud" | logins::CODEX => account.provider.clone(),
        profile if is_plain(profile) => format!("{}-{profile}", account.provider),
        _ => account.provider.clone(),
    };
    let first = base.clone();
    std::iter::once(first).chain((2..).map(move |number| format!("{base}-{number}")))
}
