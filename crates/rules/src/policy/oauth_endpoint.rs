//! Refuses OAuth endpoints of providers: nothing is injected there, and neither the default nor a set of hosts passes
//! requests to them.

use super::matching::matches_paths;
use super::{OrgPolicy, Policy, Reason};
use crate::actions::ScopeShare;
use keyward_base::host::Target;
use keyward_base::id::RuleId;
use keyward_base::pattern::DecodedPath;

impl Policy {
    /// Refuses a provider's OAuth endpoint, which only a `pass` rule may reach.
    pub(super) fn is_no_oauth_endpoint(
        &self,
        org: &OrgPolicy,
        target: &Target,
        path: &DecodedPath,
        rule: &RuleId,
    ) -> Result<(), Reason> {
        let share = ScopeShare::Any;
        let shared = self.shared.oauth_endpoints.matching(target).map(|entry| &entry.value);
        for endpoint in shared.chain(org.oauth_endpoints.matching(target)) {
            if !endpoint.path.may_match(path, share.letter_case()) {
                continue;
            }
            if matches_paths(path, std::slice::from_ref(&endpoint.path), share, rule)? {
                return Err(Reason::TokenEndpoint { provider: endpoint.provider.clone() });
            }
        }
        Ok(())
    }
}
