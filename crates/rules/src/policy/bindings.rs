//! [`CompiledBindings`]: what one agent may use. There may be a million bindings, so each part has only the bytes that
//! it needs: indexes are sorted arrays of numbers, and what few bindings have is behind a pointer.
//!
//! [`LazyBindings`] are compiled when the agent makes its first request. Most agents of a large installation make none
//! for a long time, and then cost neither time at the start nor memory.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;

use super::allow::AllowedSets;
use super::index::HostIndex;
use super::rule::{Account, AccountBinding, AgentBindings, LostAccount};
use super::slots::{ActionList, Blocked, Extent, Parts};
use crate::inject::own_authorization::OwnAuthorization;
use crate::inject::placeholder::PlaceholderCore;
use keyward_base::id::{AgentId, ConnectionId, OrgId, RuleId};

/// One agent's bindings.
#[derive(Debug, Default)]
pub(super) struct CompiledBindings {
    pub(super) all: Box<[CompiledBinding]>,
    /// Numbers of bindings, as in the next fields.
    pub(super) by_host: HostIndex<u32>,
    /// Sorted.
    by_core: Box<[(PlaceholderCore, u32)]>,
    by_name: NameIndex,
    /// Plugins that an empty slot blocks, by the hosts of the missing connection.
    pub(super) empty: HostIndex<Arc<Blocked>>,
    /// Connections that were removed, by their hosts.
    pub(super) lost: HostIndex<Arc<Removed>>,
    pub(super) allow: AllowedSets,
}

/// A connection that was removed.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) name: Arc<str>,
    cores: Option<Box<[PlaceholderCore]>>,
}

/// A binding with its rule label.
#[derive(Debug)]
pub(super) struct CompiledBinding {
    pub(super) id: RuleId,
    pub(super) account: Arc<Account>,
    /// The requests that it allows; `None` means all.
    pub(super) parts: Option<Box<Parts>>,
    /// Named actions that it denies.
    pub(super) deny: Option<Box<ActionList>>,
    /// See [`AccountBinding::by_default`].
    pub(super) by_default: bool,
    pub(super) own_authorization: OwnAuthorization,
}

/// Bindings by the name and by the id of their connections.
#[derive(Debug, Default)]
struct NameIndex {
    hasher: RandomState,
    /// The low half of a hash of the text, and a number; sorted.
    places: Box<[(u32, u32)]>,
}

/// Bindings while they are collected: several of one connection become one.
#[derive(Default)]
struct Collected {
    all: Vec<AccountBinding>,
    numbers: HashMap<ConnectionId, usize, RandomState>,
    cores: HashMap<PlaceholderCore, u32>,
}

impl CompiledBindings {
    /// Indexes the bindings of one agent.
    pub(super) fn of(held: AgentBindings) -> Self {
        let mut collected = Collected::default();
        held.bindings.into_iter().for_each(|bound| collected.add(bound));
        let Collected { all, cores, .. } = collected;
        let mut by_core: Box<[_]> = cores.into_iter().collect();
        by_core.sort_unstable();
        let all: Box<[_]> = all.into_iter().map(CompiledBinding::of).collect();
        let mut by_host = HostIndex::default();
        for (number, binding) in (0..).zip(&all) {
            for pattern in binding.account.hosts.iter() {
                by_host.insert(pattern.clone(), number);
            }
        }
        let mut empty = HostIndex::default();
        for slot in held.empty {
            for host in slot.hosts {
                empty.insert(host, Arc::clone(&slot.blocked));
            }
        }
        let mut lost = HostIndex::default();
        // The newest first.
        for LostAccount { name, hosts, cores } in held.lost.into_iter().rev() {
            let removed = Arc::new(Removed { name, cores });
            for host in hosts {
                lost.insert(host, Arc::clone(&removed));
            }
        }
        by_host.shrink_to_fit();
        let by_name = NameIndex::of(&all);
        Self { all, by_host, by_core, by_name, empty, lost, allow: held.allow }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
            && self.empty.is_empty()
            && self.lost.is_empty()
            && self.allow.is_empty()
    }

    /// The binding of this number, from [`CompiledBindings::by_host`].
    pub(super) fn numbered(&self, number: u32) -> &CompiledBinding {
        &self.all[number as usize]
    }

    pub(super) fn by_core(&self, core: &PlaceholderCore) -> Option<&CompiledBinding> {
        let at = self.by_core.binary_search_by(|(own, _)| own.cmp(core)).ok()?;
        Some(self.numbered(self.by_core[at].1))
    }

    /// The binding of the connection with this name or id. A name that equals another connection's id does not find it.
    pub(super) fn by_name(&self, name: &str) -> Option<&CompiledBinding> {
        let found = || self.by_name.like(name).map(|number| self.numbered(number));
        let by_id = found().find(|binding| binding.account.id.as_str() == name);
        by_id.or_else(|| found().find(|binding| *binding.account.name == *name))
    }
}

impl Removed {
    /// Whether the placeholder was its own, or may have been.
    pub(super) fn may_have(&self, core: &PlaceholderCore) -> bool {
        self.cores.as_ref().is_none_or(|own| own.contains(core))
    }
}

impl CompiledBinding {
    fn of(bound: AccountBinding) -> Self {
        let AccountBinding { account, extent, deny, by_default, own_authorization, .. } = bound;
        let parts = match extent {
            Extent::Whole => None,
            Extent::Parts(parts) => Some(Box::new(parts)),
        };
        let id = RuleId::new(format!("binding:{}", account.id));
        Self { id, account, parts, deny: deny.map(Box::new), by_default, own_authorization }
    }
}

impl NameIndex {
    fn of(all: &[CompiledBinding]) -> Self {
        let hasher = RandomState::default();
        let each = |(number, binding): (u32, &CompiledBinding)| {
            let Account { id, name, .. } = &*binding.account;
            [id.as_str(), name].map(|text| (low_hash(&hasher, text), number))
        };
        let mut places: Box<[_]> = (0..).zip(all).flat_map(each).collect();
        places.sort_unstable();
        Self { hasher, places }
    }

    /// The numbers of bindings whose name or id may be this text, ascending.
    fn like(&self, text: &str) -> impl Iterator<Item = u32> {
        keyward_base::shared_map::increment();
        let wanted = low_hash(&self.hasher, text);
        let from = self.places.partition_point(|(hash, _)| *hash < wanted);
        let same = self.places[from..].iter().take_while(move |(hash, _)| *hash == wanted);
        same.map(|(_, number)| *number)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half of a hash is enough")]
fn low_hash(hasher: &RandomState, text: &str) -> u32 {
    hasher.hash_one(text) as u32
}

impl Collected {
    fn add(&mut self, mut bound: AccountBinding) {
        let cores = std::mem::take(&mut bound.placeholders);
        let at = *self.numbers.entry(bound.account.id.clone()).or_insert(self.all.len());
        let number = u32::try_from(at).expect("an agent's row cannot have so many bindings");
        self.cores.extend(cores.into_iter().map(|core| (core, number)));
        let Some(known) = self.all.get_mut(at) else { return self.all.push(bound) };
        known.extent.widen(bound.extent);
        if let Some(more) = bound.deny {
            known.deny.get_or_insert_default().widen(more);
        }
        known.by_default |= bound.by_default;
        known.own_authorization = known.own_authorization.max(bound.own_authorization);
    }
}

/// What agents may use, as of one version of their records.
pub trait BindingSource: fmt::Debug + Send + Sync {
    /// The bindings, blocked slots and sets of hosts of an agent; empty if there is no such agent. It must be fast and must
    /// not wait: the first request of the agent calls it.
    fn bindings(&self, org: &OrgId, agent: &AgentId) -> AgentBindings;
}

/// A source of agents without bindings.
#[derive(Debug)]
pub(super) struct NoBindings;

/// The bindings of one agent, which versions of a policy share as long as the agent's inputs are the same.
#[derive(Debug, Default)]
pub(super) struct LazyBindings {
    compiled: OnceLock<Box<CompiledBindings>>,
    /// Whether a request used them since the last [`LazyBindings::is_idle`].
    used: AtomicBool,
}

impl BindingSource for NoBindings {
    fn bindings(&self, _org: &OrgId, _agent: &AgentId) -> AgentBindings {
        AgentBindings::default()
    }
}

impl LazyBindings {
    /// Bindings that are compiled already.
    pub(super) fn of(bindings: AgentBindings) -> Self {
        let compiled = OnceLock::from(Box::new(CompiledBindings::of(bindings)));
        Self { compiled, used: AtomicBool::new(true) }
    }

    /// The compiled bindings; `None` if the agent may use nothing.
    pub(super) fn get(&self, source: impl FnOnce() -> AgentBindings) -> Option<&CompiledBindings> {
        // A read is shared by all cores, a write is not.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let compiled = self.compiled.get_or_init(|| Box::new(CompiledBindings::of(source())));
        Some(&**compiled).filter(|compiled| !compiled.is_empty())
    }

    /// Whether they are compiled, and no request used them since the last call.
    pub(super) fn is_idle(&self) -> bool {
        self.compiled.get().is_some() && !self.used.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::super::tests::samples::{Sample, agent_of};
    use super::super::{Policy, PolicyInput};
    use super::*;
    use keyward_base::codes::Code;

    /// Gives every agent one connection, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting {
        host: &'static str,
        asked: AtomicUsize,
    }

    impl Counting {
        fn new(host: &'static str) -> Arc<Self> {
            Arc::new(Self { host, asked: AtomicUsize::new(0) })
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    impl BindingSource for Counting {
        fn bindings(&self, org: &OrgId, _agent: &AgentId) -> AgentBindings {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let sample = Sample { agent: agent_of(org.clone(), "any") };
            let bindings = vec![sample.bound(&Sample::account("work", &[self.host]))];
            AgentBindings { bindings, ..AgentBindings::default() }
        }
    }

    fn policy_of(source: &Arc<Counting>, agents: &[&Sample]) -> Policy {
        let mut policy = Policy::compile(PolicyInput::default()).expect("a policy");
        policy.set_source(source.clone());
        agents.iter().for_each(|it| policy.register_agent(&it.agent.org, &it.agent.id));
        policy
    }

    fn code(policy: &Policy, sample: &Sample, host: &str) -> Option<Code> {
        sample.explain(policy, &format!("GET https://{host}/")).code
    }

    #[test]
    fn bindings_are_compiled_at_the_first_request_and_once_for_all_versions() {
        let (one, other, stranger) = (Sample::new(), Sample::new(), Sample::new());
        let source = Counting::new("api.a.test");
        let policy = policy_of(&source, &[&one, &other]);
        assert_eq!(source.asked(), 0);
        assert_eq!(code(&policy, &stranger, "api.a.test"), Some(Code::DefaultDeny));
        assert_eq!(source.asked(), 0, "an agent that is not expected may use nothing");
        assert_eq!(code(&policy, &one, "api.a.test"), None);
        let later = policy.clone();
        assert_eq!((code(&later, &one, "api.a.test"), source.asked()), (None, 1));
        assert_eq!((code(&later, &other, "api.a.test"), source.asked()), (None, 2));
        assert_eq!((code(&policy, &other, "api.a.test"), source.asked()), (None, 2));
    }

    #[test]
    fn only_an_agent_registered_again_gets_the_bindings_of_a_later_source() {
        let (same, changed) = (Sample::new(), Sample::new());
        let (old, new) = (Counting::new("api.a.test"), Counting::new("api.b.test"));
        let before = policy_of(&old, &[&same, &changed]);
        for agent in [&same, &changed] {
            assert_eq!(code(&before, agent, "api.a.test"), None);
        }
        let mut now = before.clone();
        now.set_source(new.clone());
        now.register_agent(&changed.agent.org, &changed.agent.id);
        assert_eq!(code(&now, &same, "api.a.test"), None);
        assert_eq!(code(&now, &changed, "api.b.test"), None);
        assert_eq!(code(&now, &changed, "api.a.test"), Some(Code::DefaultDeny));
        assert_eq!(code(&before, &changed, "api.a.test"), None, "the version before stays");
        assert_eq!((old.asked(), new.asked()), (2, 1));
    }

    #[test]
    fn bindings_unused_between_two_sweeps_are_dropped_and_compiled_again() {
        let (busy, idle, never) = (Sample::new(), Sample::new(), Sample::new());
        let source = Counting::new("api.a.test");
        let mut policy = policy_of(&source, &[&busy, &idle, &never]);
        let ask = |policy: &Policy, it: &Sample| assert_eq!(code(policy, it, "api.a.test"), None);
        ask(&policy, &busy);
        ask(&policy, &idle);
        assert_eq!(policy.drop_idle(), 0, "both were used");
        ask(&policy, &busy);
        assert_eq!(policy.drop_idle(), 1);
        ask(&policy, &busy);
        assert_eq!(source.asked(), 2);
        ask(&policy, &idle);
        assert_eq!(source.asked(), 3);
    }
}
