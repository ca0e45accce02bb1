//! [`Revocation`] closes a stream when something that it depends on is revoked: the agent's token, or during an
//! exchange or a tunnel the permit or the connection; or when a person cuts its exchange or closes its listener. A change of
//! policy does not close an idle stream, because its next request is decided again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::gateway::Gateway;
use crate::limits::agent_streams::{StreamSlot, UnauthenticatedPlace};
use crate::open_exchanges::{CurrentExchange, ExchangeSubject, OpenExchange};
use crate::record::Record;
use crate::refusal::{Refusal, Shortage};
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_base::id::ConnectionId;
use keyward_rules::policy::PolicyQuery;
use keyward_rules::policy::{DatabasePermit, Permit, Reason, Route, SlotProblem};
use keyward_state::directory::{ConnectionState, View};
use keyward_state::observe::change::Actor;
use keyward_state::rulebook::Progress;

/// The maximum delay after which an expired token ends its streams. Each new request checks the expiry by itself.
const EXPIRY_SEEN_WITHIN: Duration = Duration::from_secs(60);

/// The dependencies of a stream. An unauthenticated stream depends only on its entry in the list of such streams.
#[derive(Debug)]
pub struct Revocation {
    dependencies: Mutex<Option<Dependencies>>,
    /// `None` for an HTTP/2 request: its stream holds the entry.
    place: Option<UnauthenticatedPlace>,
    /// Turns true when the listener of the stream closes; `None`: it stays.
    listener_closing: Option<watch::Receiver<bool>>,
    current: Arc<CurrentExchange>,
    /// The agent's descriptors when the stream was counted as its.
    agent_descriptors: AtomicUsize,
}

#[derive(Debug)]
struct Dependencies {
    agent: Arc<Agent>,
    /// `None` for an HTTP/2 request: its stream holds the slot.
    slot: Option<StreamSlot>,
    activity: Option<Activity>,
}

/// The current exchange or tunnel of a stream.
#[derive(Debug)]
enum Activity {
    Tunnel(Target),
    /// The input of the decision that permitted it, and the connection of the credential.
    Exchange(Arc<PolicyQuery>, Option<ConnectionId>),
    Database {
        permit: Arc<DatabasePermit>,
        /// The server of the session, if DNS or another server has named it.
        member: Option<Target>,
    },
}

impl Revocation {
    /// For an accepted stream, which may be evicted until an agent has authenticated on it. `listener_closing`: turns true
    /// when its listener closes.
    pub fn for_new_stream(
        gateway: &Gateway,
        place: UnauthenticatedPlace,
        listener_closing: Option<watch::Receiver<bool>>,
    ) -> Self {
        let current = gateway.open_exchanges.enter();
        Self {
            dependencies: Mutex::new(None),
            place: Some(place),
            listener_closing,
            current,
            agent_descriptors: AtomicUsize::new(0),
        }
    }

    /// For one HTTP/2 request on a stream of `agent`.
    pub fn for_http2_request(gateway: &Gateway, agent: &Arc<Agent>) -> Self {
        let dependencies = Dependencies { agent: agent.clone(), slot: None, activity: None };
        let current = gateway.open_exchanges.enter();
        let dependencies = Mutex::new(Some(dependencies));
        let agent_descriptors = AtomicUsize::new(0);
        Self { dependencies, place: None, listener_closing: None, current, agent_descriptors }
    }

    /// Counts the stream as `agent`'s from now on; it cannot be evicted any more. Returns whether it had another agent,
    /// or another token of this one.
    ///
    /// # Errors
    /// When the agent has reached its limit of streams, or this stream has just been evicted.
    pub fn attach_agent(&self, gateway: &Gateway, agent: &Arc<Agent>) -> Result<bool, Refusal> {
        let mut dependencies = self.dependencies.lock();
        let slot = match &mut *dependencies {
            Some(dependencies) if dependencies.agent == *agent => return Ok(false),
            // The same agent by another token.
            Some(dependencies) if dependencies.agent.id == agent.id => dependencies.slot.take(),
            // When this agent has too many streams, the stream keeps its previous seat.
            _ => Some(
                gateway
                    .agent_streams
                    .admit(&agent.id)
                    .ok_or(Refusal::Overloaded(Shortage::Streams))?,
            ),
        };
        if self.place.as_ref().is_some_and(|place| !place.make_permanent()) {
            return Err(Refusal::Overloaded(Shortage::Streams));
        }
        let agent_descriptors = slot.as_ref().map_or(0, StreamSlot::agent_descriptors);
        self.agent_descriptors.store(agent_descriptors, Relaxed);
        let attached = Dependencies { agent: agent.clone(), slot, activity: None };
        Ok(dependencies.replace(attached).is_some())
    }

    /// The agent that has authenticated on the stream.
    pub fn agent(&self) -> Option<Arc<Agent>> {
        self.dependencies.lock().as_ref().map(|dependencies| dependencies.agent.clone())
    }

    /// The agent's descriptors when the stream was counted as its.
    pub fn agent_descriptors(&self) -> usize {
        self.agent_descriptors.load(Relaxed)
    }

    /// Resolves when the stream is evicted, or its listener closes.
    pub async fn evicted(&self) {
        match (&self.place, &self.listener_closing) {
            (None, _) => std::future::pending().await,
            (Some(place), None) => place.evicted().await,
            (Some(place), Some(closing)) => evicted_or_closed(place, closing).await,
        }
    }

    /// Adds the permit of an exchange to the dependencies. The exchange is listed as open from now on.
    pub fn begin_exchange(&self, query: Arc<PolicyQuery>, permit: &Permit, record: &Record) {
        let Some(dependencies) = &mut *self.dependencies.lock() else { return };
        let connection = permit.wanted().map(|it| (it.connection.clone(), it.name.clone()));
        let used = connection.as_ref().map(|(id, _)| id.clone());
        let agent = dependencies.agent.clone();
        let open = begun(agent, ExchangeSubject::Request(query.clone()), record);
        self.current.begin(OpenExchange { connection, ..open });
        dependencies.activity = Some(Activity::Exchange(query, used));
    }

    /// Adds a tunnel to `target` to the dependencies. It is listed as open from now on.
    pub fn begin_tunnel(&self, target: &Target, record: &Record) {
        if let Some(dependencies) = &mut *self.dependencies.lock() {
            let (agent, subject) =
                (dependencies.agent.clone(), ExchangeSubject::Tunnel(target.clone()));
            self.current.begin(begun(agent, subject, record));
            dependencies.activity = Some(Activity::Tunnel(target.clone()));
        }
    }

    /// Adds a session with a database to the dependencies. It is listed as open from now on.
    pub fn begin_database(&self, permit: &Arc<DatabasePermit>, record: &Record) {
        if let Some(dependencies) = &mut *self.dependencies.lock() {
            let subject = ExchangeSubject::Database(permit.shared_endpoint().clone());
            let open = begun(dependencies.agent.clone(), subject, record);
            let wanted = permit.wanted();
            let connection = Some((wanted.connection.clone(), wanted.name.clone()));
            self.current.begin(OpenExchange { connection, ..open });
            dependencies.activity =
                Some(Activity::Database { permit: permit.clone(), member: None });
        }
    }

    /// Adds the server of the session with a database, which DNS or another server has named, to the dependencies.
    pub fn use_member(&self, server: &Target) {
        let mut dependencies = self.dependencies.lock();
        let activity = dependencies.as_mut().and_then(|it| it.activity.as_mut());
        if let Some(Activity::Database { member, .. }) = activity {
            *member = Some(server.clone());
        }
    }

    /// Removes the exchange or the tunnel from the dependencies. Returns the person who has cut it.
    pub fn end_exchange(&self) -> Option<Actor> {
        if let Some(dependencies) = &mut *self.dependencies.lock() {
            dependencies.activity = None;
        }
        self.current.end()
    }

    /// The exchange or the tunnel.
    pub fn current(&self) -> &CurrentExchange {
        &self.current
    }

    /// Whether everything that the stream depends on is still valid.
    pub fn is_valid(&self, gateway: &Gateway) -> bool {
        if self.current.is_cut() || self.listener_closing.as_ref().is_some_and(|it| *it.borrow()) {
            return false;
        }
        match &*self.dependencies.lock() {
            None => true,
            Some(Dependencies { agent, activity, .. }) => {
                let view = gateway.directory.view();
                view.is_still_authenticated(agent, gateway.clock.now())
                    && activity.as_ref().is_none_or(|it| it.is_valid(gateway, &view, agent))
            }
        }
    }

    /// Resolves when a dependency is revoked, the exchange is cut, or the stream is evicted.
    pub async fn revoked(&self, gateway: &Gateway) {
        let mut changes = RevocationChanges::of(gateway);
        while self.is_valid(gateway) {
            tokio::select! {
                () = changes.next() => {}
                () = self.current.cut_by_person() => {}
                () = self.evicted() => return,
            }
        }
    }
}

/// Boxed: every idle tunnel would have room for it, and only streams of databases need it.
fn evicted_or_closed<'a>(
    place: &'a UnauthenticatedPlace,
    closing: &watch::Receiver<bool>,
) -> BoxFuture<'a, ()> {
    let mut closing = closing.clone();
    Box::pin(async move {
        tokio::select! {
            () = place.evicted() => {}
            () = closed(&mut closing) => {}
        }
    })
}

/// Resolves when a listener closes; never when it is dropped with the gateway.
pub async fn closed(closing: &mut watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Notifies about changes of the directory and the policies, which can revoke a dependency.
#[derive(Debug)]
pub struct RevocationChanges {
    directory: watch::Receiver<u64>,
    policies: watch::Receiver<Progress>,
    /// Ends [`EXPIRY_SEEN_WITHIN`] after the last time that [`RevocationChanges::next`] has resolved.
    expiry: Pin<Box<Sleep>>,
}

impl RevocationChanges {
    /// Changes from now on.
    pub fn of(gateway: &Gateway) -> Self {
        Self::new(gateway.directory.changes(), gateway.rulebook.policies())
    }

    fn new(directory: watch::Receiver<u64>, policies: watch::Receiver<Progress>) -> Self {
        let expiry = Box::pin(tokio::time::sleep(EXPIRY_SEEN_WITHIN));
        Self { directory, policies, expiry }
    }

    /// Resolves at the next change, and after [`EXPIRY_SEEN_WITHIN`], because an expiry is not a change. May be dropped
    /// and called again. Never resolves again once the gateway ends.
    pub async fn next(&mut self) {
        let Self { directory, policies, expiry } = self;
        let changed = tokio::select! {
            // The end of the gateway comes before an expiry.
            biased;
            changed = directory.changed() => changed,
            changed = policies.changed() => changed,
            () = expiry.as_mut() => Ok(()),
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
        expiry.as_mut().reset(Instant::now() + EXPIRY_SEEN_WITHIN);
    }
}

impl Activity {
    pub fn is_valid(&self, gateway: &Gateway, view: &View, agent: &Agent) -> bool {
        let policy = gateway.rulebook.current();
        match self {
            Self::Tunnel(target) => matches!(policy.route(agent, target), Route::Tunnel(_)),
            Self::Database { permit, member } => {
                let is_permitted =
                    |member: &Target| policy.permit_member(agent, permit, member.clone()).is_ok();
                if !member.as_ref().is_none_or(is_permitted) {
                    return false;
                }
                match policy.permit_database(agent, permit.wanted().connection.as_str()) {
                    // Another host or setting, such as `read_only`, applies to new sessions only.
                    Ok(now) => now.is_same_session(permit),
                    Err(Reason::ConnectionBroken { .. }) => true,
                    Err(Reason::PluginBlocked(blocked)) => {
                        matches!(blocked.problem, SlotProblem::Broken(_))
                    }
                    Err(_) => false,
                }
            }
            Self::Exchange(query, used) => {
                let connection = used.as_ref().map(|used| view.connection(&agent.org, used));
                // A broken connection does not end the exchange: no person has forbidden it, and the agent gets the
                // provider's answer.
                let stands = |state: &ConnectionState| {
                    state.is_usable() || matches!(state, ConnectionState::Broken { .. })
                };
                let permitted = match policy.decide(agent, &query.policy_request()) {
                    // A permit for another connection does not allow this one's credential.
                    Ok(permit) => permit.wanted().map(|it| &it.connection) == used.as_ref(),
                    Err(Reason::ConnectionBroken { .. }) => true,
                    Err(Reason::PluginBlocked(blocked)) => {
                        matches!(blocked.problem, SlotProblem::Broken(_))
                    }
                    Err(_) => false,
                };
                connection
                    .is_none_or(|found| found.is_some_and(|record| stands(&record.facts.state)))
                    && permitted
            }
        }
    }
}

/// The exchange of `record`, which has just begun.
fn begun(agent: Arc<Agent>, subject: ExchangeSubject, record: &Record) -> OpenExchange {
    OpenExchange {
        exchange: record.id().clone(),
        agent,
        since: record.time(),
        subject,
        is_websocket: false,
        connection: None,
        received: record.bytes_in(),
        sent: None,
        cut_by: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_expiry_is_noticed_in_time_although_the_wait_is_dropped_repeatedly() {
        let (_directory, changes) = watch::channel(0);
        let (_policies, progress) = watch::channel(Progress::default());
        let mut changes = RevocationChanges::new(changes, progress);
        let mut begun = Instant::now();
        for _ in 0..2 {
            while tokio::time::timeout(EXPIRY_SEEN_WITHIN / 4, changes.next()).await.is_err() {
                assert!(begun.elapsed() < EXPIRY_SEEN_WITHIN * 9 / 8);
            }
            assert!(begun.elapsed() >= EXPIRY_SEEN_WITHIN);
            begun = Instant::now();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_reported_at_once_and_the_end_of_the_gateway_is_not() {
        let (directory, changes) = watch::channel(0);
        let (_policies, progress) = watch::channel(Progress::default());
        let mut changes = RevocationChanges::new(changes, progress);
        let begun = Instant::now();
        directory.send_replace(1);
        changes.next().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(directory);
        let next = tokio::time::timeout(2 * EXPIRY_SEEN_WITHIN, changes.next());
        assert!(next.await.is_err());
    }
}
