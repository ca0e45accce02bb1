//! [`Rulebook`]: the policy in force, compiled from the configuration's rules, the directory's bindings and the
//! catalogue's hosts. When the directory changes, only the affected parts are recompiled.
//!
//! `resolve.rs` turns names into ids, `facts.rs` indexes the directory, `compiled.rs` applies changes; all are
//! pure.

mod account;
mod actions;
mod compiled;
mod error;
mod facts;
mod names;
mod placed_rule;
mod plugins;
mod resolve;
mod session_index;
mod sessions;
mod source;
#[cfg(test)]
mod tests;
mod warnings;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, watch};

use crate::directory::{ConnectionRecord, Directory, DirectoryError};
use crate::store::Lease;
use keyward_base::id::{OrgId, RuleId};
use keyward_model::{Record, Resource, Rule, RuleSpec};
use keyward_rules::policy::{
    Account, DatabasePermit, DefaultAction, Permit, Policy, PolicyRequest, Reason,
};

use compiled::CompiledPolicy;
use names::Names;
use placed_rule::RuleText;
use resolve::resolve;
use warnings::WarningFinder;

pub use error::RulebookError;
pub use placed_rule::{ConfigMention, PlacedRule, PolicyInputs};
pub use warnings::RuleWarning;

/// The interval at which compiled bindings of idle agents are dropped. They are kept for one to two intervals after the
/// last request.
const IDLE_SWEEP: Duration = Duration::from_secs(600);

/// How long a change of stored rules excludes other replicas. A replica that crashes during one holds the others up for so
/// long; a change that takes longer may contradict one of theirs.
const RULE_CHANGE_MAX: Duration = Duration::from_secs(20);

/// The directory changes that were compiled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// The last change tried; after an error the old policy stays.
    tried: u64,
}

/// The policy in force, with its inputs.
#[derive(Debug)]
pub struct Rulebook {
    sources: ArcSwap<PolicyInputs>,
    directory: Arc<Directory>,
    policy: ArcSwap<Policy>,
    progress: watch::Sender<Progress>,
    /// Locked while compiling, so that an older view never replaces a newer one. The inputs of the last policy;
    /// `None` if it could not be compiled.
    compiled: Mutex<Option<CompiledPolicy>>,
    /// Held by a change of the configuration, which includes many changes of the directory.
    changing: AsyncMutex<()>,
    /// Incremented when a change of the configuration begins and when it ends: odd while one is in progress.
    changes: watch::Sender<u64>,
}

/// A change of the configuration in progress. Until [`ConfigChange::apply`] the policy stays the same, even if the
/// directory changes, so that no request is permitted that neither the old nor the new configuration permits.
/// When dropped, the old sources stay.
#[derive(Debug)]
pub struct ConfigChange<'a> {
    rulebook: &'a Rulebook,
    _turn: AsyncMutexGuard<'a, ()>,
}

/// A change of an org's stored rules in progress. Changes of rules, at all replicas, and of the configuration exclude
/// each other, so that the checked rules are those that are written.
#[derive(Debug)]
pub struct RuleChange<'a> {
    rulebook: &'a Rulebook,
    _turn: AsyncMutexGuard<'a, ()>,
    _lease: Option<Lease>,
}

impl Rulebook {
    /// Compiles the policy. It spawns nothing: the caller must run [`follow`](Self::follow).
    ///
    /// # Errors
    /// All errors in the rules of the configuration, including names that do not exist and stored rules that they
    /// contradict.
    pub fn new(
        sources: PolicyInputs,
        directory: Arc<Directory>,
    ) -> Result<Self, Vec<RulebookError>> {
        let seen = *directory.changes().borrow();
        let sources = Arc::new(sources);
        let compiled = CompiledPolicy::strictly(&sources, directory.view())?;
        Ok(Self::of(compiled, sources, directory, seen))
    }

    /// Compiles the policy of a process that is not a gateway, whose configuration may never have been applied: a rule
    /// without its connection refuses its requests, and one without its agents has none.
    ///
    /// # Errors
    /// As [`Rulebook::new`], except missing names.
    pub fn at_rest(
        sources: PolicyInputs,
        directory: Arc<Directory>,
    ) -> Result<Self, Vec<RulebookError>> {
        let seen = *directory.changes().borrow();
        let sources = Arc::new(sources.at_rest());
        let view = directory.view();
        sources.check_file(Names { catalogue: &sources.catalogue, view: &view })?;
        let compiled = CompiledPolicy::leniently(&sources, view)?;
        Ok(Self::of(compiled, sources, directory, seen))
    }

    /// `seen`: the change of the directory that `compiled` reflects.
    fn of(
        compiled: CompiledPolicy,
        sources: Arc<PolicyInputs>,
        directory: Arc<Directory>,
        seen: u64,
    ) -> Self {
        Self {
            sources: ArcSwap::new(sources),
            directory,
            policy: ArcSwap::new(compiled.policy()),
            progress: watch::Sender::new(Progress { tried: seen }),
            compiled: Mutex::new(Some(compiled)),
            changing: AsyncMutex::new(()),
            changes: watch::Sender::new(0),
        }
    }

    /// Begins a change of the configuration after earlier ones have ended.
    pub async fn change(&self) -> ConfigChange<'_> {
        let turn = self.changing.lock().await;
        self.changes.send_modify(|count| *count += 1);
        ConfigChange { rulebook: self, _turn: turn }
    }

    /// Begins a change of an org's stored rules after earlier changes, at all replicas, have ended and are in the view. It
    /// must be dropped before [`rebuild`](Self::rebuild).
    ///
    /// # Errors
    /// When the store fails, or other replicas change the rules for too long.
    pub async fn change_rules(&self, org: &OrgId) -> Result<RuleChange<'_>, DirectoryError> {
        let name = format!("rules/{org}");
        // First the other replicas: to wait for them with the turn would hold up the policy of all orgs.
        let lease = self.directory.wait_to_exclude_replicas(&name, RULE_CHANGE_MAX).await?;
        self.directory.catch_up().await?;
        Ok(RuleChange { rulebook: self, _turn: self.changing.lock().await, _lease: lease })
    }

    /// The label of an earlier rule that decides all requests of the rule `label`, so that this rule has no effect.
    pub fn shadow(&self, org: &OrgId, label: &str) -> Option<String> {
        self.current().shadow(org, &RuleId::new(label)).map(ToString::to_string)
    }

    /// What each of these rules most likely does not mean.
    pub fn warnings(&self, org: &OrgId, specs: &[&RuleSpec]) -> Vec<Vec<RuleWarning>> {
        let (sources, view) = (self.sources.load(), self.directory.view());
        let mut finder = WarningFinder::new(Names { catalogue: &sources.catalogue, view: &view });
        specs.iter().map(|spec| finder.find(org, spec)).collect()
    }

    /// The current number of configuration changes, for [`Rulebook::config_changed_since`].
    pub fn config_version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Whether the configuration has changed since `version`; then a refused request should be decided again.
    /// Waits up to `within` for a change in progress.
    pub async fn config_changed_since(&self, version: u64, within: Duration) -> bool {
        if version.is_multiple_of(2) && *self.changes.borrow() == version {
            return false;
        }
        let mut changes = self.changes.subscribe();
        let ended = changes.wait_for(|count| *count > version && count.is_multiple_of(2));
        matches!(tokio::time::timeout(within, ended).await, Ok(Ok(_)))
    }

    /// Notifies of every new policy.
    pub fn policies(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The policy in force.
    pub fn current(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// The rules of the configuration, in order.
    pub fn rules(&self) -> Arc<[PlacedRule]> {
        self.sources.load().rules.clone()
    }

    /// Where the configuration names a record. Waits for a change of the configuration in progress.
    pub async fn mentions<R: Resource>(&self, record: &Record<R>) -> Vec<ConfigMention> {
        let _changing = self.changing.lock().await;
        let sources = self.sources.load();
        sources.mentions.iter().filter(|mention| mention.is_of(record)).cloned().collect()
    }

    /// The action for hosts that no rule, binding or provider names.
    pub fn default_action(&self) -> DefaultAction {
        self.sources.load().default
    }

    /// Permits a connection's test request.
    ///
    /// # Errors
    /// As [`Policy::permit_test`].
    pub fn permit_test(
        &self,
        connection: &ConnectionRecord,
        asked: &PolicyRequest<'_>,
    ) -> Result<Permit, Reason> {
        let account = self.account(connection);
        self.current().permit_test(&connection.org, &account, asked)
    }

    /// Permits the session by which a person tests a connection to a database, in any state.
    ///
    /// # Errors
    /// When the connection is not a database's.
    pub fn permit_database_test(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<DatabasePermit, Reason> {
        Policy::permit_database_test(&self.account(connection))
    }

    /// Permits a call that a person makes with a connection in its present state.
    ///
    /// # Errors
    /// As [`Policy::permit_call`]; also when the connection was removed.
    pub fn permit_call(
        &self,
        connection: &ConnectionRecord,
        asked: &PolicyRequest<'_>,
    ) -> Result<Permit, Reason> {
        let gone = || Reason::ConnectionMissing { name: connection.name.as_str().into() };
        let view = self.directory.view();
        let now = view.connection(&connection.org, &connection.id).ok_or_else(gone)?;
        let account = self.account(now);
        self.current().permit_call(&connection.org, &account, asked)
    }

    /// The policy's account of a connection: hosts, paths and state. If its provider is unknown, it is broken
    /// and has no hosts.
    pub fn account(&self, connection: &ConnectionRecord) -> Arc<Account> {
        let (view, sources) = (self.directory.view(), self.sources.load());
        Names { catalogue: &sources.catalogue, view: &view }.account(connection)
    }

    /// Applies the directory's current view, after any change of the configuration in progress. The cost depends on the
    /// changes. A rule whose agent or connection was removed refuses its requests and logs a warning, so that the
    /// removal takes effect; so does a tunnel that contradicts another rule.
    ///
    /// # Errors
    /// When a rule is not valid by itself; the old policy stays.
    pub async fn rebuild(&self) -> Result<(), Vec<RulebookError>> {
        let _changing = self.changing.lock().await;
        self.compile()
    }

    fn compile(&self) -> Result<(), Vec<RulebookError>> {
        let mut compiled = self.compiled.lock();
        // Counted before the view is read: the policy may be newer than reported, never older.
        let seen = *self.directory.changes().borrow();
        let (sources, view) = (self.sources.load_full(), self.directory.view());
        let result = match compiled.take() {
            Some(before) => before.follow(&sources, view),
            None => CompiledPolicy::leniently(&sources, view),
        };
        let result = result.map(|now| self.policy.store(compiled.insert(now).policy()));
        self.progress.send_replace(Progress { tried: seen });
        result
    }

    /// Rebuilds after every change of the directory, and drops compiled bindings of idle agents. Runs until it is dropped,
    /// or the directory ends.
    pub async fn follow(self: Arc<Self>) {
        let mut changes = self.directory.changes();
        let mut sweep = tokio::time::interval(IDLE_SWEEP);
        loop {
            let count = *changes.borrow_and_update();
            // The author of the change may have rebuilt already.
            if count > self.progress.borrow().tried {
                self.rebuild_or_warn().await;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                _ = sweep.tick() => drop(self.drop_idle()),
            }
        }
    }

    /// Drops the compiled bindings of agents that made no request since the last call, and returns the number of these
    /// agents. Their next request compiles the bindings again.
    pub fn drop_idle(&self) -> usize {
        let mut compiled = self.compiled.lock();
        let Some(compiled) = compiled.as_mut() else { return 0 };
        let dropped = compiled.drop_idle();
        if dropped > 0 {
            self.policy.store(compiled.policy());
        }
        dropped
    }

    async fn rebuild_or_warn(&self) {
        for error in self.rebuild().await.err().into_iter().flatten() {
            tracing::warn!(%error, "the rules do not compile any more; the old policy stays");
        }
    }
}

impl ConfigChange<'_> {
    /// Applies `sources` and the present directory together. If others have changed the directory meanwhile,
    /// rules may name resources that no longer exist, or contradict new ones; those rules refuse.
    ///
    /// # Errors
    /// When a rule is not valid by itself; the old ones stay.
    pub fn apply(self, sources: PolicyInputs) -> Result<(), Vec<RulebookError>> {
        let before = self.rulebook.sources.swap(Arc::new(sources));
        let result = self.rulebook.compile();
        if result.is_err() {
            self.rulebook.sources.store(before);
        }
        result
    }
}

impl RuleChange<'_> {
    /// Checks the rules of the configuration and these stored ones of an org, in this order. `changed`: the rule whose
    /// names are checked as well.
    ///
    /// # Errors
    /// The invalid names in `changed`, and all contradictions.
    pub fn check(
        &self,
        org: &OrgId,
        stored: &[Arc<Record<Rule>>],
        changed: Option<&Record<Rule>>,
    ) -> Result<(), Vec<RulebookError>> {
        let sources = self.rulebook.sources.load_full();
        let view = self.rulebook.directory.view();
        let names = Names { catalogue: &sources.catalogue, view: &view };
        let mut problems = resolve(changed.map(RuleText::stored), names).problems;
        let of_file = sources.rules.iter().filter(|rule| rule.org == *org);
        let stored = stored.iter().map(|rule| RuleText::stored(rule));
        let all = resolve(of_file.map(RuleText::from).chain(stored), names);
        problems.extend(sources.contradictions(&all.for_every_agent()));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl Drop for ConfigChange<'_> {
    fn drop(&mut self) {
        // The follower applies later changes.
        self.rulebook.changes.send_modify(|count| *count += 1);
    }
}
