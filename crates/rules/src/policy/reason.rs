//! [`Reason`]: why policy refuses. [`Reason::text`] is the table of code, message and hint of each.

use std::sync::Arc;

use super::body_refusal::{
    beyond_branches, body_unread, indirect, narrowed, no_place, operations_unclear,
    own_authorization, push_unclear, refused_use,
};
use super::slots::{Blocked, Slot, SlotProblem};
use super::way_in::WayIn;
use crate::git_push::PushUnclear;
use crate::graphql::NotUnderstood;
use keyward_base::agent::Agent;
use keyward_base::codes::{Code, RefusalText};
use keyward_base::id::RuleId;

/// Why policy refuses. The [`code`](Self::code) and its status are stable for agents; messages may change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// `denied`: by a rule.
    Denied {
        /// The rule that denies.
        rule: RuleId,
    },
    /// `denied`: a rule uses the connection for this agent, but not for this request.
    Narrowed {
        /// The rule that uses it.
        rule: RuleId,
        /// The connection's name.
        connection: Arc<str>,
    },
    /// `denied`: a rule uses the connection, but an action, host or path of it is not valid for the connection.
    UseRefused {
        /// The rule that uses it.
        rule: RuleId,
        /// The connection's name.
        connection: Arc<str>,
    },
    /// `default_deny`.
    DefaultDeny {
        /// Whether a rule, binding or set of hosts allows the agent other methods or paths of the host.
        others: bool,
        /// What would allow the host.
        way: Box<WayIn>,
    },
    /// `default_deny` in a session, which may use no connection for the host.
    NoneInSession,
    /// `port_refused`: neither 80, 443 nor named by a rule or provider.
    PortRefused {
        /// The refused port.
        port: u16,
        /// A rule that would allow the host but does not name the port, if there is one.
        rule: Option<RuleId>,
    },
    /// `placeholder_foreign`: the placeholder is unknown, belongs to another agent, is not bound, or was sent
    /// to a host that its provider does not own.
    PlaceholderForeign {
        /// The details of the mistake.
        detail: &'static str,
    },
    /// `plaintext_refused`: a credential would be sent in cleartext.
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
    /// `bad_target`: the path is ambiguous, and the decision depends on it.
    PathAmbiguous {
        /// The rule or binding that depends on the path.
        rule: RuleId,
    },
    /// `bad_target`: a parameter of the query is ambiguous, and the decision depends on it.
    QueryAmbiguous {
        /// The rule that depends on the query.
        rule: RuleId,
    },
    /// `denied`: the decision depends on the GraphQL operations in the body, which was not read yet.
    BodyUnread {
        /// The rule or binding that depends on the body.
        rule: RuleId,
    },
    /// `denied`: the decision depends on the GraphQL operations in the body, which are not known.
    OperationsUnclear {
        /// The rule or binding that depends on the body.
        rule: RuleId,
        /// Why they are not known.
        why: NotUnderstood,
    },
    /// `denied`: the request can do what is denied, such as a batch of requests.
    Indirect {
        /// The rule or binding that denies it.
        rule: RuleId,
    },
    /// `denied`: the decision depends on the references of a push, which are not known.
    PushUnclear {
        /// The rule that depends on the body.
        rule: RuleId,
        /// Why they are not known.
        why: PushUnclear,
    },
    /// `denied`: a rule allows pushes to other branches only.
    BeyondBranches {
        /// The rule.
        rule: RuleId,
        /// The full name of a reference that the push changes.
        reference: Arc<str>,
        /// Whether the push deletes it.
        deletes: bool,
        /// The branches of the rule.
        branches: Arc<str>,
    },
    /// `denied`: whether the rule matches depends on the credential that will be part of the path.
    CredentialInPath {
        /// The rule or binding that depends on the path.
        rule: RuleId,
    },
    /// `connection_missing`: the agent has no connection with the name in the rule or field.
    ConnectionMissing {
        /// The name as given.
        name: Arc<str>,
    },
    /// `connection_missing`: the agent could use a connection for the host until it was removed.
    ConnectionRemoved {
        /// The name that it had.
        name: Arc<str>,
    },
    /// `connection_missing`: the connection exists but was never connected.
    ConnectionDraft {
        /// The connection's name.
        name: Arc<str>,
        /// Why the last attempt failed.
        failure: Option<Arc<str>>,
        /// What a person can do.
        remedy: Option<Arc<str>>,
    },
    /// `connection_missing`: a rule injects, but the agent has no connection for the host.
    Unbound {
        /// The rule that injects.
        rule: RuleId,
    },
    /// `connection_paused`.
    ConnectionPaused {
        /// The connection's name.
        name: Arc<str>,
        /// What a person can do.
        remedy: Option<Arc<str>>,
    },
    /// `connection_broken`.
    ConnectionBroken {
        /// The connection's name.
        name: Arc<str>,
        /// The stored reason.
        reason: Arc<str>,
        /// What a person can do.
        remedy: Option<Arc<str>>,
    },
    /// `denied`: the connection is in slots, none of which allows the request.
    BeyondSlot {
        /// The first slot.
        slot: Arc<Slot>,
        /// The connection's name.
        connection: Arc<str>,
    },
    /// `denied`: the agent's binding allows other actions only.
    BeyondActions {
        /// The connection's name.
        connection: Arc<str>,
        /// The names of the actions that it allows.
        allowed: String,
    },
    /// `denied`: the agent's binding denies the action.
    DeniedAction {
        /// The connection's name.
        connection: Arc<str>,
        /// The names of the actions that it denies.
        denied: String,
        /// One of them that the provider does not have.
        lost: Option<Arc<str>>,
    },
    /// `plugin_blocked`: a required slot has no usable connection.
    PluginBlocked(Arc<Blocked>),
    /// `connection_ambiguous`: several connections match.
    ConnectionAmbiguous {
        /// The connections' names, sorted.
        names: Vec<Arc<str>>,
    },
    /// `denied`: an SSH login that is not signed.
    Login {
        /// Why.
        detail: String,
        /// The connection of the key, if it is known.
        connection: Option<Arc<str>>,
    },
    /// `denied`: a person's request names a target that the connection does not own.
    NotOwned {
        /// The hosts or paths that it owns.
        owned: String,
    },
    /// `bad_request`: the request selects a connection whose credential has no place in it.
    NoPlace {
        /// The connection's name.
        connection: Arc<str>,
        /// Where it has one: paths of the host, or hosts.
        places: String,
    },
    /// `own_authorization`: the request has an authorization of its own, with which it may write.
    OwnAuthorization {
        /// The name of the connection that would replace it.
        connection: Arc<str>,
    },
    /// `denied`: rule, field and placeholders select different connections.
    Contradiction {
        /// Which of them differ.
        detail: &'static str,
    },
}

impl Reason {
    /// What would allow the request, where that is known.
    pub fn way_in(&self) -> Option<&WayIn> {
        match self {
            Self::DefaultDeny { others, way } if !others || !way.sets.is_empty() => Some(way),
            _ => None,
        }
    }

    /// The code of the refusal.
    pub fn code(&self) -> Code {
        self.text().code
    }

    /// As [`text`](Self::text), with the names of `agent` and the connection in the commands of the hint.
    pub fn text_for(&self, agent: &Agent) -> RefusalText {
        let connection = self.connection().map(|name| &**name);
        self.text().with_names(Some(&agent.name), connection)
    }

    /// Code, message and hint of the refusal.
    pub fn text(&self) -> RefusalText {
        match self {
            Self::Denied { rule } => Code::Denied.because(format!("rule `{rule}` denies this")),
            Self::Narrowed { rule, connection } => narrowed(rule, connection),
            Self::UseRefused { rule, connection } => refused_use(rule, connection),
            Self::BeyondSlot { slot, connection } => beyond_slot(slot, connection),
            Self::BeyondActions { allowed, connection } => beyond_actions(allowed, connection),
            Self::DeniedAction { denied, lost, connection } => {
                denied_action(denied, lost.as_deref(), connection)
            }
            Self::CredentialInPath { rule } => credential_in_path(rule),
            Self::NotOwned { owned } => not_owned(owned),
            Self::Contradiction { detail } => Code::Denied.because(*detail),
            Self::Login { detail, .. } => Code::Denied.because(detail.clone()),
            Self::DefaultDeny { others, way } => default_deny(*others, way),
            Self::NoneInSession => none_in_session(),
            Self::NoPlace { connection, places } => no_place(connection, places),
            Self::OwnAuthorization { connection } => own_authorization(connection),
            Self::PortRefused { port, rule } => port_refused(*port, rule.as_ref()),
            Self::PlaceholderForeign { detail } => {
                Code::PlaceholderForeign.because(*detail).usual_hint()
            }
            Self::PlaintextRefused { connection } => plaintext_refused(connection),
            Self::TokenEndpoint { provider } => Code::TokenEndpointRefused
                .because(format!(
                    "this is an OAuth endpoint of `{provider}`, where nothing is injected"
                ))
                .usual_hint(),
            Self::Method => {
                Code::MethodRefused.because("TRACE, TRACK and CONNECT are not forwarded")
            }
            Self::PathAmbiguous { rule } => ambiguous("path", AMBIGUOUS_PATH, rule),
            Self::QueryAmbiguous { rule } => ambiguous("query", "a parameter twice, or `;`", rule),
            Self::BodyUnread { rule } => body_unread(rule),
            Self::OperationsUnclear { rule, why } => operations_unclear(rule, *why),
            Self::Indirect { rule } => indirect(rule),
            Self::PushUnclear { rule, why } => push_unclear(rule, *why),
            Self::BeyondBranches { rule, reference, deletes, branches } => {
                beyond_branches(rule, reference, *deletes, branches)
            }
            Self::ConnectionMissing { name } => missing(name),
            Self::ConnectionRemoved { name } => removed(name),
            Self::ConnectionDraft { name, failure, remedy } => {
                draft(name, failure.as_deref()).hint_if(owned(remedy))
            }
            Self::Unbound { rule } => unbound(rule),
            Self::ConnectionPaused { name, remedy } => Code::ConnectionPaused
                .because(format!("connection `{name}` is paused"))
                .hint_if(owned(remedy)),
            Self::ConnectionBroken { name, reason, remedy } => Code::ConnectionBroken
                .because(format!("connection `{name}` is broken: {reason}"))
                .hint_if(owned(remedy)),
            Self::PluginBlocked(blocked) => {
                Code::PluginBlocked.because(blocked.message()).hint_if(blocked.hint())
            }
            Self::ConnectionAmbiguous { names } => Code::ConnectionAmbiguous
                .because(format!("several connections fit: {}", names.join(", ")))
                .usual_hint(),
        }
    }

    /// The name of the broken connection, if that is the reason.
    pub fn broken_connection(&self) -> Option<&str> {
        match self {
            Self::ConnectionBroken { name, .. } => Some(name),
            Self::PluginBlocked(blocked) => {
                let is_broken = matches!(blocked.problem, SlotProblem::Broken(_));
                blocked.connection.as_deref().filter(|_| is_broken)
            }
            _ => None,
        }
    }

    /// The rule that refused, if there is one.
    pub fn rule(&self) -> Option<&RuleId> {
        match self {
            Self::Denied { rule }
            | Self::Narrowed { rule, .. }
            | Self::UseRefused { rule, .. }
            | Self::PathAmbiguous { rule }
            | Self::QueryAmbiguous { rule }
            | Self::BodyUnread { rule }
            | Self::OperationsUnclear { rule, .. }
            | Self::Indirect { rule }
            | Self::PushUnclear { rule, .. }
            | Self::BeyondBranches { rule, .. }
            | Self::CredentialInPath { rule }
            | Self::Unbound { rule } => Some(rule),
            Self::PortRefused { rule, .. } => rule.as_ref(),
            _ => None,
        }
    }

    /// The connection that caused the refusal, if there is one.
    pub fn connection(&self) -> Option<&Arc<str>> {
        match self {
            Self::Narrowed { connection, .. }
            | Self::UseRefused { connection, .. }
            | Self::BeyondSlot { connection, .. }
            | Self::BeyondActions { connection, .. }
            | Self::DeniedAction { connection, .. }
            | Self::NoPlace { connection, .. }
            | Self::OwnAuthorization { connection }
            | Self::PlaintextRefused { connection } => Some(connection),
            Self::PluginBlocked(blocked) => blocked.connection.as_ref(),
            Self::Login { connection, .. } => connection.as_ref(),
            Self::ConnectionMissing { name }
            | Self::ConnectionDraft { name, .. }
            | Self::ConnectionPaused { name, .. }
            | Self::ConnectionBroken { name, .. } => Some(name),
            _ => None,
        }
    }
}

// === messages with several cases ===

/// What servers read in two ways in a path.
const AMBIGUOUS_PATH: &str = "an encoded or doubled slash, `;`, a dot or a space at the end of a segment, \
                              or a stray percent sign";

/// A rule depends on a part of the target that servers read differently.
fn ambiguous(part: &str, signs: &str, rule: &impl std::fmt::Display) -> RefusalText {
    Code::BadTarget.because(format!(
        "servers read this {part} in two ways ({signs}), and `{rule}` depends on it"
    ))
}

fn missing(name: &str) -> RefusalText {
    Code::ConnectionMissing
        .because(format!("this agent has no connection `{name}` here"))
        .hint(format!("bind it: `keyward agent bind NAME {name}`"))
}

fn removed(name: &str) -> RefusalText {
    let hint = "connect the service again, or bind another connection of it: `keyward agent bind NAME CONNECTION`";
    Code::ConnectionMissing.because(format!("connection `{name}` was removed")).hint(hint)
}

fn not_owned(owned: &str) -> RefusalText {
    Code::Denied.because("the request's target is not one of the connection's provider").hint(owned)
}

fn plaintext_refused(connection: &str) -> RefusalText {
    let message = format!("the credential of `{connection}` is not sent over cleartext HTTP");
    Code::PlaintextRefused.because(message).usual_hint()
}

fn beyond_slot(slot: &Slot, connection: &str) -> RefusalText {
    let Slot { name, plugin, .. } = slot;
    let extent = slot.extent();
    Code::Denied
        .because(format!(
            "slot `{name}` of plugin `{plugin}` lets connection `{connection}` be used for {extent} only"
        ))
        .hint(format!("if the agent itself is to do more: `keyward agent bind NAME {connection}`"))
}

fn beyond_actions(allowed: &str, connection: &str) -> RefusalText {
    Code::Denied
        .because(format!(
            "the agent's binding allows these actions of connection `{connection}` only: {}",
            allowed
        ))
        .hint(format!(
            "to allow more: `keyward agent bind NAME {connection} --allow ACTION`, with all actions that it may use"
        ))
}

fn denied_action(denied: &str, lost: Option<&str>, connection: &str) -> RefusalText {
    match lost {
        Some(lost) => Code::Denied
            .because(format!(
                "the agent's binding denies action `{lost}` of connection `{connection}`, which its provider does \
                 not have"
            ))
            .hint(format!("name another: `keyward agent bind NAME {connection} --deny ACTION`")),
        None => Code::Denied
            .because(format!(
                "the agent's binding denies this action of connection `{connection}`: it denies {}",
                denied
            ))
            .hint(format!("`keyward agent bind NAME {connection} --deny ACTION` replaces what it denies")),
    }
}

fn credential_in_path(rule: &RuleId) -> RefusalText {
    Code::Denied
        .because(format!(
            "the credential is in the path that would be sent, and `{rule}` depends on its \
             characters"
        ))
        .hint("write `*` for the whole credential in the rule's paths")
}

fn default_deny(others: bool, way: &WayIn) -> RefusalText {
    let message = match others {
        false => "no rule or binding allows this host",
        true => {
            "no rule or binding allows this request: those for this host are for other methods or paths"
        }
    };
    let text = Code::DefaultDeny.because(message);
    match others && way.sets.is_empty() {
        true => text.hint("add a rule for this method and path, or widen the one for this host"),
        false => text.hint(way.hint("NAME", None)),
    }
}

fn none_in_session() -> RefusalText {
    Code::DefaultDeny
        .because("no rule allows this host, and the session may use no connection for it")
        .hint(
            "connect an account of the end user: `keyward connection add PROVIDER --owner USER`, \
             and allow the agent its provider: `keyward agent set NAME --user-provider PROVIDER`",
        )
}

fn port_refused(port: u16, rule: Option<&RuleId>) -> RefusalText {
    match rule {
        Some(rule) => Code::PortRefused
            .because(format!(
                "rule `{rule}` does not name port {port}, and so allows ports 80 and 443 only"
            ))
            .hint(format!("write the port into a rule's host: `HOST:{port}`")),
        None => Code::PortRefused
            .because(format!("no rule or binding of this agent is for port {port} of this host"))
            .hint(format!(
                "bind a connection that is for this port: `keyward agent bind NAME CONNECTION`, or write \
                 the port into a rule's host: `HOST:{port}`"
            )),
    }
}

fn draft(name: &str, failure: Option<&str>) -> RefusalText {
    Code::ConnectionMissing.because(match failure {
        None => format!("connection `{name}` is not connected yet"),
        Some(failure) => format!("connection `{name}` is not connected: {failure}"),
    })
}

fn unbound(rule: &RuleId) -> RefusalText {
    Code::ConnectionMissing
        .because(format!("rule `{rule}` injects, but this agent has no connection for the host"))
        .hint(Code::DefaultDeny.row().remedy)
}

fn owned(remedy: &Option<Arc<str>>) -> Option<String> {
    remedy.as_deref().map(str::to_owned)
}
