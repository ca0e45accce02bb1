//! Tests of routes, ports, cleartext and the messages of refusals.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;

use super::samples::{Sample, agent_of};
use super::world::{World, on_path, only, pattern, under, uses, work};
use crate::actions::ActionScope;
use crate::git_push::PushUnclear;
use crate::graphql::NotUnderstood;
use crate::policy::{
    Blocked, DefaultAction, OwnAuthorization, Reason, Rule, RuleAction, Slot, SlotProblem, WayIn,
};
use keyward_base::id::{AgentId, OrgId, RuleId};

#[test]
fn cleartext_needs_a_rule_that_allows_it() {
    let work = work();
    let line = "GET http://api.a.test/";
    let world = World::new().bind(&work);
    assert_eq!(world.ci(line), "plaintext_refused");
    let rule = uses("r", &work);
    assert_eq!(World::new().bind(&work).rule(rule.clone()).ci(line), "plaintext_refused");
    let world = world.rule(Rule { allow_plaintext: true, ..rule });
    assert_eq!(world.ci(line), "inject work by r");
    let permit = Sample::ask(line, &[], None, |asked| world.policy().decide(&world.ci, asked));
    assert!(permit.is_ok_and(|permit| permit.plaintext()));
}

#[test]
fn a_nonstandard_port_that_no_rule_or_connection_names_is_refused() {
    let work = Sample::account("work", &["api.a.test", "api.a.test:8443"]);
    let named = Sample::rule("n", &["b.test:9000"], RuleAction::Pass);
    let world = World::new().bind(&work).rule(named).default(DefaultAction::Pass);
    for (line, says, port_named) in [
        ("GET https://api.a.test/", "inject work by binding", false),
        ("GET https://api.a.test:8443/", "inject work by binding", true),
        ("GET https://b.test:9000/", "pass by n", true),
        ("GET https://b.test/", "pass by default", false),
    ] {
        assert_eq!(world.ci(line), says, "{line}");
        let permit = Sample::ask(line, &[], None, |asked| world.policy().decide(&world.ci, asked));
        assert_eq!(permit.map(|permit| permit.port_named()), Ok(port_named), "{line}");
    }
    for authority in ["api.a.test:9443", "b.test:22", "c.test:25", "c.test:8443"] {
        let line = format!("GET https://{authority}/");
        assert_eq!(world.ci(&line), "port_refused", "{line}");
        assert_eq!(world.route(&world.ci, authority), "deny port_refused", "{authority}");
    }
}

#[test]
fn a_refusal_claims_that_a_port_is_unnamed_only_if_no_rule_or_binding_names_it() {
    let pass = |name, hosts: &[&str]| Sample::rule(name, hosts, RuleAction::Pass);
    let mut world = World::new()
        .bind(&under("deep", "deep.test:9000", "/v1/**"))
        .rule(only(Method::GET, pass("gets", &["gets.test:9000"])))
        .rule(Rule {
            agents: Some(vec![AgentId::random()]),
            ..pass("theirs", &["theirs.test:9000"])
        })
        .rule(on_path("/rest/**", pass("rest", &[])))
        .rule(pass("late", &["late.test:9000"]));
    world.spec.known = vec![pattern("known.test:9000"), pattern("*.wide.test:9000")];
    let own = "no rule or binding of this agent is for port 9000 of this host";
    let host = "no rule or binding allows this host";
    let request = "no rule or binding allows this request: those for this host are for other methods or paths";
    for (line, says) in [
        // After a connection was unbound or removed, at most its provider is known.
        ("GET https://known.test:9000/", host),
        ("GET https://x.wide.test:9000/", host),
        ("GET https://gone.test:9000/", own),
        (
            "GET https://known.test:9001/",
            "no rule or binding of this agent is for port 9001 of this host",
        ),
        ("GET https://theirs.test:9000/", own),
        ("POST https://gets.test:9000/", request),
        ("GET https://deep.test:9000/v2", request),
        (
            "GET https://late.test:9000/rest/1",
            "rule `rest` does not name port 9000, and so allows ports 80 and 443 only",
        ),
    ] {
        let policy = world.policy();
        let decided = Sample::ask(line, &[], None, |asked| policy.decide(&world.ci, asked));
        let reason = decided.expect_err(line);
        assert_eq!(reason.text().message, says, "{line}");
        let by_port = matches!(reason, Reason::PortRefused { .. });
        assert_eq!(reason.code().as_str() == "port_refused", by_port, "{line}");
        let explained = Sample { agent: world.ci.clone() }.explain(&policy, line);
        assert_eq!(explained.message.as_deref(), Some(says), "{line}");
    }
    let world = world.default(DefaultAction::Pass);
    let policy = world.policy();
    let line = "GET https://known.test:9000/";
    let decided = Sample::ask(line, &[], None, |asked| policy.decide(&world.ci, asked));
    let reason = decided.expect_err(line);
    assert_eq!(reason.rule().map(RuleId::as_str), Some("default"));
}

#[test]
fn hosts_that_no_rule_or_binding_names_get_the_default() {
    for (default, route, request) in [
        (DefaultAction::Deny, "deny default_deny", "default_deny"),
        (DefaultAction::Tunnel, "tunnel default", "pass by default"),
        (DefaultAction::Pass, "intercept", "pass by default"),
    ] {
        let world = World::new().bind(&work()).default(default);
        assert_eq!(world.route(&world.ci, "x.test"), route);
        assert_eq!(world.ci("GET https://x.test/"), request);
        assert_eq!(world.route(&world.ci, "api.a.test"), "intercept");
    }
}

#[test]
fn a_denied_host_is_refused_on_both_usual_ports_with_and_without_tls() {
    let action = ActionScope { hosts: vec![pattern("api.test")], ..ActionScope::default() };
    let world = |default| {
        World::new()
            .deny("no", &["no.test", "*.b.test"])
            .rule(on_path("/x/**", Sample::rule("part", &["part.test"], RuleAction::Deny)))
            .rule(Rule {
                actions: vec![action.clone()],
                ..Sample::rule("a", &[], RuleAction::Deny)
            })
            .deny("tls", &["tls.test:443"])
            .rule(Sample::rule("open", &["part.test"], RuleAction::Pass))
            .default(default)
            .allow(&["web"])
    };
    for (line, says) in [
        ("GET http://no.test:443/", "denied"),
        ("GET https://no.test:80/", "denied"),
        ("GET http://x.b.test:443/", "denied"),
        ("GET http://part.test:443/x/y", "denied"),
        ("GET http://api.test:443/", "denied"),
        ("GET https://api.test:80/", "denied"),
        ("GET https://tls.test/", "denied"),
        ("GET https://no.test:8443/", "port_refused"),
        // A rule that allows is for one scheme at a port.
        ("GET http://part.test:443/", "pass by allow:web"),
        ("GET http://part.test/", "pass by open"),
        ("GET http://tls.test/", "pass by allow:web"),
        ("GET http://other.test:443/", "pass by allow:web"),
    ] {
        for default in [DefaultAction::Deny, DefaultAction::Pass, DefaultAction::Tunnel] {
            assert_eq!(world(default).ci(line), says, "{default:?} {line}");
        }
    }
    let explained = Sample { agent: world(DefaultAction::Pass).ci }
        .explain(&world(DefaultAction::Pass).policy(), "GET http://no.test:443/");
    assert_eq!(
        (explained.rule.as_deref(), explained.host.as_deref()),
        (Some("no"), Some("no.test"))
    );
}

#[test]
fn a_tunnel_never_hides_requests_that_a_rule_looks_at() {
    let no_delete = only(Method::DELETE, Sample::rule("d", &["*.b.test"], RuleAction::Deny));
    let work = work();
    let narrowed = only(Method::GET, uses("r", &work));
    let mirror = Sample::rule("m", &["*.mirror.test"], RuleAction::Tunnel);
    let world = World::new()
        .rule(mirror)
        .rule(no_delete)
        .rule(narrowed)
        .deny("no", &["no.test"])
        .default(DefaultAction::Tunnel);
    for (authority, route) in [
        ("x.mirror.test", "tunnel m"),
        ("x.b.test", "intercept"),
        ("api.a.test", "intercept"),
        ("no.test", "intercept"),
        ("x.test", "tunnel default"),
        ("mirror.test", "tunnel default"),
        ("x.mirror.test:8443", "deny port_refused"),
        // Cleartext is not seen in a tunnel.
        ("no.test:80", "deny denied"),
        ("x.b.test:80", "intercept"),
        ("x.test:80", "tunnel default"),
        ("no.test:8443", "deny port_refused"),
    ] {
        assert_eq!(world.route(&world.dev, authority), route, "{authority}");
    }
    // A stream that is already open cannot be spliced.
    assert_eq!(world.dev("GET https://x.mirror.test/"), "pass by m");
}

#[test]
fn refusals_are_answered_inside_tls_for_literal_names_only() {
    let mut world = World::new()
        .deny("exact", &["no.test"])
        .deny("wide", &["*.no.test"])
        .bind(&Sample::account("work", &["api.a.test", "*.a.test"]));
    world.spec.known.push(pattern("known.test"));
    for (authority, route) in [
        ("no.test", "intercept"),
        ("x.no.test", "deny denied"),
        ("known.test", "intercept"),
        ("x.known.test", "deny default_deny"),
        ("known.test:22", "deny port_refused"),
        ("api.a.test", "intercept"),
        ("x.a.test", "deny default_deny"),
        ("unknown.test", "deny default_deny"),
    ] {
        assert_eq!(world.route(&world.dev, authority), route, "{authority}");
    }
    let stranger = agent_of(OrgId::random(), "stranger");
    assert_eq!(world.route(&stranger, "no.test"), "deny default_deny");
    assert_eq!(world.route(&stranger, "known.test"), "intercept");
}

macro_rules! variants {
    ($($variant:ident)*) => {
        const VARIANTS: &[&str] = &[$(stringify!($variant)),*];

        fn variant(reason: &Reason) -> &'static str {
            match reason {
                $(Reason::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}

// A variant that is missing here does not compile.
variants! {
    Denied Narrowed UseRefused DefaultDeny NoneInSession PortRefused PlaceholderForeign
    PlaintextRefused TokenEndpoint Method PathAmbiguous QueryAmbiguous BodyUnread OperationsUnclear
    Indirect PushUnclear BeyondBranches CredentialInPath ConnectionMissing ConnectionRemoved ConnectionDraft
    Unbound ConnectionPaused ConnectionBroken BeyondSlot BeyondActions DeniedAction PluginBlocked
    ConnectionAmbiguous Login NotOwned NoPlace OwnAuthorization Contradiction
}

type ReasonRow = (Reason, &'static str, u16);

fn reasons_by_request(rule: &RuleId, name: &Arc<str>) -> Vec<ReasonRow> {
    let (rule, name) = (|| rule.clone(), || name.clone());
    let beyond = |deletes| Reason::BeyondBranches {
        rule: rule(),
        reference: "refs/heads/main".into(),
        deletes,
        branches: "`dev`".into(),
    };
    let web = Box::new(WayIn { host: "a.test".into(), sets: vec!["web".into()] });
    vec![
        (Reason::Denied { rule: rule() }, "denied", 403),
        (Reason::Narrowed { rule: rule(), connection: name() }, "denied", 403),
        (Reason::UseRefused { rule: rule(), connection: name() }, "denied", 403),
        (Reason::NotOwned { owned: "its hosts: a.test".to_owned() }, "denied", 403),
        (Reason::Contradiction { detail: "they differ" }, "denied", 403),
        (Reason::DefaultDeny { others: false, way: Box::default() }, "default_deny", 403),
        (Reason::DefaultDeny { others: false, way: web }, "default_deny", 403),
        (Reason::DefaultDeny { others: true, way: Box::default() }, "default_deny", 403),
        (Reason::NoneInSession, "default_deny", 403),
        (Reason::PortRefused { port: 25, rule: None }, "port_refused", 403),
        (Reason::PortRefused { port: 25, rule: Some(rule()) }, "port_refused", 403),
        (Reason::PlaceholderForeign { detail: "unknown" }, "placeholder_foreign", 403),
        (Reason::PlaintextRefused { connection: name() }, "plaintext_refused", 403),
        (Reason::OwnAuthorization { connection: name() }, "own_authorization", 403),
        (Reason::NoPlace { connection: name(), places: "/git/**".to_owned() }, "bad_request", 400),
        (Reason::TokenEndpoint { provider: name() }, "token_endpoint_refused", 403),
        (Reason::Method, "method_refused", 405),
        (Reason::PathAmbiguous { rule: rule() }, "bad_target", 400),
        (Reason::QueryAmbiguous { rule: rule() }, "bad_target", 400),
        (Reason::CredentialInPath { rule: rule() }, "denied", 403),
        (Reason::BodyUnread { rule: rule() }, "denied", 403),
        (Reason::OperationsUnclear { rule: rule(), why: NotUnderstood::Json }, "denied", 403),
        (Reason::Indirect { rule: rule() }, "denied", 403),
        (Reason::PushUnclear { rule: rule(), why: PushUnclear::Cut }, "denied", 403),
        (beyond(false), "denied", 403),
        (beyond(true), "denied", 403),
        // The message of an SSH login is its detail alone.
        (Reason::Login { detail: "it is none".to_owned(), connection: None }, "denied", 403),
    ]
}

fn reasons_by_connection(rule: &RuleId, connection: &Arc<str>) -> Vec<ReasonRow> {
    let name = || connection.clone();
    let slot = Arc::new(Slot {
        plugin: "crm".into(),
        name: "main".into(),
        methods: vec![Method::GET],
        paths: Vec::new(),
        allow: None,
        own_authorization: OwnAuthorization::Refuse,
        blocked: None,
    });
    let denied_action = |lost: Option<&str>| Reason::DeniedAction {
        connection: name(),
        denied: "write-code".to_owned(),
        lost: lost.map(Into::into),
    };
    let blocked = |connection, problem| {
        let (plugin, slot) = ("crm".into(), "main".into());
        Reason::PluginBlocked(Arc::new(Blocked { plugin, slot, connection, problem, remedy: None }))
    };
    let draft = |failure| Reason::ConnectionDraft { name: name(), failure, remedy: None };
    let broken = || SlotProblem::Broken("revoked".into());
    vec![
        (Reason::ConnectionMissing { name: name() }, "connection_missing", 424),
        (Reason::ConnectionRemoved { name: name() }, "connection_missing", 424),
        (draft(None), "connection_missing", 424),
        (draft(Some("declined".into())), "connection_missing", 424),
        (Reason::Unbound { rule: rule.clone() }, "connection_missing", 424),
        (Reason::ConnectionPaused { name: name(), remedy: None }, "connection_paused", 424),
        (
            Reason::ConnectionBroken { name: name(), reason: "revoked".into(), remedy: None },
            "connection_broken",
            424,
        ),
        (Reason::ConnectionAmbiguous { names: vec![name()] }, "connection_ambiguous", 424),
        (Reason::BeyondSlot { slot, connection: name() }, "denied", 403),
        (
            Reason::BeyondActions { connection: name(), allowed: "read-code".to_owned() },
            "denied",
            403,
        ),
        (denied_action(None), "denied", 403),
        (denied_action(Some("gone")), "denied", 403),
        (blocked(None, SlotProblem::Empty), "plugin_blocked", 424),
        (blocked(Some(name()), SlotProblem::Draft), "plugin_blocked", 424),
        (blocked(Some(name()), SlotProblem::Paused), "plugin_blocked", 424),
        (blocked(Some(name()), broken()), "plugin_blocked", 424),
    ]
}

#[test]
fn a_refusal_has_a_code_a_status_and_a_message_with_its_rule_and_connection() {
    let (rule, name): (_, Arc<str>) = (RuleId::new("rule-7"), "work-7".into());
    let mut missing: BTreeSet<_> = VARIANTS.iter().copied().collect();
    let reasons = reasons_by_request(&rule, &name).into_iter();
    for (reason, code, status) in reasons.chain(reasons_by_connection(&rule, &name)) {
        missing.remove(variant(&reason));
        let text = reason.text();
        assert_eq!((text.code.as_str(), text.code.status().as_u16()), (code, status));
        let message = text.message;
        assert!(!message.is_empty() && !message.ends_with('.'), "{message}");
        let named = reason.connection().map(|name| &**name).into_iter();
        for name in named.chain(reason.rule().map(RuleId::as_str)) {
            assert!(message.contains(name), "{message}");
        }
    }
    assert!(missing.is_empty(), "no refusal of {missing:?}");
}
