//! Sessions of agents: addition, validity, and removal after their end. Each session is a row. Its agent, user and
//! connections are checked when it is used, so that their changes have effect at once.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::error::DirectoryError;
use super::index::{Index, NameKind, Unique};
use super::records::AgentRecord;
use super::stored::{Stored, stored_in};
use super::view::View;
use super::{Directory, check};
use crate::crypto::token::{self, TokenHash};
use crate::store::Table;
use keyward_base::agent::{Agent, AgentSession};
use keyward_base::id::{OrgId, SessionId, UserId};
use keyward_base::secret::Secret;
use keyward_model::{
    Connection, ManagedBy, Record, Reference, Refusal, Resource, Role, Session, SessionFacts,
    SessionSpec, User,
};

/// Why a connection may be used in a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionAccess {
    /// The connection belongs to an end user, and its provider is one of the agent's `user_providers`.
    ByProvider,
    /// The connection is bound to the agent; a slot may restrict the requests.
    ByBinding,
}

/// A new session, with the token that is shown once.
#[derive(Debug)]
pub struct NewSession {
    pub session: Arc<Record<Session>>,
    pub token: Secret,
}

impl Stored for Session {
    const TABLE: Table = Table::Sessions;
    const NAMED: NameKind = NameKind::Session;

    stored_in!(sessions);

    /// Found by its id alone.
    fn full_name(record: &Record<Self>) -> Cow<'_, str> {
        Cow::Borrowed(record.id.as_str())
    }

    fn unique(record: &Record<Self>, index: &Index) -> Vec<Unique> {
        index.unique_token(&record.facts.hash).into_iter().collect()
    }

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        let Some(hash) = TokenHash::from_hex(&record.facts.hash) else { return };
        view.sessions.add(hash, record);
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        let Some(hash) = TokenHash::from_hex(&record.facts.hash) else { return };
        view.sessions.end(hash, record);
    }

    /// Runs with the write lock, so that the named records cannot be removed meanwhile.
    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        let agent = view.named::<keyward_model::Agent>(&record.org, &record.agent)?;
        if let (Some(of_agent), Some(wanted)) = (&agent.environment, &record.environment)
            && of_agent != wanted
        {
            let rule = format!("must be the agent's, `{of_agent}`");
            return Err(Refusal::new("environment", rule).into());
        }
        if let Some(named) = &record.user {
            let found = view.user_of(record);
            let user = found.filter(|user| user.has_sessions());
            let refusal = || {
                let name = found.map_or(named.as_str(), |user| user.name());
                let rule =
                    format!("must name an active user with role `end_user`, and `{name}` is none");
                Refusal::new("user", rule).hint("add one: `keyward user add NAME --role end_user`")
            };
            user.ok_or_else(refusal)?;
        }
        for named in record.connections.iter().flatten() {
            let found = view.named::<Connection>(&record.org, named)?;
            view.may_be_in_session(&record.spec, agent, found)?;
        }
        Ok(())
    }
}

impl Directory {
    /// Makes a session with an issued token. `max`: how many the organisation may have.
    ///
    /// # Errors
    /// When the spec is refused, or there are too many.
    pub async fn add_session(
        &self,
        org: &OrgId,
        spec: SessionSpec,
        expires: Timestamp,
        max: usize,
    ) -> Result<NewSession, DirectoryError> {
        let token = token::issue_agent_token();
        let hash = TokenHash::of_secret(&token).to_hex();
        let (by, now) = (ManagedBy::Store, self.shared.clock.now());
        let facts = SessionFacts { hash, expires };
        let record = Record::<Session>::new(org, by, spec, facts, now);
        Session::check(&record.spec)?;
        if self.view().session_count(org) >= max {
            self.remove_ended_sessions().await?;
        }
        let session = self.write(move |writer| async move {
            match writer.view.load().session_count(&record.org) < max {
                true => writer.add(record).await,
                false => Err(DirectoryError::TooManySessions { max }),
            }
        });
        Ok(NewSession { session: session.await?, token })
    }

    /// Removes the sessions that have expired, or whose agent or user was removed.
    ///
    /// # Errors
    /// When the store fails; the next call tries again.
    pub async fn remove_ended_sessions(&self) -> Result<usize, DirectoryError> {
        let (view, now) = (self.view(), self.shared.clock.now());
        let is_live =
            |it: &Record<Session>| now < it.facts.expires && view.in_session(it).is_some();
        let ended: Vec<_> = view.sessions().filter(|it| !is_live(it)).collect();
        let mut removed = 0;
        for session in ended {
            if now < session.facts.expires && self.has_agent_and_user(session).await? {
                continue;
            }
            match self.remove::<Session>(&session.org, &session.id, ManagedBy::Store).await {
                // A request has removed the session first.
                Ok(()) | Err(DirectoryError::NotFound { .. }) => removed += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Whether the agent and the end user of a session exist in the store.
    async fn has_agent_and_user(&self, session: &Record<Session>) -> Result<bool, DirectoryError> {
        if let Some(agent) = session.agent.id() {
            self.follow_record::<keyward_model::Agent>(&session.org, agent).await?;
        }
        if let Some(user) = session.user.as_ref().and_then(Reference::id) {
            self.follow_record::<User>(&session.org, user).await?;
        }
        Ok(self.view().in_session(session).is_some())
    }
}

impl View {
    /// All sessions of all orgs.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Record<Session>>> {
        self.each_org().flat_map(|org| org.sessions.values())
    }

    fn session_count(&self, org: &OrgId) -> usize {
        self.of_org(org).map_or(0, |org| org.sessions.by_id().len())
    }

    /// The agent as it acts in the session; `None` when the agent or the end user was removed.
    pub fn in_session(&self, session: &Record<Session>) -> Option<Agent> {
        let agent = self.agent(&session.org, session.agent.id()?)?;
        let user = match &session.user {
            None => None,
            Some(_) => Some(self.user_of(session)?),
        };
        let in_session = AgentSession {
            id: session.id.clone(),
            label: session.label.as_deref().map(Into::into),
            user: user.map(|user| (user.id.clone(), user.name().into())),
        };
        Some(Agent {
            id: agent.id.clone(),
            org: agent.org.clone(),
            name: agent.name().into(),
            token: None,
            session: Some(Arc::new(in_session)),
        })
    }

    /// The agent in the session with this token, unless the session has ended. Agent and user are looked up now: they may
    /// enter the view later than the session.
    pub(super) fn agent_of_session(&self, hash: &TokenHash, now: Timestamp) -> Option<Agent> {
        let agent = self.in_session(self.sessions.session(hash)?)?;
        self.is_still_authenticated(&agent, now).then_some(agent)
    }

    /// Whether the token belongs to an ended session, as far as ended sessions are remembered.
    pub fn was_session(&self, token: &str) -> bool {
        self.sessions.has_known(&TokenHash::of(token))
    }

    /// Whether a session has not ended, and its end user is active. The caller checks the agent.
    pub(super) fn is_session_valid(&self, org: &OrgId, id: &SessionId, now: Timestamp) -> bool {
        self.one::<Session>(org, id).is_some_and(|session| {
            let user = || self.user_of(session).is_some_and(|user| user.has_sessions());
            now < session.facts.expires && (session.user.is_none() || user())
        })
    }

    /// The end user of a session.
    fn user_of(&self, session: &Record<Session>) -> Option<&Arc<Record<User>>> {
        self.one::<User>(&session.org, session.user.as_ref()?.id()?)
    }

    /// The end user who owns the connection.
    fn end_user_of<'a>(&self, connection: &'a Record<Connection>) -> Option<&'a UserId> {
        let owner = connection.facts.owner.as_ref()?;
        let user = self.one::<User>(&connection.org, owner)?;
        user.has_sessions().then_some(owner)
    }

    /// Whether the connection belongs to an end user and the agent may use it in sessions of that user, who may be
    /// paused.
    pub fn serves_owner(&self, agent: &AgentRecord, connection: &Record<Connection>) -> bool {
        let owner = connection.facts.owner.as_ref();
        let owner = owner.and_then(|owner| self.one::<User>(&connection.org, owner));
        owner.is_some_and(|owner| owner.role == Role::EndUser)
            && agent.serves_users_at(&connection.provider)
            && check::same_environment(agent, connection).is_ok()
    }

    /// Whether a session with this spec may use the connection, apart from the connections that it names: the agent may
    /// use it, the environments agree, and it belongs to no other end user. New sessions and the policy use this check.
    ///
    /// # Errors
    /// The reason if it may not.
    pub fn may_be_in_session(
        &self,
        spec: &SessionSpec,
        agent: &AgentRecord,
        connection: &Record<Connection>,
    ) -> Result<SessionAccess, DirectoryError> {
        let of_user = self.end_user_of(connection);
        let user = spec.user.as_ref().and_then(|user| user.id());
        let refusal = |why: &str| {
            let rule = format!("must not name `{}`: {why}", connection.name);
            Refusal::new("connections", rule)
        };
        if let (Some(owner), Some(user)) = (of_user, user)
            && owner != user
        {
            return Err(refusal("it belongs to another end user").into());
        }
        check::same_environment(agent, connection)?;
        if let (Some(wanted), Some(found)) = (&spec.environment, &connection.environment)
            && wanted != found
        {
            return Err(refusal(&format!("it is in environment `{found}`")).into());
        }
        let bound = || {
            agent.facts.binding(&connection.id).is_some()
                && check::may_bind(agent, connection).is_ok()
        };
        let served = of_user.is_some() && agent.serves_users_at(&connection.provider);
        if served {
            return Ok(SessionAccess::ByProvider);
        }
        if bound() {
            return Ok(SessionAccess::ByBinding);
        }
        let (agent, provider) = (&agent.name, &connection.provider);
        let hint = match of_user {
            Some(_) => format!("`keyward agent set {agent} --user-provider {provider}` allows it"),
            None => format!("`keyward agent bind {agent} {}` allows it", connection.name),
        };
        Err(refusal(&format!("agent `{agent}` may not use it")).hint(hint).into())
    }
}
