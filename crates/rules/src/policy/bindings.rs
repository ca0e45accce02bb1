//! [`CompiledBindings`]: what one agent may use. There may be a million bindings, so each part has only the bytes that it
//! needs: indexes are sorted arrays of numbers, and what few bindings have is behind a pointer.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::allow::AllowedSets;
use super::index::HostIndex;
use super::rule::{Account, AccountBinding, AgentBindings, LostAccount};
use super::slots::{ActionList, Blocked, Extent, Parts};
use crate::inject::own_authorization::OwnAuthorization;
use crate::inject::placeholder::PlaceholderCore;
use keyward_base::id::{ConnectionId, RuleId};

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
