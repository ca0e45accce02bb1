//! `/sessions`: short-lived tokens with which an agent acts for one end user, or with named connections only. The
//! token is answered once. Only admins make sessions that use connections of end users.

use std::borrow::Cow;

use jiff::SignedDuration;

use super::why_paused;
use crate::context::Context;
use crate::error::ApiError;
use crate::input::Input;
use crate::openapi::Routes;
use crate::resource::{self, Exposed, mentioned};
use crate::tokens::text_of;
use keyward_base::id::ConnectionId;
use keyward_model::{
    Agent, ManagedBy, Record, Reference, Resource, Session, SessionIssued, SessionShown,
    SessionSpec, User,
};
use keyward_state::directory::{NewSession, SessionAccess};

pub(crate) fn routes() -> Routes {
    Routes::new()
        .get("/sessions", ["listSessions", "List sessions"], resource::list::<Session>)
        .post(
            "/sessions",
            ["addSession", "Make a session: an agent acts for an end user"],
            resource::add::<Session>,
        )
        .get("/sessions/{session}", ["getSession", "Show a session"], resource::show::<Session>)
        .delete(
            "/sessions/{session}",
            ["endSession", "End a session and its open streams"],
            resource::remove::<Session>,
        )
}

impl Exposed for Session {
    type Added = SessionIssued;

    fn texts<'a>(context: &'a Context, session: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        let Some(agent) = context.view().in_session(session) else { return Vec::new() };
        let user = agent.session.as_ref().and_then(|session| session.user.as_ref());
        let user = user.map(|(_, name)| Cow::<str>::Owned(name.to_string()));
        std::iter::once(Cow::<str>::Owned(agent.name.to_string())).chain(user).collect()
    }

    /// Labels are not unique.
    fn cursor(session: &Record<Self>) -> &str {
        session.id.as_str()
    }

    fn sees(context: &Context, session: &Record<Self>) -> bool {
        let (view, org) = (context.view(), context.caller.org());
        let agent = session.agent.id().and_then(|id| view.agent(org, id));
        let lives = context.deps().clock.now() < session.facts.expires;
        lives && agent.is_some_and(|agent| context.caller.sees_agent(agent))
    }

    fn resolve(context: &Context, spec: &mut SessionSpec) -> Result<(), ApiError> {
        spec.agent = found::<Agent>(context, "agent", &spec.agent)?;
        if let Some(user) = &mut spec.user {
            context.caller.must_edit_all()?;
            *user = found::<User>(context, "user", user)?;
        }
        for connection in spec.connections.iter_mut().flatten() {
            *connection = found_connection(context, connection)?;
        }
        Ok(())
    }

    async fn shown_facts(context: &Context, session: &Record<Self>) -> SessionShown {
        let agent = context.view().in_session(session);
        let policy = context.deps().rulebook.current();
        let names = agent.iter().flat_map(|agent| policy.account_names(agent));
        let user = agent.as_ref().and_then(|agent| agent.session.as_ref()?.user.as_ref());
        SessionShown {
            agent_name: agent.as_ref().map_or_else(String::new, |agent| agent.name.to_string()),
            user_name: user.map(|(_, name)| name.to_string()),
            connection_names: names.map(str::to_owned).collect(),
            expires: session.facts.expires,
        }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<SessionIssued, ApiError> {
        let Context { admin, caller } = context;
        let Input { spec, options } = input;
        let lifetime = SignedDuration::try_from(options.lifetime()?).map_err(ApiError::internal)?;
        Self::check(&spec)?;
        may_make(context, &spec)?;
        let (deps, org) = (admin.deps(), caller.org());
        let (expires, max) = (deps.clock.now() + lifetime, deps.limits.sessions_max);
        let NewSession { session, token } =
            deps.directory.add_session(org, spec, expires, max).await?;
        admin.enforce().await?;
        let shown = resource::shown(context, &session).await;
        caller.record_changed(Self::KIND.one, &session.id, &shown.facts.agent_name);
        if let Some(user) = &shown.facts.user_name {
            caller.because(format!("for end user {user}"));
        }
        let warnings = warnings(context, &session, &shown.facts);
        Ok(SessionIssued { token: text_of(&token)?, session: shown, warnings })
    }

    async fn removed(context: &Context, _: &Record<Self>) -> Result<(), ApiError> {
        context.admin.enforce().await
    }
}

/// What the request names, as far as it exists for the caller.
pub(crate) fn found<R: Exposed>(
    context: &Context,
    field: &'static str,
    named: &Reference<R::Id>,
) -> Result<Reference<R::Id>, ApiError> {
    let record = mentioned::<R>(context, named.as_str()).map_err(|error| error.in_field(field))?;
    Ok(Reference::Id(record.id.clone()))
}

fn found_connection(
    context: &Context,
    named: &Reference<ConnectionId>,
) -> Result<Reference<ConnectionId>, ApiError> {
    let found = context.connection_to_use(named.as_str());
    let found = found.map_err(|error| error.in_field("connections"))?;
    Ok(Reference::Id(found.id.clone()))
}

/// Refuses a session of a paused agent, which would only get refusals, and connections of end users to callers who
/// may not use all of them.
fn may_make(context: &Context, spec: &SessionSpec) -> Result<(), ApiError> {
    let (view, org) = (context.view(), context.caller.org());
    let agent = spec.agent.id().and_then(|id| view.agent(org, id));
    let agent = agent.ok_or_else(|| ApiError::not_found("agent", spec.agent.as_str()))?;
    if view.is_inactive(agent) {
        let (why, hint) = why_paused(agent);
        let message = format!("must not be paused: {why}");
        return Err(ApiError::field("agent", message).hint(hint));
    }
    let named = spec.connections.iter().flatten().filter_map(Reference::id);
    for connection in named.filter_map(|id| view.connection(org, id)) {
        if view.may_be_in_session(spec, agent, connection)? == SessionAccess::ByProvider {
            context.caller.must_edit_all()?;
        }
    }
    Ok(())
}

/// A session that names no connections reaches nothing of its end user if the agent has neither `user_providers` nor a
/// binding to a connection of that user.
fn warnings(context: &Context, session: &Record<Session>, shown: &SessionShown) -> Vec<String> {
    let (view, org) = (context.view(), &session.org);
    let agent = session.agent.id().and_then(|id| view.agent(org, id));
    let user = session.user.as_ref().and_then(Reference::id);
    let (Some(agent), Some(user), None) = (agent, user, &session.connections) else {
        return Vec::new();
    };
    let is_reached = |id: &ConnectionId| {
        let theirs = view.connection(org, id).filter(|it| it.facts.owner.as_ref() == Some(user));
        theirs.is_some_and(|it| view.may_be_in_session(&session.spec, agent, it).is_ok())
    };
    let mut bound = agent.facts.bindings.iter();
    if !agent.user_providers.is_empty() || bound.any(|it| is_reached(&it.connection)) {
        return Vec::new();
    }
    let (name, user) = (&shown.agent_name, shown.user_name.as_deref().unwrap_or_default());
    let remedy = match agent.managed_by {
        ManagedBy::Store => {
            format!("`keyward agent set {name} --user-provider ID` adds a provider")
        }
        ManagedBy::File => "add `user_providers` to the agent in the configuration file".to_owned(),
    };
    vec![format!(
        "agent `{name}` has no user providers, and no connection of `{user}` is bound to it: in \
         this session it can use no connection of the end user; {remedy}"
    )]
}
