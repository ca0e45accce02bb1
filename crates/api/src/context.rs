//! [`Context`]: what every handler of a resource needs, the services and who asks; and the publication of changes
//! of connections: what happened, to which connection, and why.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::auth::Caller;
use super::error::ApiError;
use super::state::{Admin, Deps};
use keyward_model::{Connection, Record};
use keyward_state::directory::{ConnectionRecord, Stored, View};
use keyward_state::observe::change::Change;
use keyward_state::observe::event::Outcome;

/// The services, and who asks.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) admin: Admin,
    pub(super) caller: Caller,
}

impl Context {
    pub(super) fn deps(&self) -> &Deps {
        self.admin.deps()
    }

    /// The directory as of now.
    pub(super) fn view(&self) -> Arc<View> {
        self.deps().directory.view()
    }

    /// A resource by name or id. One that the caller does not see is treated as missing.
    pub(super) fn named<R: Stored>(
        &self,
        name: &str,
        sees: impl Fn(&Record<R>) -> bool,
    ) -> Result<Arc<Record<R>>, ApiError> {
        let (view, org) = (self.view(), self.caller.org());
        let seen = |it: &&Arc<Record<R>>| sees(it);
        let found = view.find::<R>(org, name).filter(seen);
        let known = || view.all::<R>(org).filter(seen).map(|it| it.name());
        let found = found.ok_or_else(|| ApiError::not_found_among(R::KIND.one, name, known()))?;
        Ok(found.clone())
    }

    /// A connection by name or id. One that the caller may only use is refused for changes.
    pub(super) fn connection(&self, name: &str) -> Result<Arc<ConnectionRecord>, ApiError> {
        let found = self.connection_to_use(name)?;
        self.caller.record_changed("connection", &found.id, &found.name);
        self.caller.may_change(&found)?;
        Ok(found)
    }

    /// The same of one that the request only mentions.
    pub(super) fn connection_to_use(&self, name: &str) -> Result<Arc<ConnectionRecord>, ApiError> {
        self.named::<Connection>(name, |it| self.caller.sees_connection(it))
    }
}

impl FromRequestParts<Admin> for Context {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, admin).await?;
        Ok(Self { admin: admin.clone(), caller })
    }
}

/// Tells of a change that is durable. `why` quotes nothing that a provider or an owner wrote.
pub(super) async fn publish_change(
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
