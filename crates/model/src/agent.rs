//! Agents: programs that use the proxy. An agent's tokens and bindings are part of its row, so they change together
//! with it in one write.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use keyward_base::id::{AgentId, ConnectionId, UserId};
use keyward_base::keys::section;
use keyward_rules::host_sets::HostSets;
use keyward_rules::provider::decode::nearest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::binding::{BindingRecord, BindingShown, LOST_CONNECTIONS_MAX, LostConnection};
use super::connection::ConnectionSpec;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, Resource};
use super::token::{RevokedToken, TokenRecord, TokenShown};
use super::{given, name};

/// All providers, in `user_providers`.
const ANY_PROVIDER: &str = "*";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Agent {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct AgentSpec {
        /// Unique. 1 to 64 letters, digits or `-_.~`.
        #[key("text", required)]
        pub name: String,
        /// For people. At most 64, each side 1 to 64 bytes.
        #[key("map of text to text", "{}")]
        #[option("label", "KEY=VALUE", "a label; may be given several times")]
        #[serde(default)]
        pub labels: BTreeMap<String, String>,
        /// Connections of another environment cannot be used.
        #[key("text")]
        #[option("env", "ENV", "environment: connections of another one cannot be used")]
        #[serde(default)]
        pub environment: Option<String>,
        /// The [sets of hosts](host-sets.md) that it may reach without a credential, beside what its connections and
        /// rules allow: `packages`, `github-read`, `web` and others. `[]`: none. Without it, `keyward run` asks once,
        /// and nothing is allowed until then.
        #[key("list of names of host sets")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub allow: Option<Vec<String>>,
        /// Refuse requests that several connections fit and that select none: there is no default.
        #[key(one of ["true", "false"], "false")]
        #[option("require-selection", "BOOL", "refuse requests that match several connections and select none")]
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub require_selection: bool,
        /// Providers whose connections of end users this agent may use in [sessions](../guides/people.md), beside
        /// those that are bound to it; `"*"`: all providers. Only admins may set it.
        #[key("list of ids of [providers](providers.md)", "[]")]
        #[option("user-provider", "ID,", "provider at which it acts for end users, in sessions; *: all; none: none")]
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub user_providers: Vec<String>,
    }
}

section! {
    /// What a request that adds one gives beside the spec.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub struct AgentCreateOptions {
        /// The user that owns it; default: the caller.
        #[key("name or id of a user")]
        #[option("owner", "USER", "the owner, a user; default: the user of KEYWARD_TOKEN, else the organisation")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub owner: Option<String>,
    }
}

section! {
    /// What a request that changes one gives beside a merge patch of the spec.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
    pub struct AgentChangeOptions {
        /// The user that owns it; `null`: the organisation. Its tokens stay valid.
        #[key("name or id of a user")]
        #[serde(default, deserialize_with = "given::also_null")]
        pub owner: Option<Option<String>>,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AgentFacts {
    /// The user that owns it; `None`: the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Paused, because the configuration file no longer lists the agent.
    pub paused: bool,
    /// Paused by a person or an alarm. A reload of the configuration file does not resume the agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// What paused it; `None`: not `held`, or paused by an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<PauseCause>,
    /// Tokens that authenticate it.
    pub tokens: Vec<TokenRecord>,
    /// What it may use.
    pub bindings: Vec<BindingRecord>,
    /// Connections that it could use until they were removed, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostConnection>,
    /// The last tokens that were revoked: one that is sent raises an alarm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<RevokedToken>,
}

/// What paused an agent until a person resumes it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseCause {
    /// A person.
    Person,
    /// An alarm: the agent sent a honeytoken.
    Alarm,
}

/// What is shown of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AgentShown {
    /// The user that owns it; absent: the organisation.
    #[schemars(with = "Option<String>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Whether its requests are refused: it is no longer in the configuration file, or it is `held`.
    pub paused: bool,
    /// Whether a person or an alarm has paused it, until a person resumes it.
    #[serde(default)]
    pub held: bool,
    /// What paused it, if it is `held` and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<PauseCause>,
    /// Its tokens, without their text.
    pub tokens: Vec<TokenShown>,
    /// What it may use.
    pub bindings: Vec<BindingShown>,
    /// Listeners of its own, where a gateway runs: `127.0.0.1:8090` or `unix:/run/ci.sock`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<String>,
}

impl AgentSpec {
    /// One of this name, and nothing else.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Its environment and the connection's, if both have one and they differ: it cannot use the connection then.
    pub fn environment_mismatch<'a>(
        &'a self,
        connection: &'a ConnectionSpec,
    ) -> Option<(&'a str, &'a str)> {
        let both = self.environment.as_deref().zip(connection.environment.as_deref());
        both.filter(|(own, other)| own != other)
    }

    /// Whether it may use end users' connections at this provider in sessions.
    pub fn serves_users_at(&self, provider: &str) -> bool {
        self.user_providers.iter().any(|one| one == ANY_PROVIDER || one == provider)
    }
}

impl AgentFacts {
    /// Whether the agent is paused.
    pub fn is_paused(&self) -> bool {
        self.paused || self.held
    }

    /// Pauses the agent until a person resumes it. The first cause stays.
    pub fn hold(&mut self, by: PauseCause) {
        if !self.held {
            (self.held, self.held_by) = (true, Some(by));
        }
    }

    /// Ends the pause of a person or an alarm.
    pub fn resume(&mut self) {
        (self.held, self.held_by) = (false, None);
    }

    /// Its bindings, the default of each host first: the latest that was made one, then the oldest.
    pub fn by_preference(&self) -> Vec<&BindingRecord> {
        let mut all: Vec<_> = self.bindings.iter().collect();
        all.sort_by_key(|it| (Reverse(it.preferred), it.created, it.connection.as_str()));
        all
    }

    /// Removes the binding to a connection that is removed, and remembers a direct one in `lost`. Plugins report the
    /// loss of their slots themselves.
    pub fn unbind_removed(&mut self, connection: &ConnectionId, mut lost: LostConnection) {
        let direct = self.binding(connection).filter(|binding| binding.direct);
        let placeholders = direct.map(|binding| binding.placeholders.clone());
        self.bindings.retain(|binding| binding.connection != *connection);
        if placeholders.is_some() {
            lost.placeholders = placeholders;
            self.lost.retain(|other| other.name != lost.name);
            let over = (self.lost.len() + 1).saturating_sub(LOST_CONNECTIONS_MAX);
            self.lost.drain(..over);
            self.lost.push(lost);
        }
    }

    /// Forgets lost connections of a provider, because another connection of it was bound.
    pub fn forget_lost(&mut self, provider: &str) {
        self.lost.retain(|lost| lost.provider != provider);
    }

    pub fn binding(&self, connection: &ConnectionId) -> Option<&BindingRecord> {
        self.bindings.iter().find(|binding| binding.connection == *connection)
    }
}

impl Resource for Agent {
    type Id = AgentId;
    type Spec = AgentSpec;
    type CreateOptions = AgentCreateOptions;
    type ChangeOptions = AgentChangeOptions;
    type Facts = AgentFacts;
    type Shown = AgentShown;

    const KIND: Kind = Kind { one: "agent", article: "an agent", many: "agents", max: usize::MAX };

    /// The configuration names agents in rules, listeners and plugins.
    const FIXED: &[&str] = &["name"];

    const CHANGED_ELSEWHERE: &[(&str, &str)] = &[
        (
            "paused",
            "`POST /agents/{id}/pause` pauses it, and `POST /agents/{id}/resume` resumes it",
        ),
        ("tokens", "`POST /agents/{id}/tokens` adds one"),
        ("bindings", "`POST /agents/{id}/bindings` adds one"),
    ];

    fn name(spec: &AgentSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &AgentSpec) -> Vec<Refusal> {
        let environment = name::environment(spec.environment.as_deref());
        let all = failed([name::unreserved(&spec.name), environment]);
        let labels = name::labels(&spec.labels);
        let allow = allow_refusals(spec.allow.as_deref().unwrap_or_default());
        let providers = provider_refusals(&spec.user_providers);
        all.into_iter().chain(labels).chain(allow).chain(providers).collect()
    }
}

/// Ids of providers that are malformed or there twice. That they exist is for the API and the configuration to check:
/// an organisation has its own.
fn provider_refusals(ids: &[String]) -> Vec<Refusal> {
    let each = ids.iter().enumerate().filter_map(|(place, id)| {
        let is_id = id == ANY_PROVIDER || name::plain(id).is_ok();
        match (is_id, ids[..place].contains(id)) {
            (false, _) => Some("has text that is not the id of a provider".to_owned()),
            (true, true) => Some(format!("has `{id}` twice")),
            (true, false) => None,
        }
    });
    each.map(|rule| Refusal::new("user_providers", rule)).collect()
}

/// Refuses names that are not a set of hosts, and duplicates.
fn allow_refusals(names: &[String]) -> Vec<Refusal> {
    let sets = HostSets::built_in();
    let each = names.iter().enumerate().filter_map(|(place, name)| {
        let rule = match sets.get(name) {
            None if name::is_label(name) => format!("names `{name}`, which is not a set of hosts"),
            None => "has a name that is not a set of hosts".to_owned(),
            Some(_) if names[..place].contains(name) => format!("names `{name}` twice"),
            Some(_) => return None,
        };
        let known: Vec<&str> = sets.names().collect();
        let all = format!("the sets are {}", known.join(", "));
        let hint = nearest(name, sets.names())
            .map_or_else(|| all.clone(), |near| format!("did you mean `{near}`? {all}"));
        Some(Refusal::new("allow", rule).hint(hint))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(allow: &[&str]) -> Vec<String> {
        let allow = Some(allow.iter().map(|name| (*name).to_owned()).collect());
        let spec = AgentSpec { allow, ..AgentSpec::named("ci") };
        Agent::refusals(&spec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_unknown_or_repeated_set_of_hosts_is_refused() {
        assert_eq!(refused(&["pakages"]), ["`allow` names `pakages`, which is not a set of hosts"]);
        assert_eq!(refused(&["none"]).len(), 1);
        assert_eq!(refused(&["pip", "web", "pip"]), ["`allow` names `pip` twice"]);
        assert_eq!(refused(&["\u{1b}[2J"]).len(), 1);
        assert!(refused(&[]).is_empty() && refused(&["packages", "github-read"]).is_empty());
    }

    #[test]
    fn a_removed_connection_is_remembered_until_another_of_its_provider_is_bound() {
        let lost = |name: &str, provider: &str| LostConnection {
            name: name.to_owned(),
            provider: provider.to_owned(),
            auth: None,
            variables: BTreeMap::new(),
            placeholders: None,
        };
        let binding = |direct| BindingRecord {
            connection: ConnectionId::random(),
            created: jiff::Timestamp::UNIX_EPOCH,
            managed_by: crate::ManagedBy::Store,
            placeholders: crate::Placeholders::default(),
            direct,
            preferred: None,
            limits: crate::BindingLimits::default(),
        };
        let mut facts = AgentFacts::default();
        facts.unbind_removed(&ConnectionId::random(), lost("strange", "github"));
        assert!(facts.lost.is_empty(), "it was not bound");
        let lose = |facts: &mut AgentFacts, direct, name: &str, provider: &str| {
            let bound = binding(direct);
            facts.bindings = vec![bound.clone()];
            facts.unbind_removed(&bound.connection, lost(name, provider));
            assert!(facts.bindings.is_empty());
        };
        lose(&mut facts, false, "of-a-slot", "github");
        assert!(facts.lost.is_empty(), "the plugin says what it misses");
        for n in 0..=LOST_CONNECTIONS_MAX {
            lose(&mut facts, true, &format!("n{n}"), "github");
        }
        assert_eq!(facts.lost.len(), LOST_CONNECTIONS_MAX);
        assert_eq!(facts.lost[0].name, "n1", "the newest stay");
        lose(&mut facts, true, "n5", "slack");
        assert_eq!(facts.lost.iter().filter(|lost| lost.name == "n5").count(), 1);
        facts.forget_lost("github");
        let placeholders = Some(crate::Placeholders::default());
        assert_eq!(facts.lost, [LostConnection { placeholders, ..lost("n5", "slack") }]);
    }

    #[test]
    fn providers_of_end_users_are_ids_that_are_named_once() {
        let refused = |ids: &[&str]| {
            let user_providers = ids.iter().map(|id| (*id).to_owned()).collect();
            let spec = AgentSpec { user_providers, ..AgentSpec::named("ci") };
            Agent::refusals(&spec).len()
        };
        assert_eq!(
            [refused(&["a b"]), refused(&["github", "*", "github"]), refused(&[""])],
            [1; 3]
        );
        assert_eq!([refused(&[]), refused(&["*"]), refused(&["github", "own.api"])], [0; 3]);
    }
}
