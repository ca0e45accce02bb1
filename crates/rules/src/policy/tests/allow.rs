//! Sets of hosts: what they do not allow, and what precedes them.

use http::Method;

use super::samples::{Sample, agent_of};
use super::world::{World, in_state, only, short, under, uses, work};
use crate::policy::explain::{ActionKind, RouteKind};
use crate::policy::{AccountState, AgentBindings, AllowedSets, DefaultAction, RuleAction};
use keyward_base::id::OrgId;

#[test]
fn a_set_allows_no_other_method_path_host_port_or_agent() {
    let world = World::new().allow(&["pip", "cargo", "github-read"]);
    for (line, code) in [
        ("POST https://pypi.org/legacy/", "default_deny"),
        ("get https://pypi.org/simple/six/", "default_deny"),
        ("GET https://pypi.org:8443/simple/six/", "port_refused"),
        ("GET https://x.pypi.org/simple/six/", "default_deny"),
        ("GET https://registry.npmjs.org/left-pad", "default_deny"),
        ("PUT https://crates.io/api/v1/crates/new", "default_deny"),
        ("GET https://crates.io/api/v1/me", "default_deny"),
        ("GET https://crates.io/api/v1/crates/a%2fme", "default_deny"),
        ("POST https://github.com/o/r.git/git-receive-pack", "default_deny"),
        ("POST https://github.com/o/r/issues", "default_deny"),
        ("GET https://example.com/", "default_deny"),
        ("TRACE https://pypi.org/simple/", "method_refused"),
    ] {
        assert_eq!(world.ci(line), code, "{line}");
    }
    assert_eq!(world.dev("GET https://pypi.org/simple/six/"), "default_deny");
    let stranger = agent_of(OrgId::random(), "ci");
    let said = world.says(&stranger, "GET https://pypi.org/simple/six/", &[], None);
    assert_eq!(said, "default_deny");
}

#[test]
fn a_set_that_allows_a_query_allows_no_other() {
    let world = World::new().allow(&["go"]);
    for (query, said) in [
        ("", "default_deny"),
        ("?go-get=1&a=b", "default_deny"),
        ("?go-get=0", "default_deny"),
        ("?go-get=1", "pass by allow:go"),
    ] {
        assert_eq!(world.ci(&format!("GET https://gitlab.com/g/s/p{query}")), said, "{query}");
    }
}

#[test]
fn an_override_method_must_be_in_the_set_too() {
    let world = World::new().allow(&["pip"]);
    let policy = world.policy();
    Sample::ask("GET https://pypi.org/x", &[], None, |asked| {
        let asked = crate::policy::PolicyRequest { overrides: &[Method::DELETE], ..*asked };
        assert!(policy.decide(&world.ci, &asked).is_err());
    });
}

#[test]
fn rules_and_bindings_precede_sets() {
    let host = "https://api.a.test/";
    let denied = World::new().allow(&["web"]).deny("no", &["api.a.test"]);
    assert_eq!(denied.ci(&format!("GET {host}")), "denied");
    assert_eq!(denied.ci("GET https://b.test/"), "pass by allow:web");
    let bound = World::new().allow(&["web"]).bind(&work());
    let policy = bound.policy();
    let rule = Sample::ask(&format!("GET {host}"), &[], None, |asked| {
        short(policy.decide(&bound.ci, asked).unwrap().rule()).to_owned()
    });
    assert_eq!(rule, "binding");
    let paused = World::new().allow(&["web"]).bind(&in_state("work", AccountState::Paused));
    assert_eq!(paused.ci(&format!("GET {host}")), "connection_paused");
    let lacking = World::new().allow(&["web"]).rule(uses("u", &work()));
    assert_eq!(lacking.ci(&format!("GET {host}")), "connection_missing");
    let only_get = only(Method::GET, Sample::rule("g", &["pypi.org"], RuleAction::Deny));
    let some = World::new().allow(&["pip"]).rule(only_get);
    assert_eq!(some.ci("GET https://pypi.org/"), "denied");
    assert_eq!(some.ci("HEAD https://pypi.org/"), "pass by allow:pip");
}

#[test]
fn a_set_passes_no_request_with_a_placeholder_or_a_named_connection() {
    let account = work();
    let world = World::new().allow(&["web"]).bind(&account);
    let core = world.core(&account);
    let ask = |cores: &[_], named| world.says(&world.ci, "GET https://b.test/", cores, named);
    assert_eq!(ask(&[core], None), "placeholder_foreign");
    assert_eq!(ask(&[], Some("work")), "denied");
    assert_eq!(ask(&[], Some("other")), "connection_missing");
    assert_eq!(ask(&[], None), "pass by allow:web");
}

#[test]
fn a_set_passes_no_request_to_an_oauth_endpoint() {
    let world = World::new().allow(&["web"]).oauth_endpoint("b.test", "/token");
    assert_eq!(world.ci("POST https://b.test/token"), "token_endpoint_refused");
    assert_eq!(world.ci("POST https://b.test/other"), "pass by allow:web");
}

#[test]
fn the_set_web_allows_every_host_on_ports_80_and_443() {
    let world = World::new().allow(&["web"]);
    for line in ["POST https://b.test/x", "DELETE http://b.test/", "GET https://1.2.3.4/"] {
        assert_eq!(world.ci(line), "pass by allow:web", "{line}");
    }
    assert_eq!(world.ci("GET https://b.test:22/"), "port_refused");
    // The connection has other paths of the host only.
    let partly = World::new().allow(&["web"]).bind(&under("work", "api.a.test", "/v1/**"));
    assert_eq!(partly.ci("GET https://api.a.test/v2"), "pass by allow:web");
}

#[test]
fn the_deciding_set_is_the_first_that_allows_the_request() {
    for (sets, rule) in [
        (&["packages"][..], "pass by allow:packages"),
        (&["pip", "packages"], "pass by allow:pip"),
        (&["cargo", "packages", "pip"], "pass by allow:packages"),
        (&["yarn"], "default_deny"),
        (&["no-such-set"], "default_deny"),
        (&[], "default_deny"),
    ] {
        let world = World::new().allow(sets);
        assert_eq!(world.ci("GET https://pypi.org/simple/six/"), rule, "{sets:?}");
    }
    let yarn = World::new().allow(&["yarn"]);
    assert_eq!(yarn.ci("GET https://registry.npmjs.org/x"), "pass by allow:yarn");
    let twice = World::new().allow(&["packages"]).default(DefaultAction::Pass);
    assert_eq!(twice.ci("GET http://pypi.org/simple/"), "pass by allow:packages");
    assert_eq!(twice.ci("POST https://pypi.org/legacy/"), "pass by default");
}

#[test]
fn a_target_of_a_set_is_intercepted_for_its_agent_alone() {
    let world = World::new().allow(&["pip"]);
    assert_eq!(world.route(&world.ci, "pypi.org"), "intercept");
    assert_eq!(world.route(&world.ci, "pypi.org:8443"), "deny port_refused");
    assert_eq!(world.route(&world.dev, "pypi.org"), "deny default_deny");
    let web = World::new().allow(&["web"]).default(DefaultAction::Tunnel);
    assert_eq!(web.route(&web.ci, "b.test"), "intercept");
    assert_eq!(web.route(&web.dev, "b.test"), "tunnel default");
}

#[test]
fn a_refusal_names_the_set_that_would_allow_the_request() {
    let world = World::new();
    let hint = |line: &str| {
        let policy = world.policy();
        let sample = Sample { agent: world.ci.clone() };
        sample.explain(&policy, line).hint.unwrap()
    };
    assert!(hint("GET http://pypi.org/x").contains("`keyward agent set ci --allow packages`"));
    assert!(!hint("POST http://pypi.org/x").contains("--allow"), "it would not help");
    assert!(!hint("GET http://example.com/").contains("--allow"));
}

#[test]
fn an_explanation_names_the_set_and_its_host() {
    let world = World::new().allow(&["packages"]);
    let sample = Sample { agent: world.ci.clone() };
    let got = sample.explain(&world.policy(), "GET https://pypi.org/simple/six/");
    assert_eq!((got.route, got.action), (Some(RouteKind::Intercept), ActionKind::Pass));
    assert_eq!(got.rule.as_deref(), Some("allow:packages"));
    assert_eq!(got.host.as_deref(), Some("pypi.org"));
}

#[test]
fn a_change_of_an_agents_sets_is_in_force_without_a_compilation() {
    let world = World::new();
    let mut policy = world.policy();
    let (org, id) = (&world.ci.org, &world.ci.id);
    let code = |policy: &crate::policy::Policy| {
        let sample = Sample { agent: world.ci.clone() };
        sample.explain(policy, "GET https://pypi.org/").code
    };
    let allow = AllowedSets::named(["pip"]);
    policy.set_held(org, id, AgentBindings { allow, ..AgentBindings::default() });
    assert_eq!(code(&policy), None);
    policy.set_held(org, id, AgentBindings::default());
    assert!(code(&policy).is_some());
}
