//! The description of a connection as people read it.

use crate::cli::terminal::table::moment;
use keyward_model::{
    Connection, ConnectionShown, ReplacementReason, RotationState, Shown, in_days,
};
use keyward_rules::provider::scope_words::worded_scopes;

/// The rows about description, secret and rotation.
pub(in crate::cli) fn rows(connection: &Shown<Connection>) -> Vec<(&'static str, String)> {
    let facts = &connection.facts;
    let tags: Vec<_> = connection.tags.iter().map(String::as_str).collect();
    vec![
        ("description", connection.description.clone().unwrap_or_default()),
        ("purpose", connection.purpose.clone().unwrap_or_default()),
        ("tags", tags.join(", ")),
        ("not granted", worded_scopes(&facts.missing, &facts.scope_words)),
        ("secret since", facts.rotated.map(moment).unwrap_or_default()),
        ("secret ends", connection.expires_at().map(moment).unwrap_or_default()),
        ("rotate every", connection.rotate_every.map(in_days).unwrap_or_default()),
        ("due", due(facts)),
        ("rotation", rotation(facts)),
    ]
}

/// When another secret is wanted, and why.
pub(in crate::cli) fn due(facts: &ConnectionShown) -> String {
    let Some(due) = &facts.due else { return String::new() };
    let why = match due.why {
        ReplacementReason::Expires => "it ends",
        ReplacementReason::RotateEvery => "its rotation period ends",
    };
    format!("{} ({why})", moment(due.at))
}

fn rotation(facts: &ConnectionShown) -> String {
    let Some(rotation) = &facts.rotation else { return String::new() };
    match rotation.state {
        RotationState::Testing => "a new secret is being tested".to_owned(),
        RotationState::Unconfirmed => {
            format!("not confirmed; the old secret is kept until {}", moment(rotation.until))
        }
    }
}
