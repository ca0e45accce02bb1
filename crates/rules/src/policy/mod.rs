//! Pure decisions: which route a target takes, and what a request is permitted.
//!
//! No async, no clock, no I/O; `explain` calls the same two functions as the data path. Who exists
//! and what rules are called is resolved by `rulebook/`.

mod base_url;
mod call;
mod compile;
mod counted;
mod decide;
mod denial;
mod edit;
pub mod explain;
mod index;
mod overrides;
pub mod permit;
mod readings;
mod reason;
mod route;
pub mod rule;
mod slots;
mod test_request;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::Method;

use crate::inject::credential::Wanted;
use crate::inject::placeholder::Core;
use keyward_base::host::Target;
use keyward_base::id::{AgentId, ConnectionId, OrgId, RuleId};
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};
use keyward_base::shared_map::SharedMap;

use counted::CountedIndex;
use index::HostIndex;

pub use explain::Explanation;
pub use overrides::{NoMethod, overrides};
pub use permit::{Action, InterceptPermit, Permit, Route, TunnelPermit};
pub use reason::Reason;
pub use rule::{
    Account, AccountState, Bound, CompileError, DefaultAction, Endpoint, Held, Rule, RuleAction,
    Spec,
};
pub use slots::{Blocked, Empty, Extent, Lack, Slot};

/// Compiled rules: host → rules by hash. The cost of a decision grows with the rules and the
/// agent's bindings for that host, and with nothing else. A copy shares everything, and what is then
/// changed in it costs that part alone: one agent's bindings, one org's rules.
#[derive(Clone, Debug)]
pub struct Policy {
    default: DefaultAction,
    /// What decisions by `default` are called.
    default_rule: RuleId,
    hostless_rules_max: usize,
    orgs: SharedMap<OrgId, Arc<OrgPolicy>>,
    /// Orgs without a rule or binding.
    nothing: Arc<OrgPolicy>,
    everywhere: Arc<Everywhere>,
}

/// What holds in every org: the catalogue's hosts.
#[derive(Debug, Default)]
struct Everywhere {
    known: HostIndex<()>,
    /// Those that name a port, wildcards too.
    with_port: HostIndex<()>,
    carved: HostIndex<Carved>,
}

/// What a decision needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where it goes.
    pub target: &'a Target,
    /// Its method.
    pub method: &'a Method,
    /// Methods that its fields or query ask the server to take instead: all must be permitted alike.
    pub overrides: &'a [Method],
    /// Its path as the agent wrote it, decoded. Where a credential will stand in the path, the one that
    /// is sent must be permitted too.
    pub path: &'a DecodedPath,
    /// Cores of placeholders found in fields and URL (bodies never select).
    pub placeholders: &'a [Core],
    /// The `Keyward-Connection` field: a connection's name or id.
    pub named: Option<&'a str>,
}

/// Rules and bindings of one org.
#[derive(Clone, Debug, Default)]
struct OrgPolicy {
    rules: Arc<OrgRules>,
    agents: SharedMap<AgentId, Arc<Bindings>>,
    /// Literal hosts of bindings.
    known: CountedIndex<()>,
    /// OAuth endpoints of its own apps and connections.
    carved: CountedIndex<Carved>,
}

/// Rules of one org.
#[derive(Debug, Default)]
struct OrgRules {
    /// In order.
    all: Vec<Compiled>,
    /// Places in `all`.
    by_host: HostIndex<usize>,
    /// Places in `all` of those for every host, ascending.
    hostless: Vec<usize>,
    /// Places in `all` of those that use a connection for agents that they name, by its name and
    /// by its id.
    grants: HashMap<Arc<str>, Vec<usize>>,
    /// Those that use a connection: its binding alone injects nothing.
    uses: HashMap<ConnectionId, Uses, RandomState>,
    /// Their literal hosts.
    known: HostIndex<()>,
}

/// The first rules that use one connection: places in an org's rules.
#[derive(Debug, Default)]
struct Uses {
    /// Without agents.
    by_everybody: Option<usize>,
    by_agent: HashMap<AgentId, usize, RandomState>,
}

/// A rule, ready to be asked.
#[derive(Debug)]
struct Compiled {
    rule: Rule,
    agents: Option<HashSet<AgentId>>,
    /// What its connection is asked for, when it names one.
    wanted: Option<Wanted>,
}

/// One agent's bindings.
#[derive(Debug, Default)]
struct Bindings {
    all: Vec<Binding>,
    /// Places in `all`, here and below.
    by_host: HostIndex<usize>,
    by_core: HashMap<Core, usize>,
    /// By name and by id.
    by_name: HashMap<Arc<str>, usize>,
    /// Plugins that are blocked because a slot is empty, by the hosts of what is missing.
    empty: HostIndex<Arc<Blocked>>,
}

/// A binding, ready to be asked.
#[derive(Debug)]
struct Binding {
    id: RuleId,
    account: Arc<Account>,
    wanted: Wanted,
    /// For what.
    extent: Extent,
}

/// An OAuth endpoint, where nothing is injected.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Carved {
    provider: Arc<str>,
    path: PathPattern,
}

/// A rule that is for the agent and means the target; methods and paths are still to be asked.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    compiled: &'a Compiled,
    /// The pattern that means the target; `None` when the rule is for every host.
    pattern: Option<&'a HostPattern>,
}

impl Policy {
    /// A policy that denies everything.
    pub fn empty() -> Arc<Self> {
        Arc::new(compile::assemble(Spec::default()))
    }

    /// Compiles; all errors at once.
    ///
    /// # Errors
    /// When rules contradict themselves or each other.
    pub fn compile(spec: Spec) -> Result<Self, Vec<CompileError>> {
        let errors = compile::check(&spec.rules, spec.hostless_rules_max);
        match errors.is_empty() {
            true => Ok(compile::assemble(spec)),
            false => Err(errors),
        }
    }

    /// What is wrong with rules, in their order.
    pub fn check(rules: &[Rule], hostless_rules_max: usize) -> Vec<CompileError> {
        compile::check(rules, hostless_rules_max)
    }

    fn org(&self, org: &OrgId) -> &OrgPolicy {
        self.orgs.get(org).unwrap_or(&self.nothing)
    }

    /// Whether a refusal for the target may be answered inside TLS: names written literally are a
    /// bounded set, those that wildcards take are not.
    fn is_known(&self, org: &OrgPolicy, target: &Target) -> bool {
        org.rules.known.has_literal(target)
            || org.known.has_literal(target)
            || self.everywhere.known.has_literal(target)
    }
}

impl OrgRules {
    /// The rules that may decide, in order.
    fn candidates<'a>(&'a self, agent: &AgentId, target: &'a Target) -> Vec<Candidate<'a>> {
        self.meant(target, |compiled| compiled.is_for(agent))
    }

    /// Those that name no agents.
    fn for_everybody<'a>(&'a self, target: &'a Target) -> Vec<Candidate<'a>> {
        self.meant(target, |compiled| compiled.agents.is_none())
    }

    fn meant<'a>(
        &'a self,
        target: &'a Target,
        is_for: impl Fn(&Compiled) -> bool,
    ) -> Vec<Candidate<'a>> {
        let by_host =
            self.by_host.matching(target).map(|entry| (entry.value, Some(&entry.pattern)));
        let mut places: Vec<_> =
            by_host.chain(self.hostless.iter().map(|at| (*at, None))).collect();
        places.sort_by_key(|(at, _)| *at);
        // A rule may mean the target by two patterns; the sort is stable, so the closest stays.
        places.dedup_by_key(|(at, _)| *at);
        places
            .into_iter()
            .map(|(at, pattern)| Candidate { compiled: &self.all[at], pattern })
            .filter(|candidate| is_for(candidate.compiled))
            .collect()
    }
}

impl OrgRules {
    /// The first rule that uses the connection for the agent: the binding alone injects nothing.
    fn narrowing(&self, connection: &ConnectionId, agent: &AgentId) -> Option<&RuleId> {
        let uses = self.uses.get(connection)?;
        let by_agent = uses.by_agent.get(agent).copied();
        let first = by_agent.into_iter().chain(uses.by_everybody).min()?;
        Some(&self.all[first].rule.id)
    }
}

impl Compiled {
    fn is_for(&self, agent: &AgentId) -> bool {
        self.agents.as_ref().is_none_or(|agents| agents.contains(agent))
    }
}

impl Bindings {
    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.empty.is_empty()
    }

    fn by_core(&self, core: &Core) -> Option<&Binding> {
        self.by_core.get(core).map(|at| &self.all[*at])
    }

    /// By the connection's name or id.
    fn by_name(&self, name: &str) -> Option<&Binding> {
        self.by_name.get(name).map(|at| &self.all[*at])
    }
}

/// The ports that may be dialled without being named.
fn is_web_port(port: u16) -> bool {
    matches!(port, 80 | 443)
}
