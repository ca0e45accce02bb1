//! Checks of records against each other: who may edit a record, and which agents may use a connection. Pure.

use super::error::DirectoryError;
use super::records::{AgentRecord, ConnectionRecord, ManagedBy};
use super::view::View;
use keyward_base::id::{Id, OrgId, UserId};
use keyward_model::{BINDINGS_MAX, Record, Resource, User, Visibility, is_label};

/// Whether the agent may have one more binding.
pub(super) fn room_for_binding(agent: &AgentRecord) -> Result<(), DirectoryError> {
    match agent.facts.bindings.len() < BINDINGS_MAX {
        true => Ok(()),
        false => Err(DirectoryError::TooMany { what: "bindings", max: BINDINGS_MAX }),
    }
}

/// A private connection must have an owner: no agent could use it otherwise.
pub(super) fn visibility(connection: &ConnectionRecord) -> Result<(), DirectoryError> {
    match connection.facts.visibility == Visibility::Private && connection.facts.owner.is_none() {
        false => Ok(()),
        true => Err(DirectoryError::PrivateWithoutOwner(connection.name.clone())),
    }
}

/// Whether environment and owner of the connection permit a binding of this agent.
pub(super) fn may_bind(
    agent: &AgentRecord,
    connection: &ConnectionRecord,
) -> Result<(), DirectoryError> {
    same_environment(agent, connection)?;
    match may_be_used_by(connection, agent) {
        true => Ok(()),
        false => Err(DirectoryError::Private {
            agent: agent.name.clone(),
            connection: connection.name.clone(),
        }),
    }
}

/// Whether the agent's owner permits it to use the connection: a shared connection is for all agents, a private one for
/// the agents of its owner.
pub fn may_be_used_by(connection: &ConnectionRecord, agent: &AgentRecord) -> bool {
    match connection.facts.visibility {
        Visibility::Shared => true,
        Visibility::Private => {
            connection.facts.owner.is_some() && connection.facts.owner == agent.facts.owner
        }
    }
}

pub(super) fn label(label: Option<&str>) -> Result<(), DirectoryError> {
    match label.is_none_or(is_label) {
        true => Ok(()),
        false => Err(DirectoryError::LabelRefused),
    }
}

/// Refuses two environments that are both set and differ.
pub(super) fn same_environment(
    agent: &AgentRecord,
    connection: &ConnectionRecord,
) -> Result<(), DirectoryError> {
    match agent.environment_mismatch(connection) {
        None => Ok(()),
        Some((agent_in, connection_in)) => Err(DirectoryError::EnvironmentMismatch {
            agent: agent.name.clone(),
            agent_in: agent_in.to_owned(),
            connection: connection.name.clone(),
            connection_in: connection_in.to_owned(),
        }),
    }
}

/// Whether this side may edit a record.
///
/// # Errors
/// [`DirectoryError::ManagedByFile`] when only the file may.
pub fn editable<R: Resource>(record: &Record<R>, by: ManagedBy) -> Result<(), DirectoryError> {
    editor(record.managed_by, by, R::KIND.one, record.name())
}

/// As [`editable`]; an agent that is no longer in the file may be removed by either side.
pub(super) fn removable(agent: &AgentRecord, by: ManagedBy) -> Result<(), DirectoryError> {
    if agent.facts.paused { Ok(()) } else { editable(agent, by) }
}

/// Refuses to remove a record that a stored rule names: without it, later rules and bindings would decide the requests
/// of the rule.
pub(super) fn named_by_no_rule<R: Resource>(
    record: &Record<R>,
    view: &View,
) -> Result<(), DirectoryError> {
    match view.rule_naming(&record.org, record.id.as_str()) {
        None => Ok(()),
        Some(rule) => Err(DirectoryError::NamedByRule {
            what: R::KIND.one,
            name: record.name().to_owned(),
            rule: rule.name().to_owned(),
        }),
    }
}

/// An owner must be a user of the organisation.
pub(super) fn owner(
    view: &View,
    org: &OrgId,
    owner: Option<&UserId>,
) -> Result<(), DirectoryError> {
    match owner.filter(|owner| view.one::<User>(org, owner).is_none()) {
        None => Ok(()),
        Some(owner) => Err(DirectoryError::not_found("user", owner)),
    }
}

/// Whether one side may edit a record that the other side manages.
pub(super) fn editor(
    of: ManagedBy,
    by: ManagedBy,
    what: &'static str,
    name: &str,
) -> Result<(), DirectoryError> {
    match (of, by) {
        (ManagedBy::File, ManagedBy::Store) => {
            Err(DirectoryError::ManagedByFile { what, name: name.to_owned() })
        }
        _ => Ok(()),
    }
}
