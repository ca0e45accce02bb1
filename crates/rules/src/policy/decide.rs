//! [`Policy::decide`]: permits or refuses one request. Explicit rules apply in order, then the agent's
//! bindings, then its sets of hosts, then the default.

use std::sync::Arc;

use super::allow::is_web_port;
use super::matching::{Reading, has_path, misfit, readings, sent_path};
use super::permit::{Action, Permit, Terms};
use super::rule::{Account, AccountState, DefaultAction, Rule, RuleAction};
use super::slots::Blocked;
use super::steps::{RuleOutcome, Silent, Steps};
use super::{
    CompiledBinding, CompiledBindings, OrgPolicy, Policy, PolicyRequest, Reason, RuleCandidate,
};
use crate::inject::named_resources::NamedResource;
use keyward_base::agent::Agent;
use keyward_base::host::Scheme;
use keyward_base::id::RuleId;
use keyward_base::pattern::{DecodedPath, HostPattern};

/// The request for each named resource, as policy decides it.
pub(super) fn requests<'a>(
    asked: &PolicyRequest<'a>,
) -> impl Iterator<Item = PolicyRequest<'a>> + use<'a> {
    let asked = *asked;
    asked.resources.iter().map(move |NamedResource { target, method, path }| PolicyRequest {
        target,
        method,
        overrides: &[],
        path,
        query: None,
        resources: &[],
        ..asked
    })
}

impl Policy {
    /// Permits or refuses a request. All readings of it must give the same result (see [`readings`]), and so must what
    /// it does with other resources (see [`requests`]).
    ///
    /// # Errors
    /// The reason for the refusal.
    pub fn decide(&self, agent: &Agent, asked: &PolicyRequest<'_>) -> Result<Permit, Reason> {
        self.decide_by(agent, asked, &mut Silent)
    }

    /// The same, step by step.
    pub(super) fn decide_by(
        &self,
        agent: &Agent,
        asked: &PolicyRequest<'_>,
        steps: &mut impl Steps,
    ) -> Result<Permit, Reason> {
        let permit = self.decide_own(agent, asked, steps)?;
        requests(asked).try_fold(permit, |permit, asked| {
            let other = self.decide_one(agent, &asked, asked.path, steps)?.permit;
            if other.wanted() != permit.wanted() {
                steps.decides(permit.rule());
                let detail = "rules use another connection for the resource that a field names, such as `Destination` or \
                              `x-amz-copy-source`";
                return Err(Reason::Contradiction { detail });
            }
            Ok(permit.within(&other))
        })
    }

    /// Decides all readings of the request's own resource.
    fn decide_own(
        &self,
        agent: &Agent,
        asked: &PolicyRequest<'_>,
        steps: &mut impl Steps,
    ) -> Result<Permit, Reason> {
        let Decision { mut permit, account } = self.decide_one(agent, asked, asked.path, steps)?;
        let sent = account.map_or(Ok(None), |account| sent_path(account, asked, permit.rule()))?;
        if let Some(sent) = &sent {
            steps.sends(sent);
        }
        if sent.is_none() && asked.overrides.is_empty() {
            return Ok(permit);
        }
        // The first reading determines the permit.
        for Reading { method, path } in readings(asked, sent.as_ref()).skip(1) {
            let asked_so = PolicyRequest { method, ..*asked };
            let other = self.decide_one(agent, &asked_so, path, steps)?.permit;
            if other.wanted() != permit.wanted() {
                steps.decides(permit.rule());
                let detail = match std::ptr::eq(path, asked.path) {
                    true => {
                        "rules use another connection for the method that a field or \
                             parameter sets"
                    }
                    false => "rules use another connection for the path that would be sent",
                };
                return Err(Reason::Contradiction { detail });
            }
            permit = permit.within(&other);
        }
        Ok(permit)
    }

    /// Decides one reading; rules are evaluated on `path`.
    fn decide_one<'a>(
        &'a self,
        agent: &'a Agent,
        asked: &PolicyRequest<'a>,
        path: &'a DecodedPath,
        steps: &mut impl Steps,
    ) -> Result<Decision<'a>, Reason> {
        steps.begins();
        if is_refused(asked.method.as_str()) {
            return Err(Reason::Method);
        }
        self.evaluation(agent, asked, path).answer(steps)
    }

    /// What can decide one reading of a request.
    pub(super) fn evaluation<'a>(
        &'a self,
        agent: &'a Agent,
        asked: &PolicyRequest<'a>,
        path: &'a DecodedPath,
    ) -> Evaluation<'a> {
        let org = self.org(&agent.org);
        let held = self.held(org, agent);
        let evaluation = Evaluation { policy: self, org, held, agent, asked: *asked, path };
        let read = path.with_slashes_in_segments();
        match read.filter(|_| evaluation.has_slashes_in_segments()) {
            None => evaluation,
            Some(path) => {
                let asked = PolicyRequest { path: in_segments(asked.path), ..*asked };
                Evaluation { asked, path, ..evaluation }
            }
        }
    }
}

/// One request and the policy data that can decide it.
pub(super) struct Evaluation<'a> {
    pub(super) policy: &'a Policy,
    pub(super) org: &'a OrgPolicy,
    pub(super) held: Option<&'a CompiledBindings>,
    pub(super) agent: &'a Agent,
    pub(super) asked: PolicyRequest<'a>,
    /// The path that is matched against rules, slots and OAuth endpoints: the agent's path, or the one that is
    /// sent instead. The account's own paths are always matched against the agent's path.
    pub(super) path: &'a DecodedPath,
}

/// A permit, and the account whose credential it requires.
pub(super) struct Decision<'a> {
    permit: Permit,
    account: Option<&'a Account>,
}

/// An account whose credential would be injected, and the conditions.
struct AccountChoice<'a> {
    rule: &'a RuleId,
    account: &'a Account,
    terms: Terms,
}

/// Why bindings are considered.
#[derive(Clone, Copy)]
pub(super) enum BindingLookup<'a> {
    /// No rule matched. `missing`: a rule would have matched if the agent had its connection.
    NoRule { missing: Option<Missing<'a>> },
    /// A rule with `action: inject` matched.
    Rule(RuleCandidate<'a>),
}

/// The connection that a rule uses and the agent lacks.
#[derive(Clone, Copy)]
pub(super) struct Missing<'a> {
    rule: &'a RuleId,
    name: &'a Arc<str>,
}

impl<'a> Evaluation<'a> {
    /// Whether the service at the target reads an encoded slash as a part of the segment, by the provider of a connection
    /// that the agent may have.
    fn has_slashes_in_segments(&self) -> bool {
        let bound = self.held.into_iter().flat_map(|held| {
            let here = held.by_host.matching(self.asked.target);
            here.map(|entry| &*held.numbered(entry.value).account)
        });
        let rules = self.org.rules.candidates(&self.agent.id, self.asked.target);
        let used = rules.into_iter().filter_map(|candidate| candidate.compiled.rule.used());
        let used = used.filter(|account| account.owning(self.asked.target).is_some());
        bound.chain(used).any(|account| account.has_slashes_in_segments)
    }

    fn answer(&self, steps: &mut impl Steps) -> Result<Decision<'a>, Reason> {
        let mut missing = None;
        for candidate in self.org.rules.candidates(&self.agent.id, self.asked.target) {
            let rule = &candidate.compiled.rule;
            match self.misfit(rule) {
                Ok(None) => {}
                Ok(Some(why)) => {
                    steps.passes(&rule.id, why);
                    continue;
                }
                Err(reason) => {
                    steps.decides(&rule.id);
                    return Err(reason);
                }
            }
            let Some(lacks) = self.missing(candidate) else {
                steps.decides(&rule.id);
                return self.by_rule(candidate, steps);
            };
            steps.passes(&rule.id, RuleOutcome::Connection);
            missing = missing.or(Some(lacks));
        }
        let decided = self.by_bindings(BindingLookup::NoRule { missing }, steps);
        if let (Err(Reason::ConnectionMissing { name }), Some(missing)) = (&decided, missing)
            && name == missing.name
        {
            steps.decides(missing.rule);
        }
        match decided {
            Err(reason @ (Reason::Narrowed { .. } | Reason::DefaultDeny { .. })) => {
                Err(self.beyond_branches().unwrap_or(reason))
            }
            decided => decided,
        }
    }

    /// What keeps the rule from deciding about the request, apart from a connection that the agent lacks.
    fn misfit(&self, rule: &Rule) -> Result<Option<RuleOutcome>, Reason> {
        let misfit = misfit(rule, &self.asked, self.path)?;
        Ok(misfit.or_else(|| self.left_by(rule).map(RuleOutcome::from)))
    }

    /// Whether the rule's paths match the path.
    pub(super) fn has_path(&self, rule: &Rule) -> Result<bool, Reason> {
        has_path(rule, self.path)
    }

    /// The connection that the rule uses and the agent lacks; a rule that is no grant needs a binding.
    fn missing(&self, candidate: RuleCandidate<'a>) -> Option<Missing<'a>> {
        let compiled = candidate.compiled;
        let name = match &compiled.rule.action {
            RuleAction::Use(account) | RuleAction::UseRefused(account)
                if !compiled.is_grant(self.agent) =>
            {
                let bound = self.held.and_then(|held| held.by_name(account.id.as_str()));
                bound.is_none().then_some(&account.name)
            }
            RuleAction::UseMissing(name) if !compiled.is_grant(self.agent) => Some(name),
            _ => None,
        };
        name.map(|name| Missing { rule: &compiled.rule.id, name })
    }

    fn by_rule(
        &self,
        candidate: RuleCandidate<'a>,
        steps: &mut impl Steps,
    ) -> Result<Decision<'a>, Reason> {
        let rule = &candidate.compiled.rule;
        match &rule.action {
            RuleAction::Deny => Err(Reason::Denied { rule: rule.id.clone() }),
            // The stream is already open, or it is cleartext; neither can be spliced.
            RuleAction::Pass | RuleAction::Tunnel => self.pass(candidate),
            RuleAction::UseMissing(name) => Err(Reason::ConnectionMissing { name: name.clone() }),
            RuleAction::UseRefused(account) => {
                // The hosts and actions of a connection that is not usable may be unknown.
                is_usable(account)?;
                Err(rule.narrowed(account))
            }
            RuleAction::Use(account) => {
                self.agrees_with(account)?;
                if !candidate.compiled.is_grant(self.agent) {
                    // The rule restricts what the binding allows.
                    let binding = self.held.and_then(|held| held.by_name(account.id.as_str()));
                    binding.map(|binding| self.is_within(binding)).transpose()?;
                }
                if account.not_taken(&self.asked).is_some() {
                    return self.with_own_authorization(account, Some(rule), &rule.id);
                }
                let owning = account.owning(self.asked.target);
                let terms = self.terms(&BindingLookup::Rule(candidate), owning);
                self.inject(&AccountChoice { rule: &rule.id, account, terms })
            }
            RuleAction::Inject => self.by_bindings(BindingLookup::Rule(candidate), steps),
        }
    }

    fn pass(&self, candidate: RuleCandidate<'a>) -> Result<Decision<'a>, Reason> {
        let RuleCandidate { compiled, pattern } = candidate;
        if !self.asked.placeholders.is_empty() {
            let detail = "a placeholder was sent where no credential is injected";
            return Err(Reason::PlaceholderForeign { detail });
        }
        if self.asked.named.is_some() {
            let detail = "`Keyward-Connection` names a connection, but the rule passes requests \
                          without a credential";
            return Err(Reason::Contradiction { detail });
        }
        self.forward(&compiled.rule.id, pattern)
    }

    fn by_bindings(
        &self,
        cause: BindingLookup<'a>,
        steps: &mut impl Steps,
    ) -> Result<Decision<'a>, Reason> {
        let binding = match self.selected()? {
            Some(selected) => Some(selected),
            None => self.unselected(steps)?,
        };
        if let Some(binding) = binding {
            return self.by_binding(binding, cause, steps);
        }
        if let Some(decided) = self.by_untaken(cause, steps) {
            return decided;
        }
        match cause {
            BindingLookup::Rule(candidate) => {
                Err(Reason::Unbound { rule: candidate.compiled.rule.id.clone() })
            }
            BindingLookup::NoRule { missing: Some(Missing { name, .. }) } => {
                Err(Reason::ConnectionMissing { name: name.clone() })
            }
            BindingLookup::NoRule { missing: None } => match self.empty_slot() {
                Some(blocked) => Err(Reason::PluginBlocked(blocked.clone())),
                None => self.by_default(steps),
            },
        }
    }

    /// A plugin whose connection for the host is missing.
    fn empty_slot(&self) -> Option<&'a Arc<Blocked>> {
        let mut empty = self.held?.empty.matching(self.asked.target);
        empty.next().map(|entry| &entry.value)
    }

    fn by_binding(
        &self,
        binding: &'a CompiledBinding,
        cause: BindingLookup<'a>,
        steps: &mut impl Steps,
    ) -> Result<Decision<'a>, Reason> {
        let account = &*binding.account;
        let rule = match cause {
            BindingLookup::NoRule { .. } => &binding.id,
            BindingLookup::Rule(candidate) => &candidate.compiled.rule.id,
        };
        steps.decides(rule);
        if let Some(rule) = self.narrowing(binding) {
            return Err(rule.narrowed(account));
        }
        self.is_within(binding)?;
        let terms = self.terms(&cause, account.owning(self.asked.target));
        self.inject(&AccountChoice { rule, account, terms })
    }

    /// The rule that replaces the binding.
    pub(super) fn narrowing(&self, binding: &CompiledBinding) -> Option<&'a Rule> {
        self.org.rules.narrowing(&binding.account.id, &self.agent.id)
    }

    /// By the agent's sets of hosts. Placeholders and `Keyward-Connection` have selected a binding before, or were
    /// refused.
    fn by_sets(&self) -> Option<Result<Decision<'a>, Reason>> {
        let sets = &self.held?.allow;
        let allowed =
            sets.allowing(self.asked.target, self.asked.method, self.path, self.asked.query)?;
        let passed = self.is_no_oauth_endpoint(allowed.rule);
        Some(passed.and_then(|()| self.forward(allowed.rule, allowed.pattern)))
    }

    fn by_default(&self, steps: &mut impl Steps) -> Result<Decision<'a>, Reason> {
        steps.decides(&self.policy.default_rule);
        if let Some(decided) = self.by_sets() {
            return decided;
        }
        let rule = &self.policy.default_rule;
        match self.policy.default {
            DefaultAction::Deny => {
                let request = Some((self.asked.method, self.path));
                Err(self.policy.default_denial(self.agent, self.held, self.asked.target, request))
            }
            DefaultAction::Pass | DefaultAction::Tunnel => {
                self.is_no_oauth_endpoint(rule)?;
                self.forward(rule, None)
            }
        }
    }

    pub(super) fn forward(
        &self,
        rule: &RuleId,
        by: Option<&HostPattern>,
    ) -> Result<Decision<'a>, Reason> {
        let target = self.asked.target;
        if by.is_none() && !is_web_port(target.port()) {
            return Err(Reason::PortRefused { port: target.port(), rule: Some(rule.clone()) });
        }
        let port_named = by.is_some_and(HostPattern::has_explicit_port);
        let terms = Terms { plaintext: false, port_named };
        let permit = Permit::new(rule.clone(), target.clone(), Action::Pass, terms);
        Ok(Decision { permit, account: None })
    }

    fn inject(&self, choice: &AccountChoice<'a>) -> Result<Decision<'a>, Reason> {
        self.is_no_oauth_endpoint(choice.rule)?;
        let name = || choice.account.name.clone();
        if self.asked.target.scheme() == Scheme::Http && !choice.terms.plaintext {
            return Err(Reason::PlaintextRefused { connection: name() });
        }
        is_usable(choice.account)?;
        // One that selects none was compared before.
        if self.asked.selects() && !choice.account.has_place(self.asked.target, self.asked.path) {
            return Err(choice.account.no_place(self.asked.target));
        }
        let (rule, target) = (choice.rule.clone(), self.asked.target.clone());
        let action = Action::Inject(choice.account.wanted());
        let permit = Permit::new(rule, target, action, choice.terms);
        Ok(Decision { permit, account: Some(choice.account) })
    }

    fn terms(&self, cause: &BindingLookup<'_>, owning: Option<&HostPattern>) -> Terms {
        let (plaintext, by) = match cause {
            BindingLookup::NoRule { .. } => (false, None),
            BindingLookup::Rule(candidate) => {
                (candidate.compiled.rule.allow_plaintext, candidate.pattern)
            }
        };
        let port_named = [by, owning].into_iter().flatten().any(HostPattern::has_explicit_port);
        Terms { plaintext, port_named }
    }

    pub(super) fn is_no_oauth_endpoint(&self, rule: &RuleId) -> Result<(), Reason> {
        self.policy.is_no_oauth_endpoint(self.org, self.asked.target, self.path, rule)
    }
}

/// The path with encoded slashes as parts of segments.
pub(super) fn in_segments(path: &DecodedPath) -> &DecodedPath {
    path.with_slashes_in_segments().unwrap_or(path)
}

/// Whether the account's state allows use.
pub(super) fn is_usable(account: &Account) -> Result<(), Reason> {
    let name = || account.name.clone();
    let remedy = || account.remedy.clone();
    match &account.state {
        AccountState::Draft(failure) => Err(Reason::ConnectionDraft {
            name: name(),
            failure: failure.clone(),
            remedy: remedy(),
        }),
        AccountState::Paused => Err(Reason::ConnectionPaused { name: name(), remedy: remedy() }),
        AccountState::Broken(reason) => {
            Err(Reason::ConnectionBroken { name: name(), reason: reason.clone(), remedy: remedy() })
        }
        AccountState::Active => Ok(()),
    }
}

/// Whether the method makes a server echo the request or open a tunnel. Case is ignored, as lenient servers do.
pub(super) fn is_refused(method: &str) -> bool {
    ["TRACE", "TRACK", "CONNECT"].iter().any(|refused| refused.eq_ignore_ascii_case(method))
}
