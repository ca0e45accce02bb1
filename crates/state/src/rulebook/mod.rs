//! The policy in force: configuration's rules, the directory's bindings and the catalogue's hosts,
//! compiled together; when the directory changes, what of it follows from that is compiled anew.
//!
//! `resolve.rs` turns names into ids, `facts.rs` says what the names can mean, `made.rs` what a change
//! leads to; all are pure.

mod error;
mod facts;
mod made;
mod plugins;
mod resolve;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, watch};

use crate::directory::{AgentRecord, ConnectionRecord, Directory, View};
use keyward_base::agent::Agent;
use keyward_base::id::OrgId;
use keyward_rules::policy::{Account, Asked, DefaultAction, Explanation, Permit, Policy, Reason};
use keyward_rules::provider::Catalogue;

use facts::{Facts, app_of, owned};
use made::Made;

pub use error::RulebookError;

/// A rule as configuration writes it: names, not ids. `config/` makes these.
#[derive(Clone, Debug)]
pub struct RuleText {
    /// What audit and refusals call it; its place, when it has no name.
    pub name: Option<String>,
    /// Its org.
    pub org: OrgId,
    /// Names or ids of agents; `None`: all of the org.
    pub agents: Option<Vec<String>>,
    /// Host patterns; empty: all.
    pub hosts: Vec<String>,
    /// Methods; empty: all.
    pub methods: Vec<String>,
    /// Path patterns; empty: all.
    pub paths: Vec<String>,
    /// `inject`, `deny`, `pass` or `tunnel`; `inject` is implied by `use`.
    pub action: Option<String>,
    /// `use`: a connection's name or id.
    pub use_connection: Option<String>,
    /// Injection over cleartext to addresses on the private list.
    pub allow_plaintext: bool,
    /// Where it stands, for errors: `rules[3]`, line.
    pub place: String,
}

/// What policies are made from besides the directory. Immutable; replaced whole.
#[derive(Clone, Debug)]
pub struct Sources {
    catalogue: Arc<Catalogue>,
    default: DefaultAction,
    rules: Arc<[RuleText]>,
    hostless_rules_max: usize,
}

/// Up to which change of the directory a policy was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Tried; on an error the old policy stayed.
    tried: u64,
    /// In force.
    in_force: u64,
}

/// The policy in force and what it is made from.
#[derive(Debug)]
pub struct Rulebook {
    sources: ArcSwap<Sources>,
    directory: Arc<Directory>,
    policy: ArcSwap<Policy>,
    progress: watch::Sender<Progress>,
    /// One at a time, so that a policy of an older view never replaces that of a newer one. What the
    /// last one was made from; nothing when it could not be made.
    made: Mutex<Option<Made>>,
    /// Whoever brings many changes into force at once has the turn to change.
    changing: AsyncMutex<()>,
    /// How many changes of the configuration began and ended: odd while one is under way.
    changes: watch::Sender<u64>,
}

/// A change of the configuration under way: the policy stays as it is until [`Change::apply`],
/// whatever happens to the directory meanwhile, so that nothing is ever permitted that neither the
/// old nor the new configuration permits. Dropped, the old sources stay.
#[derive(Debug)]
pub struct Change<'a> {
    rulebook: &'a Rulebook,
    _turn: AsyncMutexGuard<'a, ()>,
}

impl Rulebook {
    /// Compiles at once. Spawns nothing: [`follow`](Self::follow) is the caller's to run.
    ///
    /// # Errors
    /// All that is wrong with the rules, names that nothing has included.
    pub fn new(sources: Sources, directory: Arc<Directory>) -> Result<Self, Vec<RulebookError>> {
        let seen = *directory.changes().borrow();
        let sources = Arc::new(sources);
        let made = Made::strictly(&sources, directory.view())?;
        Ok(Self {
            sources: ArcSwap::new(sources),
            directory,
            policy: ArcSwap::new(made.policy()),
            progress: watch::Sender::new(Progress { tried: seen, in_force: seen }),
            made: Mutex::new(Some(made)),
            changing: AsyncMutex::new(()),
            changes: watch::Sender::new(0),
        })
    }

    /// Begins a change of the configuration, when those before it have ended.
    pub async fn change(&self) -> Change<'_> {
        let turn = self.changing.lock().await;
        self.changes.send_modify(|count| *count += 1);
        Change { rulebook: self, _turn: turn }
    }

    /// Where changes of the configuration are now, for [`Rulebook::settled`].
    pub fn moment(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Whether the configuration has changed since `moment`: what was refused then is worth
    /// deciding anew. Waits, no longer than `within`, for a change that is under way.
    pub async fn settled(&self, moment: u64, within: Duration) -> bool {
        if moment.is_multiple_of(2) && *self.changes.borrow() == moment {
            return false;
        }
        let mut changes = self.changes.subscribe();
        let ended = changes.wait_for(|count| *count > moment && count.is_multiple_of(2));
        matches!(tokio::time::timeout(within, ended).await, Ok(Ok(_)))
    }

    /// Tells of every policy that comes into force.
    pub fn policies(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The policy now.
    pub fn current(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// The rules of the configuration, in order.
    pub fn rules(&self) -> Arc<[RuleText]> {
        self.sources.load().rules.clone()
    }

    /// What hosts get that nothing names.
    pub fn default_action(&self) -> DefaultAction {
        self.sources.load().default
    }

    /// What would become of a request now.
    pub fn explain(&self, agent: &Agent, asked: &Asked<'_>) -> Explanation {
        self.current().explain(agent, asked)
    }

    /// Permits the test request of a connection.
    ///
    /// # Errors
    /// As [`Policy::permit_test`].
    pub fn permit_test(
        &self,
        connection: &ConnectionRecord,
        asked: &Asked<'_>,
    ) -> Result<Permit, Reason> {
        let account = self.account(connection);
        self.current().permit_test(&connection.org, &account, asked)
    }

    /// Permits a call that a person makes with a connection, as it is by now.
    ///
    /// # Errors
    /// As [`Policy::permit_call`], and when the connection is gone.
    pub fn permit_call(
        &self,
        connection: &ConnectionRecord,
        asked: &Asked<'_>,
    ) -> Result<Permit, Reason> {
        let gone = || Reason::ConnectionMissing { name: connection.name.as_str().into() };
        let view = self.directory.view();
        let now = view.connection(&connection.org, &connection.id).ok_or_else(gone)?;
        let account = self.account(now);
        self.current().permit_call(&connection.org, &account, asked)
    }

    /// What policy knows of a connection: its hosts, paths and state. It is broken and has no hosts when
    /// its provider is not known any more.
    pub fn account(&self, connection: &ConnectionRecord) -> Arc<Account> {
        let (catalogue, view) = (self.sources.load().catalogue.clone(), self.directory.view());
        owned(connection, app_of(&view, connection), &catalogue).account
    }

    /// Brings the directory's present view into force, after a change of the configuration that is
    /// under way. Costs what has changed in it. A rule whose agent or connection is gone since refuses what it meant, with a
    /// warning: else the removal itself would not take effect.
    ///
    /// # Errors
    /// When the rules no longer compile; the old policy stays.
    pub async fn rebuild(&self) -> Result<(), Vec<RulebookError>> {
        let _changing = self.changing.lock().await;
        self.compile()
    }

    fn compile(&self) -> Result<(), Vec<RulebookError>> {
        let mut made = self.made.lock();
        // Counted before the view is read: the policy may be newer than it claims, never older.
        let seen = *self.directory.changes().borrow();
        let (sources, view) = (self.sources.load_full(), self.directory.view());
        let result = match made.take() {
            Some(before) => before.follow(&sources, view),
            None => Made::leniently(&sources, view),
        };
        let result = result.map(|now| self.policy.store(made.insert(now).policy()));
        let in_force = match &result {
            Ok(()) => seen,
            Err(_) => self.progress.borrow().in_force,
        };
        self.progress.send_replace(Progress { tried: seen, in_force });
        result
    }

    /// Rebuilds at every change of the directory. Runs until it is dropped, or the directory ends.
    pub async fn follow(self: Arc<Self>) {
        let mut changes = self.directory.changes();
        loop {
            let count = *changes.borrow_and_update();
            // Whoever made the change may have rebuilt already.
            if count > self.progress.borrow().tried {
                self.rebuild_or_warn().await;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the policy reflects the directory's change number `change`, so that an answer
    /// about a change is given when it is in force. Somebody has to run [`follow`](Self::follow).
    ///
    /// # Errors
    /// When the rules did not compile with it, and an older policy is in force.
    pub async fn reflects(&self, change: u64) -> Result<(), RulebookError> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.tried >= change).await;
        match reached {
            Ok(progress) if progress.in_force >= change => Ok(()),
            // The sender lives in `self`, so an error cannot come; it would mean the same.
            Ok(_) | Err(_) => Err(RulebookError::NotInForce { change }),
        }
    }

    async fn rebuild_or_warn(&self) {
        for error in self.rebuild().await.err().into_iter().flatten() {
            tracing::warn!(%error, "the rules do not compile any more; the old policy stays");
        }
    }
}

impl Change<'_> {
    /// Brings `sources` and the directory as it is now into force, together. A directory that was
    /// changed by others meanwhile may leave rules without what they name: those refuse.
    ///
    /// # Errors
    /// When the rules do not compile; the old ones stay.
    pub fn apply(self, sources: Sources) -> Result<(), Vec<RulebookError>> {
        let before = self.rulebook.sources.swap(Arc::new(sources));
        let result = self.rulebook.compile();
        if result.is_err() {
            self.rulebook.sources.store(before);
        }
        result
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        // The follower finds what was not brought into force.
        self.rulebook.changes.send_modify(|count| *count += 1);
    }
}

impl Sources {
    /// The rules of a configuration. `catalogue`: the providers that its connections may have.
    pub fn new(
        catalogue: Arc<Catalogue>,
        default: DefaultAction,
        rules: Vec<RuleText>,
        hostless_rules_max: usize,
    ) -> Self {
        Self { catalogue, default, rules: rules.into(), hostless_rules_max }
    }

    /// Whether the rules would compile, were these the agents and connections.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn check(
        &self,
        agents: impl Iterator<Item = Arc<AgentRecord>>,
        connections: impl Iterator<Item = Arc<ConnectionRecord>>,
    ) -> Result<(), Vec<RulebookError>> {
        // How requests are sent decides nothing.
        let facts = Facts::new(self.catalogue.clone(), Arc::new(View::of(agents, connections)));
        self.judged(&facts).map(drop)
    }
}
