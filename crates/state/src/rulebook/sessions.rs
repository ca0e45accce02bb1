//! The bindings of each session, and the sessions that a change affects. A session is compiled separately, from the
//! connections of its end user or those that it names, so that the cost of a new session or a request does not depend
//! on the number of users, connections and other sessions.

use std::sync::Arc;

use super::facts::{Changed, Facts};
use super::names::allowed_sets;
use super::plugins::{Allowed, Plugins};
use crate::directory::{AgentRecord, ConnectionRecord, SessionAccess};
use keyward_base::id::{ConnectionId, OrgId, SessionId};
use keyward_base::shared_map::Difference;
use keyward_model::{Record, Reference, Session, User};
use keyward_rules::inject::placeholder::Placeholder;
use keyward_rules::policy::{AccountBinding, AgentBindings, Extent, OwnAuthorization};

impl Facts {
    pub(super) fn session_changed(
        &mut self,
        Difference { before, now }: Difference<'_, Arc<Record<Session>>>,
        changed: &mut Changed,
    ) {
        for (session, is_there) in [(before, false), (now, true)] {
            let Some(session) = session else { continue };
            self.of_org_mut(&session.org).sessions.set(session, is_there);
            changed.sessions.insert((session.org.clone(), session.id.clone()));
        }
    }

    /// Handles a user who became an end user, or is no longer one.
    pub(super) fn user_changed(
        &self,
        Difference { before, now }: Difference<'_, Arc<Record<User>>>,
        changed: &mut Changed,
    ) {
        let has_sessions =
            |user: Option<&Arc<Record<User>>>| user.is_some_and(|it| it.has_sessions());
        let Some(user) = now.or(before) else { return };
        let Some(of_org) = self.of_org(&user.org) else { return };
        if has_sessions(before) == has_sessions(now) {
            return;
        }
        let index = &of_org.sessions;
        let named = index.owned.get(&user.id).flat_map(|connection| index.naming.get(connection));
        let all = index.of_user.get(&user.id).chain(named);
        changed.sessions.extend(all.map(|session| (user.org.clone(), session.clone())));
    }

    /// Updates the connections of each owner. Called before the sessions that may use the connection are looked up.
    pub(super) fn note_owner(&mut self, [before, now]: [Option<&Arc<ConnectionRecord>>; 2]) {
        if let Some((record, owner)) = before.and_then(|it| Some((it, it.facts.owner.as_ref()?))) {
            self.of_org_mut(&record.org).sessions.owned.take(owner, &record.id);
        }
        if let Some((record, owner)) = now.and_then(|it| Some((it, it.facts.owner.as_ref()?))) {
            self.of_org_mut(&record.org).sessions.owned.put(owner, &record.id);
        }
    }

    /// Adds the sessions of changed agents to the changes.
    pub(super) fn add_sessions_of_agents(&self, changed: &mut Changed) {
        let Changed { agents, sessions, .. } = changed;
        for (org, agent) in agents.iter() {
            let Some(of_org) = self.of_org(org) else { continue };
            let of_agent = of_org.sessions.of_agent.get(agent);
            sessions.extend(of_agent.map(|session| (org.clone(), session.clone())));
        }
    }

    /// The bindings of a session; `None` when it has ended.
    pub(super) fn in_session(&self, org: &OrgId, id: &SessionId) -> Option<AgentBindings> {
        let session = self.view().one::<Session>(org, id)?;
        let agent = session.agent.id().and_then(|agent| self.view().agent(org, agent));
        let Some(agent) = agent.filter(|agent| !agent.facts.is_paused()) else {
            return Some(AgentBindings::default());
        };
        let plugins = self.source().plugins_of(agent);
        let mut records = self.candidates(session);
        // Of several connections, the oldest is the default.
        records.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        let bindings = records.into_iter().filter_map(|connection| {
            let access = self.view().may_be_in_session(&session.spec, agent, connection).ok()?;
            self.binding_in_session(agent, connection, access, &plugins)
        });
        let bindings = bindings.collect();
        let allow = allowed_sets(agent);
        Some(AgentBindings { bindings, empty: Vec::new(), lost: Vec::new(), allow })
    }

    /// The connections that the session names, or else those of its end user.
    fn candidates(&self, session: &Record<Session>) -> Vec<&Arc<ConnectionRecord>> {
        let find = |id: &ConnectionId| self.view().connection(&session.org, id);
        match (&session.connections, session.user.as_ref().and_then(Reference::id)) {
            (Some(named), _) => named.iter().filter_map(Reference::id).filter_map(find).collect(),
            (None, Some(user)) => {
                let of_org = self.of_org(&session.org).into_iter();
                of_org.flat_map(|of_org| of_org.sessions.owned.get(user)).filter_map(find).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    fn binding_in_session(
        &self,
        agent: &AgentRecord,
        record: &ConnectionRecord,
        access: SessionAccess,
        plugins: &Plugins,
    ) -> Option<AccountBinding> {
        let binding = agent.facts.binding(&record.id);
        let Allowed { extent, deny, own_authorization } = match access {
            SessionAccess::ByProvider => Allowed {
                extent: Extent::Whole,
                deny: None,
                own_authorization: OwnAuthorization::default(),
            },
            SessionAccess::ByBinding => self.source().allowed(binding, record, plugins)?,
        };
        let placeholders = binding.into_iter().flat_map(|it| it.placeholders.values());
        Some(AccountBinding {
            org: agent.org.clone(),
            agent: agent.id.clone(),
            account: self.source().account(record),
            placeholders: placeholders.map(Placeholder::core).collect(),
            extent,
            deny,
            by_default: !agent.require_selection,
            own_authorization,
        })
    }
}
