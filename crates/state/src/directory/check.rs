//! What names, labels and environments may be, and who may edit what. Pure.

use std::collections::BTreeMap;

use super::error::DirectoryError;
use super::records::{AgentRecord, ConnectionRecord, ManagedBy};
use super::users::may_be_used_by;
use super::view::View;
use keyward_base::agent::is_unreserved;
use keyward_base::id::{OrgId, UserId, is_like_an_id};
use keyward_model::{Record, Resource, User, Visibility};

const NAME_LEN_MAX: usize = 64;
const LABELS_MAX: usize = 64;
const LABEL_LEN_MAX: usize = 64;

/// An agent's name stands in a proxy URL and in paths of the admin API.
pub(super) fn agent_name(name: &str) -> Result<(), DirectoryError> {
    let rule = "1 to 64 letters, digits or `-._~`, not an id and not only dots";
    match is_unreserved(name) && is_name(name) {
        true => Ok(()),
        false => Err(DirectoryError::NameRefused { what: "an agent", name: name.into(), rule }),
    }
}

/// A plugin's name stands in paths of the admin API.
pub(super) fn is_plugin_name(name: &str) -> bool {
    is_plain(name) && is_name(name)
}

/// Bindings of one agent: its row has to stay under the store's limit.
pub const BINDINGS_MAX: usize = 5_000;

/// Whether the agent may have one more binding.
pub(super) fn room_for_binding(agent: &AgentRecord) -> Result<(), DirectoryError> {
    match agent.bindings.len() < BINDINGS_MAX {
        true => Ok(()),
        false => Err(DirectoryError::TooMany { what: "bindings", max: BINDINGS_MAX }),
    }
}

/// Nobody could use a private connection that is nobody's.
pub(super) fn visibility(connection: &ConnectionRecord) -> Result<(), DirectoryError> {
    match connection.facts.visibility == Visibility::Private && connection.facts.owner.is_none() {
        false => Ok(()),
        true => Err(DirectoryError::PrivateOfNobody(connection.name.clone())),
    }
}

/// Whether the connection is for this agent at all: environment and owner.
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

fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Things are found by name or id, so no name may look like an id; `..` would climb in a path.
fn is_name(name: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&name.len())
        && !is_like_an_id(name)
        && name.bytes().any(|b| b != b'.')
}

pub(super) fn labels(labels: &BTreeMap<String, String>) -> Result<(), DirectoryError> {
    let bounded = labels.iter().all(|(name, value)| is_label(name) && is_label(value));
    match bounded && labels.len() <= LABELS_MAX {
        true => Ok(()),
        false => Err(DirectoryError::LabelRefused("labels and their values")),
    }
}

pub(super) fn environment(environment: Option<&str>) -> Result<(), DirectoryError> {
    match environment.is_none_or(is_label) {
        true => Ok(()),
        false => Err(DirectoryError::LabelRefused("an environment")),
    }
}

/// A token's label.
pub(super) fn label(label: Option<&str>) -> Result<(), DirectoryError> {
    match label.is_none_or(is_label) {
        true => Ok(()),
        false => Err(DirectoryError::LabelRefused("a token's label")),
    }
}

/// Printable: they are shown in tables and logs.
fn is_label(text: &str) -> bool {
    (1..=LABEL_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Two environments that are both set and differ.
pub(super) fn same_environment(
    agent: &AgentRecord,
    connection: &ConnectionRecord,
) -> Result<(), DirectoryError> {
    match (&agent.environment, &connection.environment) {
        (Some(agent_in), Some(connection_in)) if agent_in != connection_in => {
            Err(DirectoryError::EnvironmentMismatch {
                agent: agent.name.clone(),
                agent_in: agent_in.clone(),
                connection: connection.name.clone(),
                connection_in: connection_in.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// Refuses others than the file to edit what the file manages.
pub(super) fn agent_editor(agent: &AgentRecord, by: ManagedBy) -> Result<(), DirectoryError> {
    editor(agent.managed_by, by, ("agent", &agent.name))
}

/// As [`agent_editor`], but what was taken out of the file may be removed by anyone: otherwise
/// nobody could.
pub(super) fn agent_remover(agent: &AgentRecord, by: ManagedBy) -> Result<(), DirectoryError> {
    if agent.paused { Ok(()) } else { agent_editor(agent, by) }
}

/// Whether this side may edit a record.
///
/// # Errors
/// [`DirectoryError::ManagedByFile`] when only the file may.
pub fn editable<R: Resource>(record: &Record<R>, by: ManagedBy) -> Result<(), DirectoryError> {
    editor(record.managed_by, by, (R::KIND.one, record.name()))
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

/// The general rule.
pub(super) fn editor(
    of: ManagedBy,
    by: ManagedBy,
    (what, name): (&'static str, &str),
) -> Result<(), DirectoryError> {
    match (of, by) {
        (ManagedBy::File, ManagedBy::Store) => {
            Err(DirectoryError::ManagedByFile { what, name: name.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        let long = "x".repeat(65);
        for bad in
            ["", ".", "..", "a b", "a/b", "a:b", "a@b", "\u{e9}", "a\n", "agt_x", "con_x", &long]
        {
            assert!(agent_name(bad).is_err(), "{bad}");
            assert!(!is_plugin_name(bad), "{bad}");
        }
        assert!(!is_plugin_name("a~b"));
        for good in ["a", "A.b_c-9", ".a", &long[1..]] {
            assert!(agent_name(good).is_ok() && is_plugin_name(good), "{good}");
        }
        assert!(agent_name("a~b").is_ok());
    }

    #[test]
    fn labels_and_environments_are_bounded_and_printable() {
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for (name, value) in [("", "x"), ("x", ""), ("a\u{1b}[0m", "x"), ("x", &"x".repeat(65))] {
            assert!(labels(&one(name, value)).is_err(), "{name:?} {value:?}");
        }
        let many: BTreeMap<_, _> = (0..65).map(|n| (n.to_string(), "x".to_owned())).collect();
        assert!(labels(&many).is_err());
        assert!(labels(&one("team", "B\u{e4}ren")).is_ok());
        assert!(environment(Some("")).is_err() && environment(Some("a\n")).is_err());
        assert!(environment(None).is_ok() && environment(Some("production")).is_ok());
    }
}
