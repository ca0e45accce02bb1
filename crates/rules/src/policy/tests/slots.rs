//! Tests of slots: the union that a binding gets, and the effect of a blocked plugin.

use std::sync::Arc;

use http::Method;

use super::samples::Sample;
use super::world::{World, in_state, uses, with_prefix, work};
use crate::actions::ActionScope;
use crate::inject::placeholder::{Placeholder, PlaceholderCore};
use crate::policy::slots::{ActionList, Blocked, EmptySlot, Extent, Parts, Slot, SlotProblem};
use crate::policy::{
    Account, AccountState, AgentBindings, DefaultAction, LostAccount, OwnAuthorization, Rule,
};
use keyward_base::agent::Agent;
use keyward_base::pattern::{HostPattern, PathPattern};

fn blocked() -> Arc<Blocked> {
    let (plugin, slot) = ("p".into(), "other".into());
    Arc::new(Blocked { plugin, slot, connection: None, problem: SlotProblem::Empty, remedy: None })
}

fn slot(methods: &[Method], paths: &[&str], blocked: Option<Arc<Blocked>>) -> Arc<Slot> {
    let paths = paths.iter().map(|text| PathPattern::parse(text).expect(text)).collect();
    let (plugin, name) = ("p".into(), "s".into());
    let (methods, own_authorization) = (methods.to_vec(), OwnAuthorization::Refuse);
    Arc::new(Slot { plugin, name, methods, paths, allow: None, own_authorization, blocked })
}

/// A world in which `ci` has the connection in these slots.
fn with(account: &Arc<Account>, slots: Vec<Arc<Slot>>) -> World {
    let mut world = World::new().bind(account);
    world.spec.bindings[0].extent = Extent::Parts(Parts { allow: None, slots });
    world
}

#[test]
fn a_slot_permits_its_methods_on_its_paths_and_nothing_else() {
    let world = with(&work(), vec![slot(&[Method::GET], &["/v1/**"], None)]);
    for (line, says) in [
        ("GET https://api.a.test/v1/x", "inject work by binding"),
        ("GET https://api.a.test/v2", "denied"),
        ("POST https://api.a.test/v1/x", "denied"),
        ("HEAD https://api.a.test/v1/x", "denied"),
        ("GET https://api.a.test/v1//x", "bad_target"),
        ("POST https://api.a.test/v1//x", "denied"),
    ] {
        assert_eq!(world.ci(line), says, "{line}");
    }
    let core = world.core(&world.spec.bindings[0].account);
    let said = world.says(&world.ci, "POST https://api.a.test/v1/x", &[core], Some("work"));
    assert_eq!(said, "denied", "choosing the connection widens nothing");
}

/// `GET /v1/**`, as an action.
fn actions(name: &str, method: &Method, path: &str) -> ActionList {
    let scope = ActionScope {
        methods: vec![method.clone()],
        paths: vec![PathPattern::parse(path).expect("a path")],
        ..ActionScope::default()
    };
    ActionList { names: vec![name.into()], scopes: vec![scope], lost: None }
}

#[test]
fn a_binding_permits_its_allowed_actions_and_denies_its_denied_actions() {
    let mut world = World::new().bind(&work());
    let read = actions("read", &Method::GET, "/v1/**");
    world.spec.bindings[0].extent =
        Extent::Parts(Parts { allow: Some(read.clone()), slots: Vec::new() });
    world.spec.bindings[0].deny = Some(actions("secrets", &Method::GET, "/v1/secrets/**"));
    for (line, says) in [
        ("GET https://api.a.test/v1/x", "inject work by binding"),
        ("GET https://api.a.test/v1/secrets/x", "denied"),
        ("GET https://api.a.test/v2", "denied"),
        ("POST https://api.a.test/v1/x", "denied"),
        ("GET https://api.a.test/v1//x", "bad_target"),
    ] {
        assert_eq!(world.ci(line), says, "{line}");
    }
    // The slots of plugins add to what the binding allows, and not to what it denies.
    let more = slot(&[Method::POST], &["/v1/**", "/v1/secrets/**"], None);
    world.spec.bindings[0].extent = Extent::Parts(Parts { allow: Some(read), slots: vec![more] });
    for (line, says) in [
        ("POST https://api.a.test/v1/x", "inject work by binding"),
        ("GET https://api.a.test/v1/x", "inject work by binding"),
        ("GET https://api.a.test/v1/secrets/x", "denied"),
        ("PUT https://api.a.test/v1/x", "denied"),
    ] {
        assert_eq!(world.ci(line), says, "with a slot: {line}");
    }
}

#[test]
fn a_denied_action_refuses_its_requests_and_a_lost_one_refuses_all() {
    let mut world = World::new().bind(&work());
    world.spec.bindings[0].deny = Some(actions("write", &Method::POST, "/**"));
    assert_eq!(world.ci("POST https://api.a.test/v1/x"), "denied");
    assert_eq!(world.ci("GET https://api.a.test/v1/x"), "inject work by binding");
    let lost = ActionList { lost: Some("gone".into()), ..ActionList::default() };
    world.spec.bindings[0].deny = Some(lost);
    assert_eq!(world.ci("GET https://api.a.test/v1/x"), "denied", "what it denies is not known");
}

#[test]
fn a_slot_permits_its_actions_within_its_methods_and_paths() {
    let slot = Slot {
        allow: Some(actions("read", &Method::GET, "/v1/**")),
        ..(*slot(&[], &["/v1/a", "/v2"], None)).clone()
    };
    let world = with(&work(), vec![Arc::new(slot)]);
    for (line, says) in [
        ("GET https://api.a.test/v1/a", "inject work by binding"),
        ("GET https://api.a.test/v1/b", "denied"),
        ("GET https://api.a.test/v2", "denied"),
        ("POST https://api.a.test/v1/a", "denied"),
    ] {
        assert_eq!(world.ci(line), says, "{line}");
    }
}

#[test]
fn a_slot_must_permit_both_the_received_and_the_sent_path() {
    let line = "GET https://api.a.test/getMe";
    let bot = with_prefix("/bot{key}/");
    for (paths, says) in [
        (&["/getMe"][..], "denied"),
        (&["/bot*/getMe"], "denied"),
        (&["/getMe", "/bot*/getMe"], "inject bot by binding"),
    ] {
        let world = with(&bot, vec![slot(&[], paths, None)]);
        assert_eq!(world.ci(line), says, "{paths:?}");
    }
}

#[test]
fn slots_permit_their_union_and_a_whole_binding_permits_everything() {
    let slots = || vec![slot(&[Method::GET], &[], None), slot(&[Method::PUT], &["/in"], None)];
    let world = with(&work(), slots());
    for (line, says) in [
        ("GET https://api.a.test/x", "inject work by binding"),
        ("GET https://api.a.test/x//y", "inject work by binding"),
        ("PUT https://api.a.test/in", "inject work by binding"),
        ("PUT https://api.a.test/x", "denied"),
    ] {
        assert_eq!(world.ci(line), says, "{line}");
    }
    let account = work();
    let world = with(&account, slots()).bind(&account);
    assert_eq!(world.ci("DELETE https://api.a.test/x"), "inject work by binding");
    assert_eq!(with(&account, Vec::new()).ci("GET https://api.a.test/"), "default_deny");
}

#[test]
fn a_rule_without_agents_narrows_a_slot_and_one_with_agents_is_a_grant() {
    let account = work();
    let world = with(&account, vec![slot(&[Method::GET], &[], None)]).rule(uses("r", &account));
    assert_eq!(world.ci("GET https://api.a.test/"), "inject work by r");
    assert_eq!(world.ci("PUT https://api.a.test/"), "denied");
    let granted = |world: World| {
        let agents = Some(vec![world.ci.id.clone()]);
        world.rule(Rule { agents, ..uses("g", &account) })
    };
    let world = granted(with(&account, vec![slot(&[Method::GET], &[], None)]));
    assert_eq!(world.ci("PUT https://api.a.test/"), "inject work by g");
}

#[test]
fn a_blocked_plugin_permits_nothing_unless_another_one_does() {
    let get = "GET https://api.a.test/";
    let world = with(&work(), vec![slot(&[], &[], Some(blocked()))]);
    assert_eq!(world.ci(get), "plugin_blocked");
    let other = slot(&[Method::GET], &[], None);
    let world = with(&work(), vec![slot(&[], &[], Some(blocked())), other]);
    assert_eq!(world.ci(get), "inject work by binding");
    assert_eq!(world.ci("PUT https://api.a.test/"), "plugin_blocked");
    for (state, code) in [
        (AccountState::Paused, "connection_paused"),
        (AccountState::Broken("revoked".into()), "connection_broken"),
        (AccountState::Draft(None), "connection_missing"),
    ] {
        let world = with(&in_state("down", state), vec![slot(&[], &[], Some(blocked()))]);
        assert_eq!(world.ci(get), code, "its own state says more");
    }
}

#[test]
fn an_empty_slot_is_named_to_its_own_agent_at_the_hosts_of_its_connection() {
    for default in [DefaultAction::Deny, DefaultAction::Pass, DefaultAction::Tunnel] {
        let mut world = World::new().default(default);
        let (org, agent) = (world.ci.org.clone(), world.ci.id.clone());
        let hosts = vec![HostPattern::parse("api.a.test").expect("a pattern")];
        world.spec.empty.push(EmptySlot { org, agent, hosts, blocked: blocked() });
        assert_eq!(world.ci("GET https://api.a.test/"), "plugin_blocked", "{default:?}");
        let dev = world.says(&world.dev, "GET https://api.a.test/", &[], None);
        assert_ne!(dev, "plugin_blocked", "{default:?}");
        let world = world.bind(&work());
        assert_eq!(world.ci("GET https://api.a.test/"), "inject work by binding");
    }
}

#[test]
fn a_placeholder_of_a_removed_connection_names_it_and_any_other_is_foreign() {
    let core = || Placeholder::issue("", None).core();
    let (old, new, unknown) = (core(), core(), core());
    let lost = |name: &str, cores: Option<PlaceholderCore>| LostAccount {
        name: name.into(),
        hosts: vec![HostPattern::parse("api.a.test").expect("a pattern")],
        cores: cores.map(|core| [core].into()),
    };
    let world = World::new();
    let told = |lost: Vec<LostAccount>, agent: &Agent, core: PlaceholderCore, host: &str| {
        let mut policy = world.policy();
        let held = AgentBindings { lost, ..AgentBindings::default() };
        policy.set_held(&world.ci.org, &world.ci.id, held);
        Sample::ask(&format!("GET https://{host}/"), &[core], None, |asked| {
            policy.decide(agent, asked).expect_err("nothing allows it").text().message
        })
    };
    let both = || vec![lost("old", Some(old)), lost("new", Some(new))];
    for (core, host) in [(unknown, "api.a.test"), (old, "api.b.test"), (old, "api.a.test:8443")] {
        let message = told(both(), &world.ci, core, host);
        assert!(message.starts_with("the placeholder is unknown"), "{message}");
    }
    assert!(told(both(), &world.dev, old, "api.a.test").starts_with("the placeholder is unknown"));
    for (core, name) in [(old, "old"), (new, "new")] {
        let message = told(both(), &world.ci, core, "api.a.test");
        assert_eq!(message, format!("connection `{name}` was removed"));
    }
    // Its placeholders were not kept by the version that removed it.
    let message = told(vec![lost("older", None)], &world.ci, unknown, "api.a.test");
    assert_eq!(message, "connection `older` was removed");
}

/// A refusal names a connection that was removed, where nothing else allows the request.
#[test]
fn a_removed_connection_is_named_to_its_own_agent_where_nothing_allows_the_request() {
    let lost = || LostAccount {
        name: "work".into(),
        hosts: vec![HostPattern::parse("api.a.test").expect("a pattern")],
        cores: None,
    };
    let told = |world: &World, agent: &Agent, line: &str| {
        let mut policy = world.policy();
        let held = AgentBindings { lost: vec![lost()], ..AgentBindings::default() };
        policy.set_held(&world.ci.org, &world.ci.id, held);
        let found = Sample { agent: agent.clone() }.explain(&policy, line);
        found.message.filter(|_| found.code.is_some())
    };
    let world = World::new();
    let message = told(&world, &world.ci, "GET https://api.a.test/");
    assert_eq!(message.as_deref(), Some("connection `work` was removed"));
    for (agent, line) in [
        (&world.ci, "GET https://api.b.test/"),
        (&world.ci, "GET https://api.a.test:8443/"),
        (&world.dev, "GET https://api.a.test/"),
    ] {
        let message = told(&world, agent, line);
        assert!(message.is_some_and(|message| !message.contains("work")), "{line}");
    }
    for open in [DefaultAction::Pass, DefaultAction::Tunnel] {
        let world = World::new().default(open);
        assert_eq!(told(&world, &world.ci, "GET https://api.a.test/"), None, "{open:?}");
    }
}
