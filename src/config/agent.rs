//! `agents:`: declared ones, and which connections they may use.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::declared::Declared;
use super::names;
use super::reading::Reading;
use super::secret::SecretSource;
use super::source;
use keyward_base::id::OrgId;
use keyward_base::keys::section;
use keyward_model::Connection;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_state::crypto::token;

/// An agent of the configuration.
#[derive(Clone, Debug)]
pub struct DeclaredAgent {
    /// Its name, unique in its org.
    pub name: String,
    /// Its org.
    pub org: OrgId,
    /// Its token, when it is chosen here; others are issued.
    pub token: Option<SecretSource>,
    /// For people.
    pub labels: BTreeMap<String, String>,
    /// Names of connections, of the configuration or of the store.
    pub uses: Vec<String>,
    /// Such as `production`.
    pub environment: Option<String>,
    /// Where it stands, for errors: `keyward.yaml:12: agents[0]`.
    pub place: String,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct AgentText {
        /// Unique. 1 to 64 letters, digits or `-_.~`.
        #[key("text", required)]
        #[serde(default)]
        name: String,
        /// Its organisation, made when it is first named. Nothing of one exists for another.
        #[key("name of an organisation", "default")]
        org: Option<String>,
        /// A token that is chosen here: at least 20 letters, digits or `-._~`. Without it, tokens are
        /// issued by commands.
        #[key("[secret](#secrets)")]
        token: Option<Value>,
        /// For people. At most 64, each side 1 to 64 bytes.
        #[key("map of text to text", "{}")]
        #[serde(default)]
        labels: BTreeMap<String, String>,
        /// The connections that it may use, of this file or of the store.
        #[key("list of names of connections", "[]")]
        #[serde(default, rename = "use")]
        uses: Vec<String>,
        /// Connections of another environment cannot be used.
        #[key("text")]
        environment: Option<String>,
    }
}

/// Reads `agents:`.
pub(super) fn agents(
    value: Option<&Value>,
    connections: &[Declared<Connection>],
    reading: &mut Reading<'_>,
) -> Vec<DeclaredAgent> {
    let mut found: Vec<DeclaredAgent> = Vec::new();
    for (index, item) in reading.items(value, "agents").iter().enumerate() {
        let path = item_of("agents", index);
        let Some(text) = reading.section::<AgentText>(Some(item), &path) else { continue };
        let agent = agent(text, &path, reading);
        let earlier = found.iter().filter(|other| other.org == agent.org);
        names::unique(&agent.name, earlier.map(|other| other.name.as_str()), &path, reading);
        uses(&agent, &path, connections, reading);
        found.push(agent);
    }
    found
}

fn agent(text: AgentText, path: &str, reading: &mut Reading<'_>) -> DeclaredAgent {
    names::agent(&text.name, path, reading);
    names::environment(text.environment.as_deref(), path, reading);
    names::labels(&text.labels, path, reading);
    DeclaredAgent {
        org: reading.org(text.org.as_deref(), &key_of(path, "org")),
        token: text.token.as_ref().and_then(|value| token(value, &key_of(path, "token"), reading)),
        name: text.name,
        labels: text.labels,
        uses: text.uses,
        environment: text.environment,
        place: reading.place(path),
    }
}

fn token(value: &Value, path: &str, reading: &mut Reading<'_>) -> Option<SecretSource> {
    let source = source::secret(value, path, reading)?;
    if let SecretSource::Inline(secret) = &source
        && !token::is_acceptable_secret(secret)
    {
        let remedy =
            "choose at least 20 letters, digits or `-._~`, or leave it out for an issued one";
        reading.problems.add(path, "this is not a token", remedy);
    }
    Some(source)
}

/// Connections that are not declared may be in the store, which only the running gateway knows.
fn uses(
    agent: &DeclaredAgent,
    path: &str,
    connections: &[Declared<Connection>],
    reading: &mut Reading<'_>,
) {
    for (index, name) in agent.uses.iter().enumerate() {
        let at = item_of(&key_of(path, "use"), index);
        if name.is_empty() {
            reading.problems.add(&at, "the name is empty", "name a connection");
        }
        if agent.uses[..index].contains(name) {
            reading.problems.add(&at, format!("`{name}` is named twice"), "remove one");
            continue;
        }
        let is_it = |it: &&Declared<Connection>| it.org == agent.org && it.name == *name;
        let connection = connections.iter().find(is_it);
        let environments = (agent.environment.as_ref(), connection.map(|it| &it.environment));
        if let (Some(own), Some(Some(other))) = environments
            && own != other
        {
            let message = format!("the agent is in environment `{own}`, `{name}` is in `{other}`");
            reading.problems.add(&at, message, "use a connection of the same environment");
        }
    }
}
