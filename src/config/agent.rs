//! `agents:`: what the file gives beside the spec of an agent, its token and the connections that it may use.

use serde::Deserialize;
use serde_yaml::Value;

use super::connection::Providers;
use super::declared::{Declared, InFile, known};
use super::names;
use super::reading::Reading;
use super::secret::SecretSource;
use super::source;
use keyward_base::keys::section;
use keyward_model::{Agent, Connection};
use keyward_rules::provider::document::{item_of, key_of};
use keyward_state::crypto::token;

/// What the file gives an agent beside its spec.
#[derive(Clone, Debug)]
pub struct AgentInFile {
    /// Its token, when it is chosen here; others are issued.
    pub token: Option<SecretSource>,
    /// Names of connections, of the configuration or of the store.
    pub uses: Vec<String>,
    /// Those of them that are the default of their hosts.
    pub defaults: Vec<String>,
    /// `agents[0]`.
    path: String,
}

section! {
    /// The keys of an item beside those of the spec.
    #[derive(Deserialize)]
    pub struct Beside {
        /// A token that is chosen here: at least 20 letters, digits or `-._~`. Without it, tokens are
        /// issued by commands.
        #[key("[secret](#secrets)")]
        token: Option<Value>,
        /// The connections that it may use, of this file or of the store.
        #[key("list of names of connections", "[]")]
        #[serde(default, rename = "use")]
        uses: Vec<String>,
        /// Connections of `use` that requests use which select none, where several fit. Without it, the oldest
        /// binding is the default; new ones are bound in the order of `use`.
        #[key("list of names of connections", "[]")]
        #[serde(default)]
        defaults: Vec<String>,
    }
}

impl InFile for Agent {
    type Beside = Beside;
    type With = AgentInFile;

    fn with(beside: Beside, path: &str, reading: &mut Reading<'_>) -> Option<AgentInFile> {
        let token = beside.token.as_ref();
        let token = token.and_then(|value| self::token(value, &key_of(path, "token"), reading));
        let Beside { uses, defaults, .. } = beside;
        Some(AgentInFile { token, uses, defaults, path: path.to_owned() })
    }
}

/// Reads `agents:`.
pub(super) fn agents(
    value: Option<&Value>,
    providers: &Providers<'_>,
    connections: &[Declared<Connection>],
    reading: &mut Reading<'_>,
) -> Vec<Declared<Agent>> {
    let found = Declared::<Agent>::read(value, providers, reading);
    for agent in &found {
        names::no_token(&agent.name, &agent.with.path, reading);
        uses(agent, connections, reading);
        defaults(agent, connections, reading);
        for (index, id) in agent.user_providers.iter().enumerate().filter(|(_, id)| *id != "*") {
            let at = item_of(&key_of(&agent.with.path, "user_providers"), index);
            known(id, &at, providers, reading);
        }
    }
    found
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
fn uses(agent: &Declared<Agent>, connections: &[Declared<Connection>], reading: &mut Reading<'_>) {
    let AgentInFile { uses, path, .. } = &agent.with;
    for (index, name) in uses.iter().enumerate() {
        let at = item_of(&key_of(path, "use"), index);
        if name.is_empty() {
            reading.problems.add(&at, "the name is empty", "name a connection");
        }
        if uses[..index].contains(name) {
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

/// Each is one of `use`, and one of its provider.
fn defaults(
    agent: &Declared<Agent>,
    connections: &[Declared<Connection>],
    reading: &mut Reading<'_>,
) {
    let AgentInFile { uses, defaults, path, .. } = &agent.with;
    let provider = |name: &String| {
        let is_it = |it: &&Declared<Connection>| it.org == agent.org && it.name == *name;
        connections.iter().find(is_it).map(|it| it.provider.as_str())
    };
    for (index, name) in defaults.iter().enumerate() {
        let at = item_of(&key_of(path, "defaults"), index);
        if !uses.contains(name) {
            let message = format!("`use` does not name `{name}`");
            reading.problems.add(&at, message, "name it there too");
        }
        let is_second = |other: &&String| {
            *other == name || provider(other).is_some() && provider(other) == provider(name)
        };
        if let Some(other) = defaults[..index].iter().find(is_second) {
            let message = format!("`{other}` is already the default for its hosts");
            reading.problems.add(&at, message, "name one connection of each provider");
        }
    }
}
