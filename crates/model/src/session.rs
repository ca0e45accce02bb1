//! Sessions: short-lived tokens with which an agent acts for one end user, or with named connections only. A session
//! is a row of its own, so that a new one does not rewrite its agent. It is never changed, only ended.

use std::time::Duration;

use jiff::Timestamp;
use keyward_base::id::{AgentId, ConnectionId, SessionId, UserId};
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name;
use super::reference::Reference;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, NoMembers, Resource};

/// Longest life of a session.
pub const SESSION_TTL_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Shortest life of a session: a shorter one may end before its first request.
const TTL_MIN: Duration = Duration::from_secs(60);

/// The life of a session that is made without `ttl`.
const TTL_DEFAULT: Duration = Duration::from_secs(3_600);

/// Connections that one session may name.
const CONNECTIONS_MAX: usize = 100;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Session {}

section! {
    /// What a person gives. `user`, `connections` or both are required.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct SessionSpec {
        /// The agent that acts in the session. Its rules and sets of hosts apply.
        #[key("name or id of an agent", required)]
        #[option("agent", "NAME", "the agent that acts in it: name or id")]
        pub agent: Reference<AgentId>,
        /// The end user whose connections may be used: those at the agent's `user_providers` and those that are bound to
        /// the agent, also if they are added later.
        #[key("name or id of a user with role `end_user`")]
        #[option("user", "USER", "the end user whose connections it may use: name or id")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub user: Option<Reference<UserId>>,
        /// Exactly these connections and no others. Each is bound to the agent, or is an end user's at one of the agent's
        /// `user_providers`; with `user`, none is another end user's.
        #[key("list of names or ids of connections")]
        #[option("connection", "NAME", "a connection that it may use, and no others; may be given several times")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub connections: Option<Vec<Reference<ConnectionId>>>,
        /// Connections of another environment cannot be used. The agent's own, if it has one.
        #[key("text")]
        #[option("env", "ENV", "use no connections of another environment")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub environment: Option<String>,
        /// What the session is for, in lists and the audit log. 1 to 64 bytes.
        #[key("text")]
        #[option("label", "LABEL", "what it is for")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub label: Option<String>,
    }
}

section! {
    /// What a request may give beside the spec.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(default)]
    pub struct SessionCreateOptions {
        /// How long it is valid, `1h`: 1 minute to 24 hours.
        #[key("time", "1h")]
        #[option("ttl", "DURATION", "how long it lives, 1m to 24h; default: 1h")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ttl: Option<String>,
        /// The same in seconds.
        #[key("number")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub expires_in: Option<u64>,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SessionFacts {
    /// SHA-256 of its token, hex.
    pub hash: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// What is shown of it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SessionShown {
    /// The name of its agent.
    pub agent_name: String,
    /// The name of its end user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The names of the connections that it may use now.
    pub connection_names: Vec<String>,
    /// When it ends.
    pub expires: Timestamp,
}

/// A new session as the API answers with it: its token is shown once.
#[derive(Clone, Deserialize, JsonSchema, Serialize)]
pub struct SessionIssued {
    /// The session.
    #[serde(flatten)]
    pub session: super::resource::Shown<Session>,
    /// The token, `kwa_…`. The name beside it in a proxy URL is the agent's.
    pub token: String,
    /// Why the session may be useless; it was made nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for SessionIssued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionIssued").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Resource for Session {
    type Id = SessionId;
    type Spec = SessionSpec;
    type CreateOptions = SessionCreateOptions;
    type ChangeOptions = NoMembers;
    type Facts = SessionFacts;
    type Shown = SessionShown;

    /// How many there may be is a setting: `limits.sessions_max`.
    const KIND: Kind =
        Kind { one: "session", article: "a session", many: "sessions", max: usize::MAX };
    const DECLARABLE: bool = false;

    /// Its label. Labels are not unique: a session is found by its id alone.
    fn name(spec: &SessionSpec) -> &str {
        spec.label.as_deref().unwrap_or_default()
    }

    fn refusals(spec: &SessionSpec) -> Vec<Refusal> {
        let label = spec.label.as_deref().is_none_or(name::is_label);
        let connections = spec.connections.as_deref();
        let count = connections.is_none_or(|all| (1..=CONNECTIONS_MAX).contains(&all.len()));
        let is_scoped = spec.user.is_some() || connections.is_some();
        failed([
            Refusal::unless(label, "label", "must be 1 to 64 printable bytes"),
            name::environment(spec.environment.as_deref()),
            Refusal::unless(count, "connections", "must name 1 to 100 connections"),
            Refusal::unless(is_scoped, "user", "is missing: name an end user, or `connections`"),
        ])
    }
}

impl SessionCreateOptions {
    /// How long the session lives.
    ///
    /// # Errors
    /// When it is no duration, or out of bounds.
    pub fn lifetime(&self) -> Result<Duration, Refusal> {
        let (field, life) = match (&self.ttl, self.expires_in) {
            (None, None) => return Ok(TTL_DEFAULT),
            (Some(_), Some(_)) => {
                return Err(Refusal::new("expires_in", "must not be given together with `ttl`"));
            }
            (Some(ttl), None) => ("ttl", keyward_base::time::parse_duration(ttl).ok()),
            (None, Some(seconds)) => ("expires_in", Some(Duration::from_secs(seconds))),
        };
        let life = life.filter(|life| (TTL_MIN..=SESSION_TTL_MAX).contains(life));
        life.ok_or_else(|| Refusal::new(field, "must be 1m to 24h, such as 30m or 8h"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: serde_json::Value) -> Vec<String> {
        let spec = serde_json::from_value(json).unwrap();
        Session::refusals(&spec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_session_without_a_scope_is_refused() {
        use serde_json::json;
        for (bad, field) in [
            (json!({"agent": "a"}), "`user`"),
            (json!({"agent": "a", "connections": []}), "`connections`"),
            (json!({"agent": "a", "connections": vec!["c"; 101]}), "`connections`"),
            (json!({"agent": "a", "user": "u", "label": ""}), "`label`"),
            (json!({"agent": "a", "user": "u", "environment": "a\n"}), "`environment`"),
        ] {
            let found = refused(bad);
            assert!(found.len() == 1 && found[0].starts_with(field), "{found:?}");
        }
        assert!(refused(json!({"agent": "a", "user": "auth0|1", "connections": ["c"]})).is_empty());
    }

    #[test]
    fn a_session_lifetime_out_of_bounds_is_refused() {
        let lifetime =
            |json: &str| serde_json::from_str::<SessionCreateOptions>(json).unwrap().lifetime();
        for bad in [
            r#"{"ttl":"59s"}"#,
            r#"{"ttl":"25h"}"#,
            r#"{"ttl":"soon"}"#,
            r#"{"expires_in":0}"#,
            r#"{"expires_in":18446744073709551615}"#,
            r#"{"ttl":"1h","expires_in":3600}"#,
        ] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
        assert_eq!(lifetime("{}"), Ok(TTL_DEFAULT));
        assert_eq!(lifetime(r#"{"ttl":"24h"}"#), Ok(SESSION_TTL_MAX));
        assert_eq!(lifetime(r#"{"expires_in":60}"#), Ok(TTL_MIN));
    }
}
