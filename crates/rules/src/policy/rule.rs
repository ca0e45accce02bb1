//! What policies are compiled from: rules, accounts, bindings. Names are already ids here;
//! `rulebook/` resolves them.

use std::sync::Arc;

use http::Method;

use super::slots::{Empty, Extent};
use crate::inject::credential::{Scoped, Wanted};
use crate::inject::path_prefix::PathPrefix;
use crate::inject::placeholder::Placeholder;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::{AgentId, ConnectionId, OrgId, RuleId};
use keyward_base::pattern::{DecodedPath, HostPattern, PathError, PathPattern};
use keyward_base::settings::Settings;

/// A token endpoint: provider, host, path.
pub type Endpoint = (Arc<str>, HostPattern, PathPattern);

/// Everything a policy is compiled from, of all orgs.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// What hosts get that nothing names.
    pub default: DefaultAction,
    /// Explicit rules, in order.
    pub rules: Vec<Rule>,
    /// Agents' bindings.
    pub bindings: Vec<Bound>,
    /// Required slots without a connection.
    pub empty: Vec<Empty>,
    /// Catalogue hosts without variables: refusals for them are answered inside TLS.
    pub known: Vec<HostPattern>,
    /// Token endpoints of providers: (provider, host, path).
    pub carved: Vec<Endpoint>,
    /// Token endpoints of one org's own apps and connections, and of nobody else's.
    pub carved_in: Vec<(OrgId, Endpoint)>,
    /// Bound on rules without hosts, in each org.
    pub hostless_rules_max: usize,
}

/// `default:`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAction {
    /// Refuse.
    #[default]
    Deny,
    /// Splice, without looking.
    Tunnel,
    /// Forward without a credential.
    Pass,
}

/// An explicit rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its id, shown in audit and explain.
    pub id: RuleId,
    /// Its org.
    pub org: OrgId,
    /// Agents it is for; `None`: all of the org.
    pub agents: Option<Vec<AgentId>>,
    /// Hosts; empty: all.
    pub hosts: Vec<HostPattern>,
    /// Methods; empty: all. Compared without regard to case, as lenient servers do.
    pub methods: Vec<Method>,
    /// Paths; empty: all.
    pub paths: Vec<PathPattern>,
    /// What it says.
    pub action: RuleAction,
    /// Injection over cleartext to addresses on the private list.
    pub allow_plaintext: bool,
}

/// What a rule says.
#[derive(Clone, Debug)]
pub enum RuleAction {
    /// `use: NAME`: inject that connection's credential. The grant itself when the rule names
    /// agents; otherwise it only narrows bindings, and agents without the binding pass it by.
    Use(Arc<Account>),
    /// `use: NAME` of a connection that is gone: refuse, rather than let a later rule decide.
    UseMissing(Arc<str>),
    /// `action: inject` without `use`: as bindings would.
    Inject,
    /// Refuse.
    Deny,
    /// Intercept, forward without a credential.
    Pass,
    /// Do not look inside.
    Tunnel,
}

/// A connection as policy sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// Its id.
    pub id: ConnectionId,
    /// Its name, unique in the org.
    pub name: Arc<str>,
    /// Its provider's id.
    pub provider: Arc<str>,
    /// Hosts it owns.
    pub hosts: Vec<HostPattern>,
    /// Paths it owns there; empty: all. Of the path that the agent wrote.
    pub paths: Vec<PathPattern>,
    /// Which prefix its requests get, by host and by the path that the agent wrote; first match
    /// decides. Empty: the path is sent as it came.
    pub prefixes: Vec<Scoped<Option<PathPrefix>>>,
    /// Whether it can be used.
    pub state: AccountState,
    /// What a person does where it cannot be used.
    pub remedy: Option<Arc<str>>,
    /// How its requests are sent; `None`: as all others.
    pub settings: Option<Arc<Settings>>,
}

/// Whether a connection can be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AccountState {
    /// Yes.
    Active,
    /// Never connected; why the last attempt came to nothing.
    Draft(Option<Arc<str>>),
    /// Paused by a person.
    Paused,
    /// Broken, with the reason.
    Broken(Arc<str>),
}

/// A binding: this agent may use that connection.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Org of both.
    pub org: OrgId,
    /// The agent.
    pub agent: AgentId,
    /// The connection.
    pub account: Arc<Account>,
    /// Its placeholders, one per secret field.
    pub placeholders: Vec<Placeholder>,
    /// For what.
    pub extent: Extent,
}

/// What one agent holds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Its bindings.
    pub bindings: Vec<Bound>,
    /// Required slots of its plugins without a connection.
    pub empty: Vec<Empty>,
}

/// What is wrong with a rule. Names the rule and the remedy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// Two rules of an org have one id.
    #[error("rule `{rule}` is there twice: give each its own name")]
    Twice {
        /// The rule.
        rule: RuleId,
    },
    /// `agents: []`.
    #[error("rule `{rule}` names no agent: name one, or leave `agents` out for all")]
    NoAgents {
        /// The rule.
        rule: RuleId,
    },
    /// A tunnel cannot see methods or paths.
    #[error(
        "rule `{rule}` tunnels but has methods or paths, which nobody sees in a tunnel: leave them \
         out, or use `action: pass`"
    )]
    TunnelLooksInside {
        /// The rule.
        rule: RuleId,
    },
    /// A tunnel would blind another rule.
    #[error(
        "rule `{rule}` tunnels hosts that rule `{other}` looks into: use `action: pass`, or name \
         hosts that no other rule names (`default: tunnel` is for the rest)"
    )]
    TunnelBlinds {
        /// The rule that tunnels.
        rule: RuleId,
        /// The rule that looks inside.
        other: RuleId,
    },
    /// A credential would go where its provider does not live.
    #[error(
        "rule `{rule}` uses connection `{connection}` on `{host}`, which provider `{provider}` \
         does not own: name hosts of the provider"
    )]
    HostNotOwned {
        /// The rule.
        rule: RuleId,
        /// The connection's name.
        connection: Arc<str>,
        /// The host pattern.
        host: HostPattern,
        /// The provider's id.
        provider: Arc<str>,
    },
    /// `allow_plaintext` where nothing is injected.
    #[error(
        "rule `{rule}` allows plaintext but injects nothing: leave `allow_plaintext` out, or name \
         a connection with `use`"
    )]
    PlaintextWithoutInjection {
        /// The rule.
        rule: RuleId,
    },
    /// Too many rules that are tried for every host.
    #[error(
        "rule `{rule}` is one too many without hosts, at most {max} may be: give it hosts, or \
         raise `limits.hostless_rules_max`"
    )]
    TooManyHostless {
        /// The first one over the bound.
        rule: RuleId,
        /// The bound.
        max: usize,
    },
}

impl Rule {
    /// Whether what it says depends on more than agent and host.
    pub(super) fn is_conditional(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty()
    }

    /// Whether it can only be applied by looking into the stream.
    pub(super) fn looks_inside(&self) -> bool {
        self.is_conditional() || !matches!(self.action, RuleAction::Deny | RuleAction::Tunnel)
    }

    /// Whether the method is meant.
    pub(super) fn takes(&self, method: &Method) -> bool {
        let same = |m: &Method| m.as_str().eq_ignore_ascii_case(method.as_str());
        self.methods.is_empty() || self.methods.iter().any(same)
    }
}

impl Account {
    /// What a permit asks for that uses it.
    pub(super) fn wanted(&self) -> Wanted {
        let (connection, name) = (self.id.clone(), self.name.clone());
        Wanted { connection, name, settings: self.settings.clone() }
    }

    /// The host pattern by which the account owns the target.
    pub fn owning(&self, target: &Target) -> Option<&HostPattern> {
        self.hosts.iter().find(|host| host.matches(target))
    }

    /// The path that is sent in place of `path`, with a mask where the credential will stand; `None`:
    /// it is sent as it came.
    ///
    /// # Errors
    /// When what is left of `path` has no reading by itself.
    pub fn sent_path(
        &self,
        target: &Target,
        path: &DecodedPath,
    ) -> Result<Option<DecodedPath>, PathError> {
        let mut prefixes = self.prefixes.iter();
        let prefix = prefixes.find(|scoped| scoped.matches(target, path));
        let prefix = prefix.and_then(|scoped| scoped.what.as_ref());
        prefix.map(|prefix| prefix.masked(path)).transpose()
    }

    /// Where base URLs of it lead: its first host that is no wildcard, over TLS.
    pub fn home(&self) -> Option<Target> {
        let host = self.hosts.iter().find(|host| host.literal().is_some())?;
        Target::parse(Scheme::Https, &host.to_string()).ok()
    }

    /// Whether it owns every target that `pattern` means.
    pub fn owns_all(&self, pattern: &HostPattern) -> bool {
        self.hosts.iter().any(|host| host.contains(pattern))
    }
}
