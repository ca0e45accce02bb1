//! Publishes changes of connections, for all handlers: what happened, to which connection, and why.

use super::context::Context;
use keyward_state::directory::ConnectionRecord;
use keyward_state::observe::change::Change;
use keyward_state::observe::event::Outcome;

/// Tells of a change that is durable. `why` quotes nothing that a provider or an owner wrote.
pub(super) async fn publish(
    Context { admin, caller }: &Context,
    connection: &ConnectionRecord,
    what: &'static str,
    why: &str,
) {
    let (id, name) = (&connection.id, &connection.name);
    let state = connection.facts.state.code();
    tracing::info!(id = "connection_changed", connection = %id, name, what, state, why, "a connection was changed");
    if caller.is_recorded() {
        // The request's own record tells who; this what came of it.
        return caller.because(format!("{why}: {state}"));
    }
    let deps = admin.deps();
    let change = Change::new(&caller.actor(), "connection", what).of(id, name).because(why);
    let event = change.event(deps.clock.now(), &connection.org, Outcome::Completed);
    deps.changes.record(event).await;
}
