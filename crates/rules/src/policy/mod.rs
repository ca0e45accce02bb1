//! Policy: pure decisions about routes of targets and permits of requests. No async, no clock, no I/O;
//! `explain` and the audit log repeat the two decisions of the data path, and see their steps. `state::rulebook` resolves
//! names and provides the data.

mod allow;
mod base_url;
mod bindings;
mod body_refusal;
mod call;
mod choose;
mod compile;
mod considered;
mod database;
mod decide;
mod denial;
mod edit;
pub mod explain;
mod index;
mod matching;
mod overrides;
pub mod permit;
mod permitted_login;
mod query;
mod reason;
mod route;
pub mod rule;
mod slots;
mod ssh;
mod steps;
mod taken;
mod test_request;
#[cfg(test)]
mod tests;
mod way_in;
mod within;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::Method;

use crate::actions::ScopeShare;
use crate::git_push::RequestedPush;
use crate::graphql::RequestedOperations;
use crate::inject::own_authorization::SentAuthorization;
use crate::inject::placeholder::PlaceholderCore;
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_base::id::{AgentId, ConnectionId, OrgId, RuleId, SessionId};
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};
use keyward_base::shared_map::SharedMap;

use bindings::{CompiledBinding, CompiledBindings, LazyBindings};
use index::{CountedIndex, HostIndex, IndexEntry};

pub use crate::inject::named_resources::{NamedResource, UnclearResource, named_resources};
pub use crate::inject::own_authorization::OwnAuthorization;
pub use allow::{AllowedSets, hosts_of_sets, set_for};
pub use bindings::BindingSource;
pub use database::DatabasePermit;
pub use explain::Explanation;
pub use overrides::{NoMethod, overrides};
pub use permit::{Action, InterceptPermit, Permit, Route, TunnelPermit};
pub use permitted_login::PermittedLogin;
pub use query::PolicyQuery;
pub use reason::Reason;
pub use rule::{
    Account, AccountBinding, AccountState, AgentAllow, AgentBindings, CompileError, DefaultAction,
    Endpoint, LostAccount, PolicyInput, Rule, RuleAction,
};
pub use slots::{ActionList, Blocked, EmptySlot, Extent, Parts, Slot, SlotProblem};
pub use ssh::SshPermit;
pub use steps::{ConsideredRule, RuleOutcome};
pub use way_in::WayIn;

/// Compiled rules and bindings of all orgs. The cost of a decision depends only on the rules and the agent's
/// bindings for the host. A clone shares everything, and a later change copies one part: an agent's bindings or
/// an org's rules.
#[derive(Clone, Debug)]
pub struct Policy {
    default: DefaultAction,
    /// The rule id of decisions by `default`.
    default_rule: RuleId,
    hostless_rules_max: usize,
    orgs: SharedMap<OrgId, Arc<OrgPolicy>>,
    /// Shared by orgs without rules and bindings.
    nothing: Arc<OrgPolicy>,
    shared: Arc<SharedHosts>,
    /// What the bindings of agents are compiled from.
    source: Arc<dyn BindingSource>,
}

/// Data that applies to every org: the catalogue's hosts.
#[derive(Debug, Default)]
struct SharedHosts {
    known: HostIndex<()>,
    /// Hosts with an explicit port, wildcards included.
    with_port: HostIndex<()>,
    oauth_endpoints: HostIndex<OAuthEndpoint>,
}

/// The properties of a request that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct PolicyRequest<'a> {
    /// The request's target.
    pub target: &'a Target,
    /// The request's method.
    pub method: &'a Method,
    /// Methods that fields or query ask the server to use instead; all of them must be permitted.
    pub overrides: &'a [Method],
    /// The decoded path as the agent sent it. If a credential will be part of the path, the rewritten path must
    /// be permitted too.
    pub path: &'a DecodedPath,
    /// The query as it is sent, without `?`.
    pub query: Option<&'a str>,
    /// Other resources that fields name, such as the destination of a MOVE; all of them must be permitted.
    pub resources: &'a [NamedResource],
    /// Cores of placeholders in fields and URL (those in bodies do not select a connection).
    pub placeholders: &'a [PlaceholderCore],
    /// The value of `Keyward-Connection`: a connection's name or id.
    pub named: Option<&'a str>,
    /// The authorization of a request without placeholders.
    pub own: Option<SentAuthorization>,
    /// The GraphQL operations of the body, which is read only if the decision depends on them.
    pub operations: RequestedOperations<'a>,
    /// The references of a push by git, which are read only if the decision depends on them.
    pub push: RequestedPush<'a>,
}

impl PolicyRequest<'_> {
    /// Whether the request itself selects a connection.
    fn selects(&self) -> bool {
        self.named.is_some() || !self.placeholders.is_empty()
    }
}

/// Rules and bindings of one org.
#[derive(Clone, Debug, Default)]
struct OrgPolicy {
    rules: Arc<OrgRules>,
    /// The agents that may use something.
    agents: SharedMap<AgentId, Arc<LazyBindings>>,
    /// What may be used in each session, in place of what its agent may use.
    sessions: SharedMap<SessionId, Arc<CompiledBindings>>,
    /// Literal hosts of its own connections.
    known: CountedIndex<()>,
    /// OAuth endpoints of its own apps and connections.
    oauth_endpoints: CountedIndex<OAuthEndpoint>,
}

#[derive(Debug, Default)]
struct OrgRules {
    /// In the order of the configuration.
    all: Vec<CompiledRule>,
    /// Indexes into `all`, as in the next fields.
    by_host: HostIndex<usize>,
    /// Rules without hosts, ascending.
    hostless: Vec<usize>,
    /// Rules that grant a connection to agents that they name, by the connection's name and by its id.
    grants: HashMap<Arc<str>, Vec<usize>>,
    /// Rules that use a connection, also those that refuse; they replace its binding.
    uses: HashMap<ConnectionId, Uses, RandomState>,
    /// Host patterns without wildcards.
    known: HostIndex<()>,
}

/// The first rules that use a connection, as indexes into the org's rules.
#[derive(Debug, Default)]
struct Uses {
    /// The first rule that names no agents.
    by_everybody: Option<usize>,
    by_agent: HashMap<AgentId, usize, RandomState>,
}

/// A rule with its agents as a set.
#[derive(Debug)]
struct CompiledRule {
    rule: Rule,
    agents: Option<HashSet<AgentId>>,
}

/// An OAuth endpoint, where nothing is injected.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct OAuthEndpoint {
    provider: Arc<str>,
    path: PathPattern,
}

/// A rule that matches agent and target; methods and paths are not checked yet.
#[derive(Clone, Copy, Debug)]
struct RuleCandidate<'a> {
    compiled: &'a CompiledRule,
    /// The pattern that matches the target; `None` if the rule has no hosts.
    pattern: Option<&'a HostPattern>,
}

impl Policy {
    /// The first rule that decides all requests that a later rule of the org is for.
    pub fn shadow(&self, org: &OrgId, rule: &RuleId) -> Option<&RuleId> {
        let rules = &self.org(org).rules;
        let at = rules.all.iter().position(|compiled| compiled.rule.id == *rule)?;
        let later = &rules.all[at].rule;
        // A rule that decides all its requests has no hosts, or one that contains the first of its hosts.
        let by_host =
            later.hosts.first().into_iter().flat_map(|host| rules.by_host.containing(host));
        let earlier = by_host.map(|entry| entry.value).chain(rules.hostless.iter().copied());
        let earlier = earlier.filter(|earlier| *earlier < at);
        let first = earlier.filter(|earlier| rules.all[*earlier].rule.shadows(later)).min()?;
        Some(&rules.all[first].rule.id)
    }

    fn org(&self, org: &OrgId) -> &OrgPolicy {
        self.orgs.get(org).unwrap_or(&self.nothing)
    }

    /// The bindings of the agent, or those of its session; `None` for an unknown session.
    fn held<'a>(&self, org: &'a OrgPolicy, agent: &Agent) -> Option<&'a CompiledBindings> {
        match &agent.session {
            None => org.agents.get(&agent.id)?.get(|| self.source.bindings(&agent.org, &agent.id)),
            Some(session) => org.sessions.get(&session.id).map(|held| &**held),
        }
    }

    /// Whether a refusal for the target may be sent inside TLS. This requires minting a leaf, so it is limited to
    /// names that are written literally, which are bounded; names that match wildcards are not.
    fn is_known(&self, org: &OrgPolicy, target: &Target) -> bool {
        org.rules.known.has_literal(target)
            || org.known.has_literal(target)
            || self.shared.known.has_literal(target)
    }
}

impl OrgRules {
    /// The rules that match agent and target, in order.
    fn candidates<'a>(&'a self, agent: &AgentId, target: &'a Target) -> Vec<RuleCandidate<'a>> {
        self.meant(target, |compiled| compiled.is_for(agent))
    }

    /// The matching rules that name no agents.
    fn for_everybody<'a>(&'a self, target: &'a Target) -> Vec<RuleCandidate<'a>> {
        self.meant(target, |compiled| compiled.agents.is_none())
    }

    fn meant<'a>(
        &'a self,
        target: &'a Target,
        is_for: impl Fn(&CompiledRule) -> bool,
    ) -> Vec<RuleCandidate<'a>> {
        // What refuses is for both default ports with either scheme: a service may speak cleartext at 443, and what a
        // tunnel to port 80 carries is not seen.
        let has_port = |entry: &&IndexEntry<usize>| match self.all[entry.value].rule.share() {
            ScopeShare::Any => entry.pattern.matches_port_of_any_scheme(target.port()),
            ScopeShare::All => entry.pattern.matches_port(target),
        };
        let by_host = self.by_host.of_host(target.host()).filter(has_port);
        let by_host = by_host.map(|entry| (entry.value, Some(&entry.pattern)));
        let mut places: Vec<_> =
            by_host.chain(self.hostless.iter().map(|at| (*at, None))).collect();
        places.sort_by_key(|(at, _)| *at);
        // A rule may match the target by two patterns; the sort is stable, so the most specific one remains.
        places.dedup_by_key(|(at, _)| *at);
        places
            .into_iter()
            .map(|(at, pattern)| RuleCandidate { compiled: &self.all[at], pattern })
            .filter(|candidate| is_for(candidate.compiled))
            .collect()
    }
}

impl OrgRules {
    /// The first rule that uses the connection for the agent; it replaces the binding.
    fn narrowing(&self, connection: &ConnectionId, agent: &AgentId) -> Option<&Rule> {
        let uses = self.uses.get(connection)?;
        let by_agent = uses.by_agent.get(agent).copied();
        let first = by_agent.into_iter().chain(uses.by_everybody).min()?;
        Some(&self.all[first].rule)
    }
}

impl CompiledRule {
    fn is_for(&self, agent: &AgentId) -> bool {
        self.agents.as_ref().is_none_or(|agents| agents.contains(agent))
    }

    /// Whether the rule itself gives its connection to the agent, because it names agents. In a session it gives
    /// nothing: like a rule for all agents, it needs a connection that may be used in the session.
    fn is_grant(&self, agent: &Agent) -> bool {
        self.agents.is_some() && agent.session.is_none()
    }

    /// Whether the rule uses the connection for the agent.
    fn uses(&self, connection: &ConnectionId, agent: &AgentId) -> bool {
        let is_used = |account: &Account| account.id == *connection;
        self.rule.used().is_some_and(is_used) && self.is_for(agent)
    }

    /// Whether the rule, which uses a connection, gives it for a login, in which no request is seen.
    fn gives_login(&self, agent: &Agent, is_bound: bool) -> bool {
        let is_unlimited = !self.rule.is_conditional() && !self.rule.uses_nothing();
        is_unlimited && (self.is_grant(agent) || is_bound)
    }
}
