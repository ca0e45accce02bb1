//! Links in refusals for end users: the data path asks for a link, and one task makes it. An agent that repeats its
//! request gets the same link until a browser has opened it, so it cannot fill the store. Only links of this process are
//! given again: the store has no tokens.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::offers::Offers;
use crate::error::ApiError;
use crate::state::Admin;
use keyward_base::id::{ConnectSessionId, ConnectionId, OrgId, UserId};
use keyward_model::{
    Agent, ConnectSession, ConnectSessionSpec, ManagedBy, Record, Reference, RefusedCall, Session,
    User,
};
use keyward_proxy::{WantedAccount, WantedLink};
use keyward_state::directory::{NewConnectSession, View};
use keyward_state::observe::change::{Actor, Change};
use keyward_state::observe::event::Outcome;

/// How many links of one end user may be open at once. Further providers get none.
const PER_USER_MAX: usize = 5;

/// Divisor of `limits.connect_sessions_max` for links of end users: half is left for the platform's own connect
/// sessions.
const SHARE: usize = 2;

/// A link is given again while it lives at least this long: a person must have time to use it.
const GIVEN_FOR: SignedDuration = SignedDuration::from_mins(10);

/// The links that were given and may be given again.
struct Links {
    admin: Admin,
    given: HashMap<Purpose, GivenLink>,
}

/// What a link is for. A link is never given to another end user.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Purpose {
    org: OrgId,
    user: UserId,
    account: MissingAccount,
}

/// The account that is missing.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum MissingAccount {
    /// Of this connection, which is connected again.
    Connection(ConnectionId),
    /// A new one at this provider.
    Provider(String),
}

struct GivenLink {
    session: ConnectSessionId,
    url: String,
}

/// Makes links until the data path has ended. A request that has waited too long gets none.
pub async fn make_links(admin: Admin, mut wanted: mpsc::Receiver<WantedLink>) {
    let mut links = Links { admin, given: HashMap::new() };
    while let Some(wanted) = wanted.recv().await {
        if wanted.answer.is_closed() {
            continue;
        }
        let url = links.url(&wanted).await;
        // The agent may have gone.
        let _ = wanted.answer.send(url);
    }
}

impl Links {
    async fn url(&mut self, wanted: &WantedLink) -> Option<String> {
        let (view, now) = (self.admin.deps().directory.view(), self.admin.deps().clock.now());
        let purpose = Purpose::of(&view, wanted)?;
        self.given.retain(|purpose, given| given.may_be_given(&view, purpose, now));
        if let Some(given) = self.given.get(&purpose) {
            return Some(given.url.clone());
        }
        if !self.has_room(&view, &purpose, now) {
            tracing::debug!(user = %purpose.user, "no link for an end user: too many are open");
            return None;
        }
        match self.make(&view, &purpose, wanted).await {
            Ok(given) => {
                let url = given.url.clone();
                self.given.insert(purpose, given);
                Some(url)
            }
            Err(error) => {
                tracing::debug!(user = %purpose.user, %error, "no link for an end user");
                None
            }
        }
    }

    /// Whether the end user and the organisation may have one more link of the gateway.
    fn has_room(&self, view: &View, purpose: &Purpose, now: Timestamp) -> bool {
        let all = view.all::<ConnectSession>(&purpose.org);
        let own = all.filter(|it| it.facts.for_refusal.is_some() && it.facts.is_live(now));
        let (mut of_org, mut of_user) = (0, 0);
        for session in own {
            of_org += 1;
            let user = session.user.as_ref().and_then(Reference::id);
            of_user += usize::from(user == Some(&purpose.user));
        }
        of_org < self.admin.deps().limits.connect_sessions_max / SHARE && of_user < PER_USER_MAX
    }

    async fn make(
        &self,
        view: &View,
        purpose: &Purpose,
        wanted: &WantedLink,
    ) -> Result<GivenLink, ApiError> {
        let deps = self.admin.deps();
        let spec = purpose.spec();
        Offers::check(&self.admin, &purpose.org, &spec)?;
        let cause = RefusedCall { agent: wanted.agent.clone(), session: wanted.session.clone() };
        let max = deps.limits.connect_sessions_max;
        let made = deps.directory.add_connect_session(&purpose.org, spec, max, Some(cause));
        let NewConnectSession { session, token } = made.await?;
        let url = super::link(deps, &token)?;
        self.record(view, &session, wanted).await;
        Ok(GivenLink { session: session.id.clone(), url })
    }

    /// Writes the audit record: the gateway made the link, for which agent and session.
    async fn record(&self, view: &View, made: &Record<ConnectSession>, wanted: &WantedLink) {
        let deps = self.admin.deps();
        let agent = view.one::<Agent>(&wanted.org, &wanted.agent);
        let agent = agent.map_or_else(|| wanted.agent.to_string(), |it| it.name.clone());
        let user = view.one::<User>(&wanted.org, &wanted.user);
        let user = user.map_or_else(|| wanted.user.to_string(), |it| it.name.clone());
        let why = format!("for user {user}: a request of agent {agent} was refused");
        let change = Change::new(&Actor::Gateway, "connect session", "added");
        let change = change.of(&made.id, made.name()).because(why);
        let mut event = change.event(deps.clock.now(), &wanted.org, Outcome::Completed);
        event.agent = Some(agent);
        event.session = Some(wanted.session.to_string());
        event.user = Some(user);
        deps.changes.record(event).await;
    }
}

impl Purpose {
    /// `None` if a link would not help: the connection is not the end user's own to connect again, or the session could not
    /// use a new one.
    fn of(view: &View, wanted: &WantedLink) -> Option<Self> {
        let org = &wanted.org;
        let account = match &wanted.account {
            WantedAccount::Connection(name) => {
                let found = view.find_connection(org, name)?;
                let is_own = found.facts.owner.as_ref() == Some(&wanted.user);
                let is_stored = found.managed_by == ManagedBy::Store;
                (is_own && is_stored).then(|| MissingAccount::Connection(found.id.clone()))?
            }
            WantedAccount::Provider(provider) => {
                let agent = view.one::<Agent>(org, &wanted.agent)?;
                let session = view.one::<Session>(org, &wanted.session)?;
                let may_use = agent.serves_users_at(provider) && session.connections.is_none();
                may_use.then(|| MissingAccount::Provider(provider.to_string()))?
            }
        };
        Some(Self { org: org.clone(), user: wanted.user.clone(), account })
    }

    fn spec(&self) -> ConnectSessionSpec {
        let mut spec = ConnectSessionSpec {
            user: Some(Reference::Id(self.user.clone())),
            ..ConnectSessionSpec::default()
        };
        match &self.account {
            MissingAccount::Connection(id) => spec.connection = Some(Reference::Id(id.clone())),
            MissingAccount::Provider(id) => spec.providers = Some(vec![id.clone()]),
        }
        spec
    }
}

impl GivenLink {
    /// Whether no browser has opened it, and it lives long enough.
    fn may_be_given(&self, view: &View, purpose: &Purpose, now: Timestamp) -> bool {
        let session: Option<&Arc<Record<ConnectSession>>> = view.one(&purpose.org, &self.session);
        session.is_some_and(|session| {
            let facts = &session.facts;
            let lives = facts.is_live(now) && facts.expires.duration_since(now) >= GIVEN_FOR;
            facts.browser.is_none() && lives && view.entitled_user(session).is_some()
        })
    }
}
