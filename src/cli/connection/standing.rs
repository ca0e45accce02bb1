//! Whether a connection works.

use crate::cli::table::moment;
use keyward_model::{Connection, Shown};
use keyward_state::directory::ConnectionState;

/// The state, and since when refreshes fail.
pub(in crate::cli) fn standing(connection: &Shown<Connection>) -> String {
    let state = state(&connection.facts.state);
    match connection.facts.token.as_ref().and_then(|token| token.failing.as_ref()) {
        None => state,
        Some(failing) => format!("{state}, refreshes fail since {}", moment(failing.since)),
    }
}

/// `active`, `paused`, `broken: revoked (detail)`.
pub(in crate::cli) fn state(state: &ConnectionState) -> String {
    // The API's own words, whatever the states are.
    let words = serde_json::to_value(state).unwrap_or_default();
    let word = |key: &str| words.get(key).and_then(|word| word.as_str()).map(str::to_owned);
    let reason =
        word("reason").or(word("failure")).map(|reason| format!(": {reason}")).unwrap_or_default();
    let detail = word("detail").map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{reason}{detail}", word("state").unwrap_or_default())
}
