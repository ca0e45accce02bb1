//! The input of policy compilation: rules, accounts, bindings. Names are already resolved to ids by
//! `state::rulebook`.

use std::sync::Arc;

use http::Method;

use super::allow::AllowedSets;
use super::reason::Reason;
use super::slots::{ActionList, EmptySlot, Extent};
use crate::actions::{ActionScope, ScopeShare};
use crate::branches::BranchScope;
use crate::inject::credential::RequiredConnection;
use crate::inject::own_authorization::{OwnAuthorization, Signs};
use crate::inject::path_prefix::PathPrefix;
use crate::inject::placeholder::PlaceholderCore;
use crate::inject::placement::Scoped;
use keyward_base::database::DatabaseEndpoint;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::{AgentId, ConnectionId, OrgId, RuleId, SessionId};
use keyward_base::pattern::{DecodedPath, HostPattern, PathError, PathPattern};
use keyward_base::settings::Settings;

/// A token endpoint: provider, host, path.
pub type Endpoint = (Arc<str>, HostPattern, PathPattern);

/// The input of a compilation, for all orgs.
#[derive(Clone, Debug, Default)]
pub struct PolicyInput {
    /// The action for hosts that nothing names.
    pub default: DefaultAction,
    /// Explicit rules, in order.
    pub rules: Vec<Rule>,
    /// Bindings of agents; their literal hosts are known in the org.
    pub bindings: Vec<AccountBinding>,
    /// Required slots without a connection.
    pub empty: Vec<EmptySlot>,
    /// The sets of hosts that agents may reach without a credential.
    pub allow: Vec<AgentAllow>,
    /// What may be used in sessions.
    pub sessions: Vec<(OrgId, SessionId, AgentBindings)>,
    /// Catalogue hosts without variables; refusals for them are sent inside TLS.
    pub known: Vec<HostPattern>,
    /// Token endpoints of providers: (provider, host, path).
    pub oauth_endpoints: Vec<Endpoint>,
    /// Token endpoints of one org's own apps and connections, which apply in this org only.
    pub org_oauth_endpoints: Vec<(OrgId, Endpoint)>,
    /// Maximum number of rules without hosts, per org.
    pub hostless_rules_max: usize,
}

/// The action of `default:`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    schemars::JsonSchema,
    PartialEq,
    serde::Deserialize,
    serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAction {
    /// Refuse all requests.
    #[default]
    Deny,
    /// Copy bytes without inspection.
    Tunnel,
    /// Forward without a credential.
    Pass,
}

/// An explicit rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The id, shown in audit events and explanations.
    pub id: RuleId,
    /// The org that it applies to.
    pub org: OrgId,
    /// The agents it applies to; `None` for all of the org.
    pub agents: Option<Vec<AgentId>>,
    /// Host patterns; empty means all.
    pub hosts: Vec<HostPattern>,
    /// Methods; empty means all. Case is ignored, as lenient servers do.
    pub methods: Vec<Method>,
    /// Path patterns; empty means all.
    pub paths: Vec<PathPattern>,
    /// Named actions, of which a request belongs to one; empty means all requests.
    pub actions: Vec<ActionScope>,
    /// The branches of pushes by git; `None`: the body of a push does not matter.
    pub branches: Option<BranchScope>,
    /// What the rule does.
    pub action: RuleAction,
    /// Whether the credential may be sent in cleartext to addresses on the private list.
    pub allow_plaintext: bool,
    /// What is done with authorizations of requests' own; `None`: what the binding says.
    pub own_authorization: Option<OwnAuthorization>,
}

/// What a rule does.
#[derive(Clone, Debug)]
pub enum RuleAction {
    /// `use: NAME`: inject that connection's credential. If the rule names agents, it grants the connection to
    /// them; otherwise it only restricts bindings, and does not apply to agents without the binding.
    Use(Arc<Account>),
    /// `use: NAME` of a removed connection: refuses, so that no later rule decides.
    UseMissing(Arc<str>),
    /// `use: NAME` of a rule with an action, host or path that is not valid for the connection, or not any more: refuses
    /// its requests, so that no later rule decides, and restricts the binding of the connection as before.
    UseRefused(Arc<Account>),
    /// `action: inject` without `use`: the bindings select the connection.
    Inject,
    /// Refuse the request.
    Deny,
    /// Intercept, and forward without a credential.
    Pass,
    /// Copy bytes without inspection.
    Tunnel,
}

/// A connection as policy sees it. Connections of one kind share their lists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// The connection's id.
    pub id: ConnectionId,
    /// The connection's name, unique in the org.
    pub name: Arc<str>,
    /// The id of its provider.
    pub provider: Arc<str>,
    /// The hosts that it owns.
    pub hosts: Arc<[HostPattern]>,
    /// The paths that it owns there, as the agent writes them; empty means all.
    pub paths: Arc<[PathPattern]>,
    /// Where its credential has a place, by host and by the agent's path, with the path prefix that is added there; the
    /// first match applies. Empty: everywhere, and paths are not changed.
    pub places: Arc<[Scoped<Option<PathPrefix>>]>,
    /// How its requests are signed, if they are.
    pub signs: Option<Signs>,
    /// Whether its service reads an encoded slash in a path as a part of the segment.
    pub has_slashes_in_segments: bool,
    /// Whether it is usable.
    pub state: AccountState,
    /// What a person can do if it is not usable.
    pub remedy: Option<Arc<str>>,
    /// The connection's settings; `None` for the defaults.
    pub settings: Option<Arc<Settings>>,
    /// Where the database is, if the connection is one's. Such a connection owns no hosts.
    pub database: Option<Arc<DatabaseEndpoint>>,
    /// Whether it is the key of an SSH agent. Such a connection owns no hosts.
    pub is_ssh: bool,
}

/// Whether a connection is usable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AccountState {
    /// It is usable.
    Active,
    /// It was never connected; with the error of the last attempt.
    Draft(Option<Arc<str>>),
    /// A person paused it.
    Paused,
    /// It is broken, for this reason.
    Broken(Arc<str>),
}

/// A binding: this agent may use that connection.
#[derive(Clone, Debug)]
pub struct AccountBinding {
    /// The org of agent and connection.
    pub org: OrgId,
    /// The agent that may use the connection.
    pub agent: AgentId,
    /// The connection.
    pub account: Arc<Account>,
    /// The cores of its placeholders, one per secret field.
    pub placeholders: Vec<PlaceholderCore>,
    /// Which requests it allows.
    pub extent: Extent,
    /// Named actions that it denies, slots included; `None` means none.
    pub deny: Option<ActionList>,
    /// Whether a request that selects no connection may use it although others fit as well. The first such binding
    /// of the agent is used.
    pub by_default: bool,
    /// What is done with authorizations of requests' own, slots excepted.
    pub own_authorization: OwnAuthorization,
}

/// The bindings, blocked slots and sets of hosts of one agent.
#[derive(Clone, Debug, Default)]
pub struct AgentBindings {
    /// The agent's bindings; an earlier one is preferred.
    pub bindings: Vec<AccountBinding>,
    /// Required slots of the agent's plugins that have no connection.
    pub empty: Vec<EmptySlot>,
    /// Connections that it could use until they were removed.
    pub lost: Vec<LostAccount>,
    /// The sets of hosts that it may reach without a credential.
    pub allow: AllowedSets,
}

/// A connection that was removed. Requests of its agent to its hosts that nothing allows get the reason.
#[derive(Clone, Debug)]
pub struct LostAccount {
    /// Its name.
    pub name: Arc<str>,
    /// Its hosts.
    pub hosts: Vec<HostPattern>,
    /// What the agent held instead of its secrets, if that is known.
    pub cores: Option<Box<[PlaceholderCore]>>,
}

/// The sets of hosts that one agent may reach without a credential.
#[derive(Clone, Debug)]
pub struct AgentAllow {
    /// The org of the agent.
    pub org: OrgId,
    /// The agent.
    pub agent: AgentId,
    /// Its sets.
    pub sets: AllowedSets,
}

/// Why rules do not compile. The message names the rule and the remedy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// Two rules of an org have the same id.
    #[error("rule `{rule}` is there twice: give each its own name")]
    DuplicateRule {
        /// The id of both.
        rule: RuleId,
    },
    /// The rule has an empty list of agents.
    #[error("rule `{rule}` names no agent: name one, or omit `agents` for all")]
    NoAgents {
        /// The id of the rule.
        rule: RuleId,
    },
    /// A tunnel cannot be restricted to methods, paths or actions.
    #[error(
        "rule `{rule}` tunnels but has methods, paths or actions, which are invisible in a \
         tunnel: omit them, or use `action: pass`"
    )]
    TunnelWithConditions {
        /// The id of the rule.
        rule: RuleId,
    },
    /// A tunnel makes another rule ineffective.
    #[error(
        "rule `{rule}` tunnels hosts that rule `{other}` inspects: use `action: pass`, or name \
         hosts that no other rule names (`default: tunnel` is for the rest)"
    )]
    TunnelHidesRule {
        /// The rule that tunnels.
        rule: RuleId,
        /// The rule that needs to inspect requests.
        other: RuleId,
    },
    /// A credential would be sent to a host that its provider does not own.
    #[error(
        "rule `{rule}` uses connection `{connection}` on `{host}`, which provider `{provider}` \
         does not own: name hosts of the provider"
    )]
    HostNotOwned {
        /// The id of the rule.
        rule: RuleId,
        /// The connection's name.
        connection: Arc<str>,
        /// The host pattern.
        host: HostPattern,
        /// The provider's id.
        provider: Arc<str>,
    },
    /// A key that has no effect without injection.
    #[error("rule `{rule}` injects nothing: omit `{key}`, or name a connection with `use`")]
    WithoutInjection {
        /// The id of the rule.
        rule: RuleId,
        /// The key.
        key: &'static str,
    },
    /// There are too many rules without hosts.
    #[error(
        "rule `{rule}` exceeds the limit of {max} rules without hosts: give it hosts, or \
         raise `limits.hostless_rules_max`"
    )]
    TooManyHostless {
        /// The first rule above the limit.
        rule: RuleId,
        /// The limit.
        max: usize,
    },
}

impl CompileError {
    /// The rules that the error is about.
    pub fn rules(&self) -> impl Iterator<Item = &RuleId> {
        let (rule, other) = match self {
            Self::TunnelHidesRule { rule, other } => (rule, Some(other)),
            Self::DuplicateRule { rule }
            | Self::NoAgents { rule }
            | Self::TunnelWithConditions { rule }
            | Self::HostNotOwned { rule, .. }
            | Self::WithoutInjection { rule, .. }
            | Self::TooManyHostless { rule, .. } => (rule, None),
        };
        std::iter::once(rule).chain(other)
    }
}

impl Rule {
    /// Whether the rule decides all requests that `other` is for, so that `other` has no effect after it. Paths are
    /// compared as text: `false` where only their patterns would tell. `http` at 443 and `https` at 80 do not count.
    pub(super) fn shadows(&self, other: &Self) -> bool {
        let decides = match &self.action {
            // Later rules decide about hosts that the connection does not own, and for unbound agents.
            RuleAction::Use(account) | RuleAction::UseRefused(account) => {
                let has_all = account.paths.is_empty() && account.places.is_empty();
                self.agents.is_some() && !self.hosts.is_empty() && has_all
            }
            RuleAction::UseMissing(_) => self.agents.is_some(),
            RuleAction::Inject | RuleAction::Deny | RuleAction::Pass | RuleAction::Tunnel => true,
        };
        let agents = || {
            self.agents.as_ref().is_none_or(|mine| {
                let all_mine = |all: &Vec<AgentId>| all.iter().all(|agent| mine.contains(agent));
                other.agents.as_ref().is_some_and(all_mine)
            })
        };
        let is_host = |host: &HostPattern| self.hosts.iter().any(|mine| mine.contains(host));
        let is_method = |method: &Method| self.matches_method(method);
        // A rule that refuses is for more requests than one that allows with the same paths or actions.
        let is_as_wide = self.share() == ScopeShare::Any || other.share() == ScopeShare::All;
        let is_path = |path: &PathPattern| is_as_wide && self.paths.contains(path);
        let is_action = |scope: &ActionScope| is_as_wide && self.actions.contains(scope);
        decides
            && is_all(&self.paths, &other.paths, is_path)
            && is_all(&self.hosts, &other.hosts, is_host)
            && is_all(&self.methods, &other.methods, is_method)
            && is_all(&self.actions, &other.actions, is_action)
            && (self.branches.is_none() || self.branches == other.branches)
            && agents()
    }

    /// Whether the rule depends on more than agent and host.
    pub(super) fn is_conditional(&self) -> bool {
        !self.methods.is_empty()
            || !self.paths.is_empty()
            || !self.actions.is_empty()
            || self.branches.is_some()
    }

    /// Whether the rule requires inspecting requests.
    pub(super) fn needs_inspection(&self) -> bool {
        let inspects = !matches!(self.action, RuleAction::Deny | RuleAction::Tunnel);
        !self.has_lost_hosts() && (self.is_conditional() || inspects)
    }

    /// Whether the rule matches no request, because its hosts are unknown. It still restricts a binding.
    pub(super) fn has_lost_hosts(&self) -> bool {
        self.hosts.is_empty() && matches!(self.action, RuleAction::UseRefused(_))
    }

    /// Whether the rule can only refuse, because what it uses is gone or not valid.
    pub(super) fn uses_nothing(&self) -> bool {
        matches!(self.action, RuleAction::UseMissing(_) | RuleAction::UseRefused(_))
    }

    /// How requests are compared with the rule: if it can only refuse, it is for all that some service may read as what
    /// it names.
    pub(super) fn share(&self) -> ScopeShare {
        match self.action {
            RuleAction::Deny | RuleAction::UseMissing(_) | RuleAction::UseRefused(_) => {
                ScopeShare::Any
            }
            RuleAction::Use(_) | RuleAction::Inject | RuleAction::Pass | RuleAction::Tunnel => {
                ScopeShare::All
            }
        }
    }

    /// The connection whose binding the rule restricts.
    pub(super) fn used(&self) -> Option<&Account> {
        match &self.action {
            RuleAction::Use(account) | RuleAction::UseRefused(account) => Some(account),
            _ => None,
        }
    }

    /// Whether the rule uses another connection, or has lost what it used. It then hides no later rule from what is done
    /// with `account`, as for an agent that is not bound to what it uses.
    pub(super) fn is_for_another(&self, account: &Account) -> bool {
        self.uses_nothing() || self.used().is_some_and(|used| used.id != account.id)
    }

    /// The paths of its connection at the target, one of which a request must match as well; empty means all.
    pub(super) fn account_paths(&self, target: &Target) -> &[PathPattern] {
        match self.used() {
            // A rule may refuse at a host that its connection does not own any more.
            Some(account) if account.owning(target).is_some() => &account.paths,
            Some(_) | None => &[],
        }
    }

    /// The refusal of a request for which the rule does not use its connection.
    pub(super) fn narrowed(&self, account: &Account) -> Reason {
        let (rule, connection) = (self.id.clone(), account.name.clone());
        match self.action {
            RuleAction::UseRefused(_) => Reason::UseRefused { rule, connection },
            _ => Reason::Narrowed { rule, connection },
        }
    }

    /// Whether the rule matches the method.
    pub(super) fn matches_method(&self, method: &Method) -> bool {
        let same = |m: &Method| m.as_str().eq_ignore_ascii_case(method.as_str());
        self.methods.is_empty() || self.methods.iter().any(same)
    }
}

/// Whether a list in which empty means all has all of another.
fn is_all<T>(mine: &[T], others: &[T], has: impl Fn(&T) -> bool) -> bool {
    mine.is_empty() || (!others.is_empty() && others.iter().all(has))
}

impl Account {
    /// What a permit that uses this account contains.
    pub(super) fn wanted(&self) -> RequiredConnection {
        let (connection, name) = (self.id.clone(), self.name.clone());
        RequiredConnection { connection, name, settings: self.settings.clone() }
    }

    /// The host pattern by which the account owns the target.
    pub fn owning(&self, target: &Target) -> Option<&HostPattern> {
        self.hosts.iter().find(|host| host.matches(target))
    }

    /// The path that is sent instead of `path`, with a mask in place of the credential; `None` if the path is
    /// not changed.
    ///
    /// # Errors
    /// When the rest of `path` after the prefix is not a valid path.
    pub fn sent_path(
        &self,
        target: &Target,
        path: &DecodedPath,
    ) -> Result<Option<DecodedPath>, PathError> {
        let mut places = self.places.iter();
        let place = places.find(|scoped| scoped.matches(target, path));
        let prefix = place.and_then(|scoped| scoped.what.as_ref());
        prefix.map(|prefix| prefix.masked(path)).transpose()
    }

    /// The target of its base URLs: its first host without a wildcard, over TLS.
    pub fn base_url_target(&self) -> Option<Target> {
        let host = self.hosts.iter().find(|host| host.literal().is_some())?;
        Target::parse(Scheme::Https, &host.to_string()).ok()
    }

    /// Whether it owns every target that matches `pattern`.
    pub fn owns_all(&self, pattern: &HostPattern) -> bool {
        self.hosts.iter().any(|host| host.contains(pattern))
    }
}
