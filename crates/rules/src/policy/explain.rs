//! [`Explanation`]: what would happen to a request, and why. It repeats the two decisions of the data path, and sees
//! their steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::steps::{ConsideredRule, Explained};
use super::{Action, Permit, Policy, PolicyRequest, Reason, Route, WayIn};
use keyward_base::agent::Agent;
use keyward_base::codes::{Code, RefusalText};
use keyward_base::host::Scheme;
use keyward_base::id::{ConnectionId, RuleId};
use keyward_base::names::named_enum;
use keyward_base::pattern::{DecodedPath, mask};

/// What policy would decide about a request; `keyward-api` adds the rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// The result of the CONNECT; `None` for cleartext, which has none.
    pub route: Option<RouteKind>,
    /// The result of the request.
    pub action: ActionKind,
    /// The rule, binding or default that decided; `None` if it was not a single one.
    pub rule: Option<String>,
    /// Its pattern that matches the host; `None` if it applies to every host.
    pub host: Option<String>,
    /// The path that would be sent if it contains a credential, shown as `{credential}`.
    pub sent_path: Option<String>,
    /// The connection that is used, or that caused the refusal.
    pub connection: Option<String>,
    /// The id of the connection, if it is used.
    pub connection_id: Option<ConnectionId>,
    /// Other connections that fit as well: the used one is the agent's default.
    pub passed_over: Vec<String>,
    /// The code of a refusal.
    pub code: Option<Code>,
    /// The message of a refusal.
    pub message: Option<String>,
    /// The remedy of a refusal.
    pub hint: Option<String>,
    /// What would allow a host that nothing allows.
    pub way_in: Option<WayIn>,
    /// Every rule, binding and set of the agent's organisation that can decide, in their order.
    pub considered: Vec<ConsideredRule>,
}

/// The result of a CONNECT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteKind {
    /// Refused before TLS.
    Deny,
    /// Bytes are copied without inspection.
    Tunnel,
    /// TLS is terminated and requests are decided.
    Intercept,
}

named_enum! {
    /// The result of a request.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum ActionKind by as_str {
        /// Forwarded with a credential.
        Inject = "inject",
        /// Forwarded without a credential.
        Pass = "pass",
        /// Not inspected.
        Tunnel = "tunnel",
        /// Refused.
        Deny = "deny",
    }
}

impl Policy {
    /// Explains a request: by CONNECT for `https`, absolute-form for `http`.
    pub fn explain(&self, agent: &Agent, asked: &PolicyRequest<'_>) -> Explanation {
        let mut steps = Explained::default();
        let decided = self.decide_by(agent, asked, &mut steps);
        let by_connect = asked.target.scheme() == Scheme::Https;
        let (route, rule, told) = match by_connect.then(|| self.route(agent, asked.target)) {
            Some(Route::Deny { rule, reason }) => {
                (Some(RouteKind::Deny), rule, refused(agent, &reason))
            }
            Some(Route::Tunnel(permit)) => {
                let told = Explanation::of(ActionKind::Tunnel);
                (Some(RouteKind::Tunnel), Some(permit.rule().clone()), told)
            }
            inspected => {
                let (rule, told) = match decided {
                    Ok(permit) => (Some(permit.rule().clone()), permitted(&permit, &steps)),
                    Err(reason) => (steps.refusing(&reason), refused(agent, &reason)),
                };
                let sent_path = steps.sent_path.as_ref().map(shown);
                let route = inspected.map(|_| RouteKind::Intercept);
                (route, rule, Explanation { sent_path, ..told })
            }
        };
        Explanation {
            route,
            host: rule.as_ref().and_then(|rule| self.host_of(agent, asked, rule)),
            considered: self.considered(agent, asked, &steps, rule.as_ref()),
            rule: rule.map(|rule| rule.to_string()),
            ..told
        }
    }

    /// The pattern of a rule, binding or set that matches the target.
    fn host_of(&self, agent: &Agent, asked: &PolicyRequest<'_>, rule: &RuleId) -> Option<String> {
        let org = self.org(&agent.org);
        let candidates = org.rules.candidates(&agent.id, asked.target);
        if let Some(by) = candidates.iter().find(|by| by.compiled.rule.id == *rule) {
            return by.pattern.map(ToString::to_string);
        }
        let held = self.held(org, agent)?;
        let mut entries = held.by_host.matching(asked.target);
        if let Some(entry) = entries.find(|entry| held.numbered(entry.value).id == *rule) {
            return Some(entry.pattern.to_string());
        }
        let allowed = held.allow.allowing(asked.target, asked.method, asked.path, asked.query);
        Some(allowed.filter(|by| by.rule == rule)?.pattern?.to_string())
    }
}

fn permitted(permit: &Permit, steps: &Explained) -> Explanation {
    match permit.action() {
        Action::Inject(wanted) => Explanation {
            connection: Some(wanted.name.to_string()),
            connection_id: Some(wanted.connection.clone()),
            passed_over: steps.passed_over.clone(),
            ..Explanation::of(ActionKind::Inject)
        },
        Action::Pass => Explanation::of(ActionKind::Pass),
    }
}

fn refused(agent: &Agent, reason: &Reason) -> Explanation {
    let RefusalText { code, message, hint } = reason.text_for(agent);
    Explanation {
        connection: reason.connection().map(ToString::to_string),
        code: Some(code),
        message: Some(message),
        hint,
        way_in: reason.way_in().cloned(),
        ..Explanation::of(ActionKind::Deny)
    }
}

/// A masked path in readable form.
fn shown(path: &DecodedPath) -> String {
    path.as_str().replace(mask::SECRET, "{credential}").replace(mask::OPEN, "{value}")
}

impl Explanation {
    fn of(action: ActionKind) -> Self {
        Self {
            route: None,
            action,
            rule: None,
            host: None,
            sent_path: None,
            connection: None,
            connection_id: None,
            passed_over: Vec::new(),
            code: None,
            message: None,
            hint: None,
            way_in: None,
            considered: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::samples::Sample;
    use crate::policy::{PolicyInput, RuleAction};

    #[test]
    fn an_explanation_names_rule_host_and_connection() {
        let sample = Sample::new();
        let work = Sample::account("work", &["*.a.test"]);
        let spec = PolicyInput { bindings: vec![sample.bound(&work)], ..PolicyInput::default() };
        let policy = Policy::compile(spec).expect("a policy");
        let got = sample.explain(&policy, "GET https://x.a.test/");
        assert_eq!(got.route, Some(RouteKind::Intercept));
        assert_eq!(got.action, ActionKind::Inject);
        assert_eq!(got.rule, Some(format!("binding:{}", work.id)));
        assert_eq!(got.host.as_deref(), Some("*.a.test"));
        assert_eq!(got.connection.as_deref(), Some("work"));
        assert_eq!(got.connection_id.as_ref(), Some(&work.id));
        assert_eq!((got.code, got.hint), (None, None));
    }

    #[test]
    fn an_explanation_of_a_refusal_has_a_code_a_message_and_a_remedy() {
        let sample = Sample::new();
        let rules = vec![Sample::rule("no", &["*.a.test"], RuleAction::Deny)];
        let policy =
            Policy::compile(PolicyInput { rules, ..PolicyInput::default() }).expect("a policy");
        let got = sample.explain(&policy, "GET https://x.a.test/");
        assert_eq!(got.route, Some(RouteKind::Deny));
        assert_eq!((got.code, got.rule.as_deref()), (Some(Code::Denied), Some("no")));
        assert_eq!(got.message.as_deref(), Some("rule `no` denies this"));
        let got = sample.explain(&policy, "GET http://b.test/");
        assert_eq!((got.route, got.code), (None, Some(Code::DefaultDeny)));
        assert_eq!(got.rule.as_deref(), Some("default"));
        assert!(got.hint.is_some_and(|hint| hint.contains("keyward rule add pass b.test")));
    }
}
