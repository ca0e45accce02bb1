//! [`Reason`]: why policy refuses, as a stable code, a status, and words for people.

use std::sync::Arc;

use super::slots::{Blocked, Slot};
use crate::base::id::RuleId;

/// What the reason of a connection begins with whose client the authorization server refuses.
const CLIENT_REJECTED: &str = "client_rejected";

/// Why policy refuses. [`code`](Self::code) and [`status`](Self::status) are the contract with
/// agents; the words may change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// `denied`: a rule says so.
    Denied {
        /// The rule.
        rule: RuleId,
    },
    /// `denied`: a rule uses the connection for this agent, but not for such requests.
    Narrowed {
        /// The rule that uses it.
        rule: RuleId,
        /// The connection's name.
        connection: Arc<str>,
    },
    /// `default_deny`.
    DefaultDeny,
    /// `port_refused`: neither 80, 443 nor named by a rule or provider.
    PortRefused {
        /// The port.
        port: u16,
    },
    /// `placeholder_foreign`: unknown, another agent's, not bound, or sent to a host that its
    /// provider does not own.
    PlaceholderForeign {
        /// What is wrong, for people.
        detail: &'static str,
    },
    /// `plaintext_refused`: a credential would go over cleartext.
    PlaintextRefused {
        /// The connection's name.
        connection: Arc<str>,
    },
    /// `token_endpoint_refused`.
    TokenEndpoint {
        /// The provider's id.
        provider: Arc<str>,
    },
    /// `method_refused`: TRACE, TRACK, inner CONNECT.
    Method,
    /// `bad_target`: the path has two readings, and what is decided depends on it.
    PathAmbiguous {
        /// The rule or binding that depends on it.
        rule: RuleId,
    },
    /// `connection_missing`: the rule or field names none that exists for this agent.
    ConnectionMissing {
        /// As named.
        name: Arc<str>,
    },
    /// `connection_missing`: it is there, and was never connected.
    ConnectionDraft {
        /// The connection's name.
        name: Arc<str>,
        /// Why the last attempt came to nothing.
        failure: Option<Arc<str>>,
    },
    /// `connection_missing`: a rule injects, but the agent has no connection for the host.
    Unbound {
        /// The rule.
        rule: RuleId,
    },
    /// `connection_paused`.
    ConnectionPaused {
        /// The connection's name.
        name: Arc<str>,
    },
    /// `connection_broken`.
    ConnectionBroken {
        /// The connection's name.
        name: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// `denied`: the connection is in slots, none of which is for such requests.
    BeyondSlot {
        /// The first of them.
        slot: Arc<Slot>,
        /// The connection's name.
        connection: Arc<str>,
    },
    /// `plugin_blocked`: a required slot has no connection that can be used.
    PluginBlocked(Arc<Blocked>),
    /// `connection_ambiguous`: lists the names.
    ConnectionAmbiguous {
        /// The connections' names, sorted.
        names: Vec<Arc<str>>,
    },
    /// `denied`: rule, field and placeholders contradict each other.
    Contradiction {
        /// How, for people.
        detail: &'static str,
    },
}

impl Reason {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied { .. }
            | Self::Narrowed { .. }
            | Self::BeyondSlot { .. }
            | Self::Contradiction { .. } => "denied",
            Self::PluginBlocked(_) => "plugin_blocked",
            Self::DefaultDeny => "default_deny",
            Self::PortRefused { .. } => "port_refused",
            Self::PlaceholderForeign { .. } => "placeholder_foreign",
            Self::PlaintextRefused { .. } => "plaintext_refused",
            Self::TokenEndpoint { .. } => "token_endpoint_refused",
            Self::Method => "method_refused",
            Self::PathAmbiguous { .. } => "bad_target",
            Self::ConnectionMissing { .. }
            | Self::ConnectionDraft { .. }
            | Self::Unbound { .. } => "connection_missing",
            Self::ConnectionPaused { .. } => "connection_paused",
            Self::ConnectionBroken { .. } => "connection_broken",
            Self::ConnectionAmbiguous { .. } => "connection_ambiguous",
        }
    }

    /// The HTTP status that goes with the code.
    pub fn status(&self) -> u16 {
        match self.code() {
            "bad_target" => 400,
            "method_refused" => 405,
            "plugin_blocked" => 424,
            code if code.starts_with("connection_") => 424,
            _ => 403,
        }
    }

    /// The rule that refused, when one did.
    pub fn rule(&self) -> Option<&RuleId> {
        match self {
            Self::Denied { rule }
            | Self::Narrowed { rule, .. }
            | Self::PathAmbiguous { rule }
            | Self::Unbound { rule } => Some(rule),
            _ => None,
        }
    }

    /// The connection that is in the way, when one is.
    pub fn connection(&self) -> Option<&Arc<str>> {
        match self {
            Self::Narrowed { connection, .. }
            | Self::BeyondSlot { connection, .. }
            | Self::PlaintextRefused { connection } => Some(connection),
            Self::PluginBlocked(blocked) => blocked.connection.as_ref(),
            Self::ConnectionMissing { name }
            | Self::ConnectionDraft { name, .. }
            | Self::ConnectionPaused { name }
            | Self::ConnectionBroken { name, .. } => Some(name),
            _ => None,
        }
    }

    /// What is wrong, in a sentence without a full stop.
    pub fn message(&self) -> String {
        match self {
            Self::Denied { rule } => format!("rule `{rule}` denies this"),
            Self::Narrowed { rule, connection } => {
                format!("rule `{rule}` uses connection `{connection}` for other requests only")
            }
            Self::DefaultDeny => "no rule or binding allows this host".to_owned(),
            Self::PortRefused { port } => format!("no rule or provider names port {port}"),
            Self::PlaceholderForeign { detail } | Self::Contradiction { detail } => {
                (*detail).to_owned()
            }
            Self::PlaintextRefused { connection } => {
                format!("the credential of `{connection}` is not sent over cleartext HTTP")
            }
            Self::TokenEndpoint { provider } => {
                format!("this is an OAuth endpoint of `{provider}`, where nothing is injected")
            }
            Self::Method => "TRACE, TRACK and CONNECT are not forwarded".to_owned(),
            Self::PathAmbiguous { rule } => format!(
                "servers read this path in two ways (an encoded or doubled slash, `;`, or a stray \
                 percent sign), and `{rule}` depends on it"
            ),
            Self::ConnectionMissing { name } => {
                format!("this agent has no connection `{name}` here")
            }
            Self::ConnectionDraft { name, failure: None } => {
                format!("connection `{name}` is not connected yet")
            }
            Self::ConnectionDraft { name, failure: Some(failure) } => {
                format!("connection `{name}` is not connected: {failure}")
            }
            Self::Unbound { rule } => {
                format!("rule `{rule}` injects, but this agent has no connection for the host")
            }
            Self::ConnectionPaused { name } => format!("connection `{name}` is paused"),
            Self::ConnectionBroken { name, reason } => {
                format!("connection `{name}` is broken: {reason}")
            }
            Self::BeyondSlot { slot, connection } => format!(
                "slot `{}` of plugin `{}` lets connection `{connection}` be used for {} only",
                slot.name,
                slot.plugin,
                slot.extent()
            ),
            Self::PluginBlocked(blocked) => blocked.message(),
            Self::ConnectionAmbiguous { names } => {
                format!("several connections fit: {}", names.join(", "))
            }
        }
    }

    /// What to do about it, when that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::DefaultDeny | Self::Unbound { .. } => {
                "bind a connection of the host's provider: `keyward agent bind NAME CONNECTION`, \
                 or add a rule"
                    .to_owned()
            }
            Self::PortRefused { port } => {
                format!("write the port into a rule's host: `HOST:{port}`")
            }
            Self::PlaceholderForeign { .. } => {
                "print this agent's own placeholders: `keyward agent show NAME`".to_owned()
            }
            Self::PlaintextRefused { .. } => {
                "use https, or a rule with `use` and `allow_plaintext: true`".to_owned()
            }
            Self::TokenEndpoint { .. } => {
                "a rule with `action: pass` lets it through, without a credential".to_owned()
            }
            Self::ConnectionMissing { name } => {
                format!("bind it: `keyward agent bind NAME {name}`")
            }
            Self::ConnectionDraft { name, .. } => {
                format!("connect it: `keyward connection reconnect {name}`")
            }
            Self::ConnectionPaused { name } => {
                format!("resume it: `keyward connection resume {name}`")
            }
            // The person's remedy is none where it is the app that is wrong.
            Self::ConnectionBroken { name, reason } if reason.starts_with(CLIENT_REJECTED) => {
                format!(
                    "check the client id and secret of its app, or the key of its service account; then, or \
                     where they are right, reconnect it: `keyward connection reconnect {name}`"
                )
            }
            Self::ConnectionBroken { name, .. } => {
                format!("reconnect it: `keyward connection reconnect {name}`")
            }
            Self::BeyondSlot { connection, .. } => {
                format!("if the agent itself is to do more: `keyward agent bind NAME {connection}`")
            }
            Self::PluginBlocked(blocked) => blocked.hint(),
            Self::ConnectionAmbiguous { .. } => {
                "send one connection's placeholder, or its name in `Keyward-Connection`".to_owned()
            }
            Self::Denied { .. }
            | Self::Narrowed { .. }
            | Self::Method
            | Self::PathAmbiguous { .. }
            | Self::Contradiction { .. } => return None,
        };
        Some(hint)
    }
}
