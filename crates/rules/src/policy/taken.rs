//! Which requests to its hosts a connection takes. A request that selects no connection is decided as if the connection
//! were not bound, and carries nothing of it, where its credential has no place, or where the request has an authorization
//! of its own that the connection would replace.

use http::Method;
use keyward_base::host::Target;
use keyward_base::id::RuleId;
use keyward_base::pattern::{DecodedPath, HostPattern};

use super::decide::{BindingLookup, Decision, Evaluation, in_segments};
use super::rule::{Account, Rule, RuleAction};
use super::steps::{RuleOutcome, Steps};
use super::{PolicyRequest, Reason};
use crate::aws_host;
use crate::inject::own_authorization::{OwnAuthorization, SentAuthorization, Signs};

/// How many places the refusal of a request names.
const NAMED_PLACES_MAX: usize = 8;

/// Why a connection does not take a request to one of its hosts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NotTaken {
    /// Its credential has no place there.
    NoPlace,
    /// The request has an authorization of its own.
    OwnAuthorization,
}

impl From<NotTaken> for RuleOutcome {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::NoPlace => Self::NoPlace,
            NotTaken::OwnAuthorization => Self::OwnAuthorization,
        }
    }
}

impl Account {
    /// Why it does not take the request, which is for one of its hosts and paths. What selects a connection never falls
    /// through.
    pub(super) fn not_taken(&self, asked: &PolicyRequest<'_>) -> Option<NotTaken> {
        match asked.own {
            _ if asked.selects() => None,
            _ if !self.has_place(asked.target, asked.path) => Some(NotTaken::NoPlace),
            Some(SentAuthorization::SignedUrl) => Some(NotTaken::OwnAuthorization),
            Some(SentAuthorization::Field) => self.signs.map(|_| NotTaken::OwnAuthorization),
            None => (!self.has_scope(asked.target)).then_some(NotTaken::NoPlace),
        }
    }

    /// Whether its credential has a place in requests to the target and path.
    pub(super) fn has_place(&self, target: &Target, path: &DecodedPath) -> bool {
        self.places.is_empty() || self.places.iter().any(|scope| scope.matches(target, path))
    }

    /// Whether a request that the agent has not signed can be signed, as far as the host tells.
    fn has_scope(&self, target: &Target) -> bool {
        let has_scope = |host| !aws_host::is_of_aws(host) || aws_host::api_of(host).is_some();
        self.signs != Some(Signs::Aws) || target.host().name().is_none_or(has_scope)
    }

    /// The request with its path as the account's service reads it.
    pub(super) fn as_read<'r>(&self, asked: &PolicyRequest<'r>) -> PolicyRequest<'r> {
        let read = self.has_slashes_in_segments.then(|| in_segments(asked.path));
        PolicyRequest { path: read.unwrap_or(asked.path), ..*asked }
    }

    /// The refusal of a request that selects the connection where its credential has no place.
    pub(super) fn no_place(&self, target: &Target) -> Reason {
        let is_here = |host: &HostPattern| host.matches(target);
        let here = self.places.iter();
        let here = here.filter(|it| it.hosts.is_empty() || it.hosts.iter().any(is_here));
        let mut places: Vec<_> = here.flat_map(|it| &it.paths).map(ToString::to_string).collect();
        if places.is_empty() {
            places = self.places.iter().flat_map(|it| &it.hosts).map(ToString::to_string).collect();
        }
        places.truncate(NAMED_PLACES_MAX);
        Reason::NoPlace { connection: self.name.clone(), places: places.join(", ") }
    }
}

impl<'a> Evaluation<'a> {
    /// Why the rule's connection does not take the request, which is then for later rules.
    pub(super) fn left_by(&self, rule: &Rule) -> Option<NotTaken> {
        let RuleAction::Use(account) = &rule.action else { return None };
        account.owning(self.asked.target)?;
        let why = account.not_taken(&self.asked)?;
        (why == NotTaken::NoPlace || self.is_left(self.own(Some(rule), account))).then_some(why)
    }

    /// Whether a request with an authorization of its own is decided as if the connection were not bound.
    fn is_left(&self, own: OwnAuthorization) -> bool {
        own.is_default() && matches!(*self.asked.method, Method::GET | Method::HEAD)
    }

    /// What the rule, or else the binding of the account, does with an authorization of the request's own.
    fn own(&self, rule: Option<&Rule>, account: &Account) -> OwnAuthorization {
        let by_binding = || {
            let binding = self.held?.by_name(account.id.as_str())?;
            self.is_within(binding).ok()
        };
        let by_rule = rule.and_then(|rule| rule.own_authorization);
        by_rule.or_else(by_binding).unwrap_or_default()
    }

    /// Decides a request with an authorization of its own by a binding that would replace it. `None`: it is decided as if
    /// there were none.
    pub(super) fn by_untaken(
        &self,
        cause: BindingLookup<'a>,
        steps: &mut impl Steps,
    ) -> Option<Result<Decision<'a>, Reason>> {
        self.asked.own?;
        let (held, is_own) = (self.held?, Some(NotTaken::OwnAuthorization));
        let here = held.by_host.matching(self.asked.target);
        let here = here.map(|entry| held.numbered(entry.value));
        let owning = here.filter(|binding| matches!(self.path_rank(binding), Ok(Some(_))));
        let mut untaken = owning.filter(|it| it.account.not_taken(&self.asked) == is_own);
        let binding = untaken.next()?;
        let (id, rule) = match cause {
            BindingLookup::NoRule { .. } => (&binding.id, None),
            BindingLookup::Rule(candidate) => {
                (&candidate.compiled.rule.id, Some(&candidate.compiled.rule))
            }
        };
        if self.is_left(self.own(rule, &binding.account)) {
            return None;
        }
        steps.decides(id);
        Some(self.with_own_authorization(&binding.account, rule, id))
    }

    /// Decides a request with an authorization of its own, which the account would replace.
    pub(super) fn with_own_authorization(
        &self,
        account: &Account,
        rule: Option<&Rule>,
        id: &RuleId,
    ) -> Result<Decision<'a>, Reason> {
        match self.own(rule, account) {
            OwnAuthorization::Refuse => {
                Err(Reason::OwnAuthorization { connection: account.name.clone() })
            }
            OwnAuthorization::Pass => {
                self.is_no_oauth_endpoint(id)?;
                self.forward(id, account.owning(self.asked.target))
            }
        }
    }
}
