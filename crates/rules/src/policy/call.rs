//! [`Policy::permit_call`]: the permit for a call that a person makes with a connection, named by id. Bindings
//! do not apply, because no agent is involved; rules that name no agents apply to people too.

use super::decide::{is_refused, is_usable, requests};
use super::matching::{Reading, matches_paths, misfit, readings, sent_path};
use super::permit::{Action, Permit, Terms};
use super::rule::{Account, RuleAction};
use super::{Policy, PolicyRequest, Reason};
use crate::actions::ScopeShare;
use keyward_base::host::Scheme;
use keyward_base::id::{OrgId, RuleId};
use keyward_base::pattern::{DecodedPath, HostPattern};

impl Policy {
    /// Permits one request with the account's credential to a host and path that the account owns, unless a
    /// rule without agents denies it.
    ///
    /// # Errors
    /// As [`Policy::permit_test`]; also when such a rule denies the request, or the account is not usable.
    pub fn permit_call(
        &self,
        org: &OrgId,
        account: &Account,
        asked: &PolicyRequest<'_>,
    ) -> Result<Permit, Reason> {
        let rule = RuleId::new(format!("call:{}", account.id));
        let asked = &account.as_read(asked);
        let terms = self.own_place(org, account, asked, &rule)?;
        let sent = sent_path(account, asked, &rule)?;
        for Reading { method, path } in readings(asked, sent.as_ref()) {
            if is_refused(method.as_str()) {
                return Err(Reason::Method);
            }
            self.is_not_denied(org, account, &PolicyRequest { method, ..*asked }, path)?;
        }
        for asked in requests(asked).map(|asked| account.as_read(&asked)) {
            self.own_place(org, account, &asked, &rule)?;
            self.is_not_denied(org, account, &asked, asked.path)?;
        }
        is_usable(account)?;
        Ok(Permit::new(rule, asked.target.clone(), Action::Inject(account.wanted()), terms))
    }

    /// Checks that apply to every injection: no cleartext; host and path belong to the account; neither the
    /// original nor the rewritten path is an OAuth endpoint; no method that makes servers echo.
    pub(super) fn own_place(
        &self,
        org: &OrgId,
        account: &Account,
        asked: &PolicyRequest<'_>,
        rule: &RuleId,
    ) -> Result<Terms, Reason> {
        if is_refused(asked.method.as_str()) {
            return Err(Reason::Method);
        }
        if asked.target.scheme() == Scheme::Http {
            return Err(Reason::PlaintextRefused { connection: account.name.clone() });
        }
        let Some(owning) = account.owning(asked.target) else {
            return Err(not_owned("hosts", account.hosts.iter()));
        };
        if !matches_paths(asked.path, &account.paths, ScopeShare::All, rule)? {
            return Err(not_owned("paths", account.paths.iter()));
        }
        let sent = sent_path(account, asked, rule)?;
        for path in [Some(asked.path), sent.as_ref()].into_iter().flatten() {
            self.is_no_oauth_endpoint(self.org(org), asked.target, path, rule)?;
        }
        Ok(Terms { plaintext: false, port_named: HostPattern::has_explicit_port(owning) })
    }

    /// Checks that the first rule without agents that matches the request, with its path read as `path`, is not `deny`.
    fn is_not_denied(
        &self,
        org: &OrgId,
        account: &Account,
        asked: &PolicyRequest<'_>,
        path: &DecodedPath,
    ) -> Result<(), Reason> {
        for candidate in self.org(org).rules.for_everybody(asked.target) {
            let rule = &candidate.compiled.rule;
            if rule.is_for_another(account) || misfit(rule, asked, path)?.is_some() {
                continue;
            }
            return match rule.action {
                RuleAction::Deny => Err(Reason::Denied { rule: rule.id.clone() }),
                _ => Ok(()),
            };
        }
        Ok(())
    }
}

/// The refusal of a target that is not among these hosts or paths of the account.
fn not_owned(what: &str, all: impl Iterator<Item = impl ToString>) -> Reason {
    let all: Vec<_> = all.map(|one| one.to_string()).collect();
    Reason::NotOwned { owned: format!("its {what}: {}", all.join(", ")) }
}
