//! [`Policy::permit_test`]: the permit for a connection's own test request. Rules and bindings do not apply,
//! because no agent is involved; the checks of every injection do.

use super::permit::{Action, Permit};
use super::rule::Account;
use super::{Policy, PolicyRequest, Reason};
use keyward_base::id::{OrgId, RuleId};

impl Policy {
    /// Permits one request with the account's credential, to a host and path that the account owns. Its state
    /// is ignored, so that a paused or broken connection can be tested.
    ///
    /// # Errors
    /// When no rule could permit an injection either: cleartext, another's host or path, an OAuth endpoint, or
    /// a method that makes servers echo.
    pub fn permit_test(
        &self,
        org: &OrgId,
        account: &Account,
        asked: &PolicyRequest<'_>,
    ) -> Result<Permit, Reason> {
        let rule = RuleId::new(format!("test:{}", account.id));
        let terms = self.own_place(org, account, &account.as_read(asked), &rule)?;
        Ok(Permit::new(rule, asked.target.clone(), Action::Inject(account.wanted()), terms))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;

    use super::*;
    use crate::git_push::RequestedPush;
    use crate::graphql::RequestedOperations;
    use crate::policy::{AccountState, PolicyInput};
    use keyward_base::host::{Scheme, Target};
    use keyward_base::id::ConnectionId;
    use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};

    fn account(state: AccountState) -> Account {
        Account {
            id: ConnectionId::parse("con_1").unwrap(),
            name: "acme".into(),
            provider: "acme".into(),
            hosts: Arc::from([HostPattern::parse("api.acme.test:8443").unwrap()]),
            paths: Arc::from([PathPattern::parse("/v1/**").unwrap()]),
            state,
            remedy: None,
            settings: None,
            database: None,
            is_ssh: false,
            places: Arc::default(),
            signs: None,
            has_slashes_in_segments: false,
        }
    }

    fn permit(method: &str, scheme: Scheme, host: &str, path: &str) -> Result<Permit, Reason> {
        let endpoint = HostPattern::parse("api.acme.test:8443").unwrap();
        let oauth_endpoint =
            (Arc::from("acme"), endpoint, PathPattern::parse("/v1/token").unwrap());
        let policy = Policy::compile(PolicyInput {
            oauth_endpoints: vec![oauth_endpoint],
            ..PolicyInput::default()
        })
        .unwrap();
        let (target, path) =
            (Target::parse(scheme, host).unwrap(), DecodedPath::parse(path).unwrap());
        let asked = PolicyRequest {
            target: &target,
            method: &Method::from_bytes(method.as_bytes()).unwrap(),
            overrides: &[],
            resources: &[],
            path: &path,
            query: None,
            placeholders: &[],
            named: None,
            own: None,
            operations: RequestedOperations::Unread,
            push: RequestedPush::default(),
        };
        policy.permit_test(&OrgId::default_org(), &account(AccountState::Paused), &asked)
    }

    #[test]
    fn a_test_request_is_refused_where_an_injection_is_refused() {
        for (method, scheme, host, path, code) in [
            ("TRACE", Scheme::Https, "api.acme.test:8443", "/v1/me", "method_refused"),
            ("GET", Scheme::Http, "api.acme.test:8443", "/v1/me", "plaintext_refused"),
            ("GET", Scheme::Https, "api.acme.test", "/v1/me", "denied"),
            ("GET", Scheme::Https, "evil.test:8443", "/v1/me", "denied"),
            ("GET", Scheme::Https, "api.acme.test:8443", "/v2/me", "denied"),
            ("GET", Scheme::Https, "api.acme.test:8443", "/v1%2fme", "bad_target"),
            ("GET", Scheme::Https, "api.acme.test:8443", "/v1/token", "token_endpoint_refused"),
        ] {
            let refused = permit(method, scheme, host, path).unwrap_err();
            assert_eq!(refused.code().as_str(), code, "{method} {host}{path}");
        }
    }

    #[test]
    fn a_test_is_permitted_for_its_connection_even_while_it_is_paused() {
        let permit = permit("GET", Scheme::Https, "api.acme.test:8443", "/v1/me").unwrap();
        assert_eq!(permit.rule().as_str(), "test:con_1");
        assert_eq!(permit.wanted().unwrap().connection.as_str(), "con_1");
        assert!(permit.port_named() && !permit.plaintext());
    }
}
