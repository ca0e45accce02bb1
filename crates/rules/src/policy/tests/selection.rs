//! Tests of the choice of a connection: placeholders, `Keyward-Connection`, specificity.

use http::Method;

use super::samples::Sample;
use super::world::{World, in_state, under, uses, work};
use crate::inject::placeholder::{Placeholder, PlaceholderCore};
use crate::policy::{AccountState, DefaultAction, Reason, Rule, RuleAction};

#[test]
fn a_connection_is_selected_by_placeholder_then_by_field_then_by_default() {
    let (one, two) =
        (Sample::account("one", &["api.a.test"]), Sample::account("two", &["api.a.test"]));
    let world = World::new().bind(&one).bind(&two);
    let (first, second) = (world.core(&one), world.core(&two));
    let id = two.id.to_string();
    for (cores, named, says) in [
        (&[][..], None, "inject one by binding"),
        (&[second], None, "inject two by binding"),
        (&[second, second], None, "inject two by binding"),
        (&[], Some("one"), "inject one by binding"),
        (&[], Some(&*id), "inject two by binding"),
        (&[second], Some("two"), "inject two by binding"),
        (&[first], Some("two"), "denied"),
        (&[first, second], None, "denied"),
        (&[], Some("three"), "connection_missing"),
        (&[], Some("ONE"), "connection_missing"),
        (&[], Some(""), "connection_missing"),
        (&[first], Some("three"), "connection_missing"),
    ] {
        let said = world.says(&world.ci, "GET https://api.a.test/", cores, named);
        assert_eq!(said, says, "{cores:?} {named:?}");
    }
}

#[test]
fn without_a_default_several_connections_are_refused_and_named() {
    let (one, two) =
        (Sample::account("one", &["api.a.test"]), Sample::account("two", &["api.a.test"]));
    let mut world = World::new().bind(&two).bind(&one);
    world.spec.bindings.iter_mut().for_each(|bound| bound.by_default = false);
    let names = |world: &World| {
        Sample::ask("GET https://api.a.test/", &[], None, |asked| {
            world.policy().decide(&world.ci, asked).map(|_| ())
        })
    };
    let refused = Reason::ConnectionAmbiguous { names: vec!["one".into(), "two".into()] };
    assert_eq!(names(&world), Err(refused));
    let line = "GET https://api.a.test/";
    let selected = world.says(&world.ci, line, &[], Some("one"));
    assert_eq!(selected, "inject one by binding");
    // A binding that may be the default is the default at any position.
    world.spec.bindings[1].by_default = true;
    assert_eq!(world.ci(line), "inject one by binding");
}

#[test]
fn a_connection_that_matches_by_two_patterns_counts_once() {
    let twice = ["api.a.test", "api.a.test:443"];
    let (one, two) = (Sample::account("one", &twice), Sample::account("two", &twice));
    let decided = |mut world: World| {
        world.spec.bindings.iter_mut().for_each(|bound| bound.by_default = false);
        Sample::ask("GET https://api.a.test/", &[], None, |asked| {
            world.policy().decide(&world.ci, asked).map(|_| ())
        })
    };
    let refused = Reason::ConnectionAmbiguous { names: vec!["one".into(), "two".into()] };
    assert_eq!(decided(World::new().bind(&two).bind(&one)), Err(refused));
    assert_eq!(decided(World::new().bind(&one)), Ok(()));
}

#[test]
fn the_first_binding_is_the_default_only_among_equally_specific_ones() {
    let (one, two) =
        (Sample::account("one", &["api.a.test"]), Sample::account("two", &["api.a.test"]));
    let line = "GET https://api.a.test/";
    for (first, second) in [(&one, &two), (&two, &one)] {
        let world = World::new().bind(first).bind(second);
        assert_eq!(world.ci(line), format!("inject {} by binding", first.name));
        // A rule that uses the default leaves the other requests to the rest.
        let rule = Rule { methods: vec![Method::POST], ..uses("r", first) };
        let world = world.rule(rule);
        assert_eq!(world.ci(line), format!("inject {} by binding", second.name));
        assert_eq!(world.ci("POST https://api.a.test/"), format!("inject {} by r", first.name));
    }
    let wide = Sample::account("wide", &["*.a.test"]);
    let world = World::new().bind(&wide).bind(&one);
    assert_eq!(world.ci(line), "inject one by binding", "the closer host precedes the default");
}

#[test]
fn an_explanation_names_the_connections_that_the_default_precedes() {
    let (one, two) =
        (Sample::account("one", &["api.a.test"]), Sample::account("two", &["api.a.test"]));
    let world = World::new().bind(&one).bind(&two);
    let over = |named: Option<&str>, rule: Option<Rule>| {
        let mut spec = world.spec.clone();
        spec.rules.extend(rule);
        let world = World { spec, ci: world.ci.clone(), dev: world.dev.clone() };
        Sample::ask("GET https://api.a.test/", &[], named, |asked| {
            world.policy().explain(&world.ci, asked).passed_over
        })
    };
    assert_eq!(over(None, None), ["two"]);
    assert_eq!(over(Some("one"), None), [""; 0]);
    assert_eq!(over(None, Some(uses("r", &one))), [""; 0]);
}

#[test]
fn foreign_placeholders_are_refused_everywhere() {
    let (work, elsewhere) = (work(), Sample::account("elsewhere", &["b.test"]));
    let pass = Sample::rule("pass", &["pass.test"], RuleAction::Pass);
    let world = World::new().bind(&work).bind(&elsewhere).rule(pass).deny("no", &["no.test"]);
    let unknown = Placeholder::issue("", None).core();
    let (mine, other) = (world.core(&work), world.core(&elsewhere));
    for (agent, core, line, says) in [
        (&world.ci, unknown, "GET https://api.a.test/", "placeholder_foreign"),
        (&world.ci, other, "GET https://api.a.test/", "placeholder_foreign"),
        (&world.ci, mine, "GET https://b.test/", "placeholder_foreign"),
        (&world.ci, mine, "GET https://evil.test/", "placeholder_foreign"),
        (&world.ci, mine, "GET https://api.a.test:8443/", "placeholder_foreign"),
        (&world.ci, mine, "GET https://pass.test/", "placeholder_foreign"),
        (&world.ci, unknown, "GET https://pass.test/", "placeholder_foreign"),
        (&world.ci, mine, "GET https://no.test/", "denied"),
        (&world.dev, mine, "GET https://api.a.test/", "placeholder_foreign"),
        (&world.ci, mine, "GET https://api.a.test/", "inject work by binding"),
    ] {
        assert_eq!(world.says(agent, line, &[core], None), says, "{line}");
    }
    let open = World { spec: world.spec.clone(), ..World::new() };
    let open = World { ci: world.ci.clone(), ..open }.default(DefaultAction::Pass);
    assert_eq!(open.says(&open.ci, "GET https://x.test/", &[mine], None), "placeholder_foreign");
}

#[test]
fn rule_field_and_placeholder_must_agree() {
    let (one, two) =
        (Sample::account("one", &["api.a.test"]), Sample::account("two", &["api.a.test"]));
    let pass = Sample::rule("p", &["p.test"], RuleAction::Pass);
    let world = World::new().bind(&one).bind(&two).rule(uses("r", &one)).rule(pass);
    let line = "GET https://api.a.test/";
    for (cores, named, says) in [
        (&[][..], None, "inject one by r"),
        (&[world.core(&one)], Some("one"), "inject one by r"),
        (&[world.core(&two)], None, "denied"),
        (&[], Some("two"), "denied"),
        (&[], Some("nobody"), "denied"),
    ] {
        assert_eq!(world.says(&world.ci, line, cores, named), says, "{cores:?} {named:?}");
    }
    assert_eq!(world.says(&world.ci, "GET https://p.test/", &[], Some("one")), "denied");
    let elsewhere = Sample::account("elsewhere", &["b.test"]);
    let world = world.bind(&elsewhere);
    assert_eq!(world.says(&world.ci, "GET https://b.test/", &[], Some("one")), "denied");
}

#[test]
fn the_most_specific_host_and_prefix_wins() {
    let world = World::new()
        .bind(&Sample::account("wide", &["*.a.test"]))
        .bind(&Sample::account("closer", &["*.x.a.test"]))
        .bind(&Sample::account("exact", &["y.x.a.test"]))
        .bind(&under("deep", "y.x.a.test", "/v1/admin/**"));
    for (line, says) in [
        ("GET https://b.a.test/", "inject wide by binding"),
        ("GET https://b.x.a.test/", "inject closer by binding"),
        ("GET https://y.x.a.test/v1", "inject exact by binding"),
        ("GET https://y.x.a.test/v1/admin/1", "inject deep by binding"),
        ("GET https://y.x.a.test/v1/administrator", "inject exact by binding"),
    ] {
        assert_eq!(world.ci(line), says, "{line}");
    }
    let alone = World::new().bind(&under("deep", "api.a.test", "/v1/**"));
    assert_eq!(alone.ci("GET https://api.a.test/v2"), "default_deny");
    let core = alone.core(&alone.spec.bindings[0].account);
    let said = alone.says(&alone.ci, "GET https://api.a.test/v2", &[core], None);
    assert_eq!(said, "placeholder_foreign");
}

#[test]
fn an_unusable_connection_is_refused_by_its_state_and_named_however_it_is_selected() {
    let line = "GET https://api.a.test/";
    let refused = |world: &World, cores: &[PlaceholderCore], named: Option<&str>| {
        let policy = world.policy();
        let decided = Sample::ask(line, cores, named, |asked| policy.decide(&world.ci, asked));
        let reason = decided.map(|_| ()).expect_err("it is refused");
        (reason.code().as_str(), reason.connection().map(ToString::to_string))
    };
    for (state, code) in [
        (AccountState::Draft(None), "connection_missing"),
        (AccountState::Draft(Some("declined".into())), "connection_missing"),
        (AccountState::Paused, "connection_paused"),
        (AccountState::Broken("revoked".into()), "connection_broken"),
    ] {
        let down = in_state("down", state);
        let world = World::new().bind(&down);
        let (core, expected) = (world.core(&down), (code, Some("down".to_owned())));
        assert_eq!(refused(&world, &[], None), expected);
        assert_eq!(refused(&world, &[core], None), expected);
        assert_eq!(refused(&world, &[], Some("down")), expected);
        // An account that is down is never replaced by another one.
        let world = world.bind(&work());
        assert_eq!(refused(&world, &[], None), expected);
        assert_eq!(refused(&world.rule(uses("r", &down)), &[], None), expected);
    }
}
