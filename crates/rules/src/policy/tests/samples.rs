//! Test data: an agent, and short forms of specs and requests.

use std::sync::Arc;

use http::Method;

use crate::git_push::RequestedPush;
use crate::graphql::RequestedOperations;
use crate::inject::placeholder::{Placeholder, PlaceholderCore};
use crate::policy::{
    Account, AccountBinding, AccountState, Explanation, Extent, OwnAuthorization, Policy,
    PolicyRequest, Rule, RuleAction,
};
use keyward_base::agent::Agent;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::{AgentId, ConnectionId, OrgId, RuleId, TokenId};
use keyward_base::pattern::{DecodedPath, HostPattern};

/// An agent, and short forms of specs and requests.
pub(in crate::policy) struct Sample {
    pub(in crate::policy) agent: Agent,
}

impl Sample {
    pub(in crate::policy) fn new() -> Self {
        Self { agent: agent_of(OrgId::default_org(), "ci") }
    }

    pub(in crate::policy) fn rule(name: &str, hosts: &[&str], action: RuleAction) -> Rule {
        Rule {
            id: RuleId::new(name),
            org: OrgId::default_org(),
            agents: None,
            hosts: hosts.iter().map(|text| HostPattern::parse(text).expect(text)).collect(),
            methods: Vec::new(),
            paths: Vec::new(),
            actions: Vec::new(),
            branches: None,
            action,
            allow_plaintext: false,
            own_authorization: None,
        }
    }

    pub(in crate::policy) fn account(name: &str, hosts: &[&str]) -> Arc<Account> {
        Arc::new(Account {
            id: ConnectionId::random(),
            name: name.into(),
            provider: format!("{name}-provider").into(),
            hosts: hosts.iter().map(|text| HostPattern::parse(text).expect(text)).collect(),
            paths: Arc::default(),
            state: AccountState::Active,
            remedy: None,
            settings: None,
            database: None,
            is_ssh: false,
            places: Arc::default(),
            signs: None,
            has_slashes_in_segments: false,
        })
    }

    pub(in crate::policy) fn bound(&self, account: &Arc<Account>) -> AccountBinding {
        AccountBinding {
            org: self.agent.org.clone(),
            agent: self.agent.id.clone(),
            account: account.clone(),
            placeholders: vec![Placeholder::issue("sk-", None).core()],
            extent: Extent::Whole,
            deny: None,
            by_default: true,
            own_authorization: OwnAuthorization::Refuse,
        }
    }

    /// `line` is `METHOD URL`; `core` and `named` are the request's placeholder and field.
    pub(in crate::policy) fn ask<T>(
        line: &str,
        placeholders: &[PlaceholderCore],
        named: Option<&str>,
        with: impl FnOnce(&PolicyRequest<'_>) -> T,
    ) -> T {
        let (method, url) = line.split_once(' ').expect("METHOD URL");
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
        let slash = rest.find('/').expect("a path");
        let target = Target::parse(scheme, &rest[..slash]).expect(url);
        let (path, query) = rest[slash..].split_once('?').unwrap_or((&rest[slash..], ""));
        let path = DecodedPath::parse(path).expect(url);
        let method = Method::from_bytes(method.as_bytes()).expect(line);
        with(&PolicyRequest {
            target: &target,
            method: &method,
            overrides: &[],
            resources: &[],
            path: &path,
            query: Some(query).filter(|query| !query.is_empty()),
            placeholders,
            named,
            own: None,
            operations: RequestedOperations::Unread,
            push: RequestedPush::default(),
        })
    }

    pub(in crate::policy) fn explain(&self, policy: &Policy, line: &str) -> Explanation {
        Self::ask(line, &[], None, |asked| policy.explain(&self.agent, asked))
    }
}

pub(in crate::policy) fn agent_of(org: OrgId, name: &str) -> Agent {
    Agent {
        id: AgentId::random(),
        org,
        name: name.into(),
        token: Some(TokenId::random()),
        session: None,
    }
}
