//! `agents:`: what the file gives beside the spec of an agent, its token and the connections that it may use.

use serde::Deserialize;
use serde_yaml::Value;

use super::declared::{Declared, DeclaredByName, InFile, known};
use super::reading::ConfigReading;
use super::reading::KnownProviders;
use super::secret::SecretSource;
use super::{reading, source};
use keyward_base::keys::section;
use keyward_model::{Agent, BindingLimits, Connection};
use keyward_rules::policy::OwnAuthorization;
use keyward_rules::provider::decode::decode;
use keyward_rules::provider::document::{item_of, key_of};
use keyward_state::crypto::token;

/// What the file gives an agent beside its spec.
#[derive(Clone, Debug)]
pub struct AgentInFile {
    /// Its token, when it is chosen here; others are issued.
    pub token: Option<SecretSource>,
    /// The connections, of the configuration or of the store.
    pub uses: Vec<UseItem>,
    /// Those of them that are the default of their hosts.
    pub defaults: Vec<String>,
    /// `agents[0]`.
    path: String,
}

/// An item of `use`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UseItem {
    /// The name of a connection.
    pub connection: String,
    /// The named actions that the agent is limited to.
    pub limits: BindingLimits,
}

section! {
    /// An item of `use` that limits the agent.
    #[derive(Clone, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct LimitedUse {
        /// What the agent may use.
        #[key("name of a connection", required)]
        connection: String,
        /// [Named actions](../guides/rules.md#named-actions) of the connection's provider that the agent may use;
        /// default: all requests.
        #[key("list of names of actions")]
        allow: Option<Vec<String>>,
        /// Named actions that the agent and its plugins may not use; default: none.
        #[key("list of names of actions")]
        deny: Option<Vec<String>>,
        /// What is done with requests that have an
        /// [authorization of their own](../guides/rules.md#requests-with-an-authorization-of-their-own), which the
        /// connection would replace.
        #[key(one of ["refuse", "pass"], "refuse")]
        #[serde(default)]
        own_authorization: OwnAuthorization,
    }
}

section! {
    /// The keys of an item beside those of the spec.
    #[derive(Deserialize)]
    pub struct AgentKeys {
        /// A token that is chosen here: at least 20 letters, digits or `-._~`. Without it, tokens are
        /// issued by commands; one that was chosen here before is revoked.
        #[key("[secret](#secrets)")]
        token: Option<Value>,
        /// The connections that it may use, of this file or of the store. Instead of a name, an item can be
        /// `{ connection: NAME, allow: [ACTION], deny: [ACTION], own_authorization: pass }`, which limits the agent to
        /// [named actions](../guides/rules.md#named-actions).
        #[key("list of names of connections", "[]")]
        #[serde(default, rename = "use")]
        uses: Vec<Value>,
        /// Connections of `use` that requests use which select none, where several fit. Without it, the oldest
        /// binding is the default; new ones are bound in the order of `use`.
        #[key("list of names of connections", "[]")]
        #[serde(default)]
        defaults: Vec<String>,
    }
}

impl InFile for Agent {
    type ItemKeys = AgentKeys;
    type With = AgentInFile;

    fn with(
        item_keys: AgentKeys,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) -> Option<AgentInFile> {
        let token = item_keys.token.as_ref();
        let token = token.and_then(|value| self::token(value, &key_of(path, "token"), reading));
        let AgentKeys { uses, defaults, .. } = item_keys;
        let uses = self::read_uses(&uses, &key_of(path, "use"), reading);
        Some(AgentInFile { token, uses, defaults, path: path.to_owned() })
    }
}

pub(super) fn agents(
    value: Option<&Value>,
    providers: &KnownProviders<'_>,
    connections: &[Declared<Connection>],
    reading: &mut ConfigReading<'_>,
) -> Vec<Declared<Agent>> {
    let found = Declared::<Agent>::read(value, providers, reading);
    let connections = DeclaredByName::of(connections);
    for agent in &found {
        reading::check_not_token(&agent.name, &agent.with.path, reading);
        uses(agent, &connections, reading);
        defaults(agent, &connections, reading);
        for (index, id) in agent.user_providers.iter().enumerate().filter(|(_, id)| *id != "*") {
            let at = item_of(&key_of(&agent.with.path, "user_providers"), index);
            known(id, &at, providers, reading);
        }
    }
    found
}

fn token(value: &Value, path: &str, reading: &mut ConfigReading<'_>) -> Option<SecretSource> {
    let source = source::secret(value, path, reading)?;
    if let SecretSource::Inline(secret) = &source
        && !token::is_acceptable_secret(secret)
    {
        let remedy = "choose at least 20 letters, digits or `-._~`, or omit it for an issued one";
        reading.problems.add(path, "this is not a token", remedy);
    }
    Some(source)
}

/// Reads the items of `use`.
fn read_uses(items: &[Value], path: &str, reading: &mut ConfigReading<'_>) -> Vec<UseItem> {
    let each = items.iter().enumerate().filter_map(|(index, item)| {
        let at = item_of(path, index);
        reading.no_empty_lists(item, &["allow", "deny"], &at);
        let LimitedUse { connection, allow, deny, own_authorization } = match item {
            Value::Mapping(_) => decode::<LimitedUse>(item, &at, &mut reading.problems)?,
            name => {
                let connection = decode::<String>(name, &at, &mut reading.problems)?;
                let own_authorization = OwnAuthorization::default();
                LimitedUse { connection, allow: None, deny: None, own_authorization }
            }
        };
        let (allow, deny) = (allow.unwrap_or_default(), deny.unwrap_or_default());
        Some(UseItem { connection, limits: BindingLimits { allow, deny, own_authorization } })
    });
    each.collect()
}

/// Connections that are not declared may be in the store, which only the running gateway knows.
fn uses(
    agent: &Declared<Agent>,
    connections: &DeclaredByName<'_, Connection>,
    reading: &mut ConfigReading<'_>,
) {
    let AgentInFile { uses, path, .. } = &agent.with;
    for (index, UseItem { connection: name, .. }) in uses.iter().enumerate() {
        let at = item_of(&key_of(path, "use"), index);
        if name.is_empty() {
            reading.problems.add(&at, "the name is empty", "name a connection");
        }
        if uses[..index].iter().any(|it| it.connection == *name) {
            reading.problems.add(&at, format!("`{name}` is named twice"), "remove one");
            continue;
        }
        let connection = connections.find(&agent.org, name);
        if let Some((own, other)) = connection.and_then(|it| agent.environment_mismatch(it)) {
            let message = format!("the agent is in environment `{own}`, `{name}` is in `{other}`");
            reading.problems.add(&at, message, "use a connection of the same environment");
        }
    }
}

/// Each is one of `use`, and one of its provider.
fn defaults(
    agent: &Declared<Agent>,
    connections: &DeclaredByName<'_, Connection>,
    reading: &mut ConfigReading<'_>,
) {
    let AgentInFile { uses, defaults, path, .. } = &agent.with;
    let provider =
        |name: &String| connections.find(&agent.org, name).map(|it| it.provider.as_str());
    for (index, name) in defaults.iter().enumerate() {
        let at = item_of(&key_of(path, "defaults"), index);
        if !uses.iter().any(|it| it.connection == *name) {
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
