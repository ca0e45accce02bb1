//! The one place from which changes of connections are told: what happened, to which, and why.

use super::state::Admin;
use crate::directory::{ConnectionRecord, ConnectionState};

/// Tells of a change that is durable. `why` quotes nothing that a provider or an owner wrote.
pub(super) fn told(_admin: &Admin, connection: &ConnectionRecord, what: &'static str, why: &str) {
    let (id, name) = (&connection.id, &connection.name);
    let state = match &connection.state {
        ConnectionState::Draft { .. } => "draft",
        ConnectionState::Testing => "testing",
        ConnectionState::Active => "active",
        ConnectionState::Paused => "paused",
        ConnectionState::Broken { .. } => "broken",
    };
    tracing::info!(connection = %id, name, what, state, why, "a connection was changed");
}
