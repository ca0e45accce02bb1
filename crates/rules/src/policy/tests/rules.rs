//! Tests of rules and bindings: what they allow, restrict and refuse.

use http::Method;

use super::samples::Sample;
use super::world::{World, on_path, only, path_pattern, under, uses, with_prefix, work};
use crate::actions::ActionScope;
use crate::policy::{
    DefaultAction, Policy, PolicyInput, PolicyRequest, Reason, Rule, RuleAction, RuleOutcome, WayIn,
};
use keyward_base::agent::Agent;
use keyward_base::id::{AgentId, OrgId, RuleId};
use keyward_base::pattern::PathPattern;

#[test]
fn nothing_is_allowed_by_an_empty_policy() {
    let (policy, agent) = (Policy::empty(), Sample::new().agent);
    for line in ["GET https://a.test/", "GET http://a.test/", "GET https://10.0.0.1/"] {
        let decided = Sample::ask(line, &[], None, |asked| policy.decide(&agent, asked));
        let host = line.rsplit("//").next().unwrap().trim_end_matches('/').to_owned();
        let way = WayIn { host, sets: Vec::new() };
        assert_eq!(
            decided.map(|_| ()),
            Err(Reason::DefaultDeny { others: false, way: Box::new(way) }),
            "{line}"
        );
    }
}

#[test]
fn a_binding_injects_on_the_hosts_of_its_provider_only() {
    let world = World::new().bind(&Sample::account("work", &["api.a.test", "*.b.test"]));
    for (line, says) in [
        ("GET https://api.a.test/x", "inject work by binding"),
        ("GET https://API.A.TEST./x", "inject work by binding"),
        ("POST https://x.b.test/", "inject work by binding"),
        ("GET https://a.test/", "default_deny"),
        ("GET https://b.test/", "default_deny"),
        ("GET https://evilapi.a.test/", "default_deny"),
        ("GET https://api.a.test.evil.test/", "default_deny"),
        ("GET https://evilb.test/", "default_deny"),
        ("GET https://api.a.test:8443/", "port_refused"),
        ("GET https://api.a.test:80/", "default_deny"),
        ("GET http://api.a.test:443/", "default_deny"),
        ("GET http://api.a.test/", "plaintext_refused"),
    ] {
        assert_eq!(world.ci(line), says, "{line}");
    }
    assert_eq!(world.dev("GET https://api.a.test/x"), "default_deny");
}

#[test]
fn rules_bindings_and_placeholders_have_no_effect_in_another_org() {
    let work = work();
    let world = World::new().bind(&work).deny("no", &["x.test"]).default(DefaultAction::Pass);
    let stranger = Agent { org: OrgId::random(), ..world.ci.clone() };
    for (line, says) in
        [("GET https://api.a.test/", "pass by default"), ("GET https://x.test/", "pass by default")]
    {
        assert_eq!(world.says(&stranger, line, &[], None), says, "{line}");
    }
    let core = world.core(&work);
    let line = "GET https://api.a.test/";
    assert_eq!(world.says(&stranger, line, &[core], None), "placeholder_foreign");
    assert_eq!(world.says(&stranger, line, &[], Some("work")), "connection_missing");
}

#[test]
fn the_first_matching_rule_decides() {
    let pass = |name, hosts: &[&str]| Sample::rule(name, hosts, RuleAction::Pass);
    let world = World::new()
        .rule(only(Method::DELETE, Sample::rule("no-delete", &["*.a.test"], RuleAction::Deny)))
        .rule(on_path("/open/**", pass("open", &["x.a.test"])))
        .deny("closed", &["x.a.test"])
        .rule(pass("rest", &[]));
    for (line, says) in [
        ("DELETE https://x.a.test/open/1", "denied"),
        ("delete https://x.a.test/open/1", "denied"),
        ("GET https://x.a.test/open/1", "pass by open"),
        ("GET https://x.a.test/open", "pass by open"),
        ("GET https://x.a.test/%6fpen/1", "pass by open"),
        ("GET https://x.a.test/opened", "denied"),
        ("GET https://y.a.test/", "pass by rest"),
        ("GET https://z.test/", "pass by rest"),
        ("GET https://z.test:25/", "port_refused"),
        ("GET http://z.test/", "pass by rest"),
    ] {
        assert_eq!(world.ci(line), says, "{line}");
    }
}

#[test]
fn methods_that_echo_or_tunnel_are_refused_everywhere() {
    let rest = Sample::rule("rest", &[], RuleAction::Pass);
    let world = World::new().rule(rest);
    for method in ["TRACE", "TRACK", "CONNECT", "trace", "Track", "connect"] {
        assert_eq!(world.ci(&format!("{method} https://a.test/")), "method_refused", "{method}");
    }
}

#[test]
fn a_rule_with_agents_and_use_is_itself_the_grant() {
    let work = work();
    let granted = |world: &World| Some(vec![world.ci.id.clone()]);
    let world = World::new();
    let agents = granted(&world);
    let world = world.rule(only(Method::GET, Rule { agents, ..uses("r", &work) }));
    assert_eq!(world.ci("GET https://api.a.test/"), "inject work by r");
    assert_eq!(world.ci("POST https://api.a.test/"), "default_deny");
    assert_eq!(world.dev("GET https://api.a.test/"), "default_deny");
}

#[test]
fn a_use_rule_without_agents_only_narrows_the_binding() {
    let work = work();
    let world = World::new().bind(&work).rule(only(Method::GET, uses("r", &work)));
    assert_eq!(world.ci("GET https://api.a.test/"), "inject work by r");
    assert_eq!(world.ci("POST https://api.a.test/"), "denied");
    assert_eq!(world.dev("GET https://api.a.test/"), "connection_missing");
    assert_eq!(world.dev("POST https://api.a.test/"), "default_deny");
    let open = world.default(DefaultAction::Pass);
    assert_eq!(open.ci("POST https://api.a.test/"), "denied");
    assert_eq!(open.dev("GET https://api.a.test/"), "connection_missing");
    assert_eq!(open.dev("POST https://api.a.test/"), "pass by default");
}

#[test]
fn a_narrowed_binding_injects_nothing_by_itself_on_any_host_of_its_provider() {
    let work = Sample::account("work", &["api.a.test", "up.a.test"]);
    let world = World::new().bind(&work).rule(only(Method::GET, uses("r", &work)));
    assert_eq!(world.ci("GET https://up.a.test/"), "denied");
    let line = "POST https://api.a.test/";
    assert_eq!(world.says(&world.ci, line, &[world.core(&work)], None), "denied");
    assert_eq!(world.says(&world.ci, line, &[], Some("work")), "denied");
    let inject = Sample::rule("any", &["api.a.test"], RuleAction::Inject);
    assert_eq!(world.rule(inject).ci(line), "denied");
}

#[test]
fn a_narrowed_binding_leaves_its_host_to_other_bindings() {
    let (work, other) = (work(), Sample::account("other", &["*.a.test"]));
    let rule = only(Method::GET, uses("r", &work));
    let world = World::new().bind(&work).bind(&other).rule(rule);
    assert_eq!(world.ci("GET https://api.a.test/"), "inject work by r");
    assert_eq!(world.ci("POST https://api.a.test/"), "inject other by binding");
}

#[test]
fn token_endpoints_get_no_credential_unless_a_rule_passes_them() {
    let work = work();
    let world = || World::new().bind(&work).oauth_endpoint("api.a.test", "/oauth/token");
    for (line, says) in [
        ("POST https://api.a.test/oauth/token", "token_endpoint_refused"),
        ("POST https://api.a.test/oauth/token/", "token_endpoint_refused"),
        ("POST https://api.a.test/%6fauth/tok%65n", "token_endpoint_refused"),
        ("POST https://api.a.test/oauth%2ftoken", "bad_target"),
        ("POST https://api.a.test//oauth/token", "bad_target"),
        ("POST https://api.a.test/oauth/token;x", "bad_target"),
        ("POST https://api.a.test/OAuth/Token", "token_endpoint_refused"),
        ("POST https://api.a.test/OAuth%2ftoken", "bad_target"),
        ("POST https://api.a.test/oauth/tokens", "inject work by binding"),
        // However the server reads it, it is not the endpoint: GitLab's clients send such paths.
        ("GET https://api.a.test/api/v4/projects/group%2Fname", "inject work by binding"),
        ("GET https://api.a.test/api/oauth%2Ftoken", "inject work by binding"),
    ] {
        assert_eq!(world().ci(line), says, "{line}");
        assert_eq!(world().default(DefaultAction::Pass).ci(line), says, "{line}");
    }
    let line = "POST https://api.a.test/oauth/token";
    assert_eq!(world().rule(uses("r", &work)).ci(line), "token_endpoint_refused");
    assert_eq!(world().dev(line), "default_deny");
    assert_eq!(world().default(DefaultAction::Pass).dev(line), "token_endpoint_refused");
    let pass = on_path("/oauth/token", Sample::rule("p", &["api.a.test"], RuleAction::Pass));
    assert_eq!(world().rule(pass).ci(line), "pass by p");
    // Apps of another organisation have no effect here.
    let bound = || World::new().bind(&work);
    let theirs = bound().org_oauth_endpoint(&OrgId::random(), "api.a.test", "/oauth/token");
    assert_eq!(theirs.ci(line), "inject work by binding");
    let ours = bound().org_oauth_endpoint(&bound().ci.org, "api.a.test", "/oauth/token");
    assert_eq!(ours.ci(line), "token_endpoint_refused");
}

#[test]
fn a_path_with_two_readings_is_refused_only_where_the_path_decides() {
    let line = "GET https://api.a.test/@scope%2fname";
    assert_eq!(World::new().bind(&work()).ci(line), "inject work by binding");
    let by_path = on_path("/admin/**", Sample::rule("d", &["api.a.test"], RuleAction::Deny));
    assert_eq!(World::new().bind(&work()).rule(by_path.clone()).ci(line), "bad_target");
    let mine = work();
    let settled = World::new().bind(&mine).rule(uses("u", &mine)).rule(by_path);
    assert_eq!(settled.ci(line), "inject work by u");
    assert_eq!(World::new().bind(&under("w", "api.a.test", "/v1/**")).ci(line), "bad_target");
    let elsewhere = on_path("/admin/**", Sample::rule("d", &["b.test"], RuleAction::Deny));
    assert_eq!(World::new().bind(&work()).rule(elsewhere).ci(line), "inject work by binding");
}

#[test]
fn a_rule_for_a_segment_at_any_depth_decides_wherever_a_path_has_it() {
    let deny = on_path("/v1/**/secrets/**", Sample::rule("d", &["api.a.test"], RuleAction::Deny));
    let world = || World::new().bind(&work()).rule(deny.clone());
    for (path, expected) in [
        ("/v1/secrets", "denied"),
        ("/v1/a/b/Secrets/x", "denied"),
        ("/v1/a%2Fsecrets", "bad_target"),
        ("/v1/a/secrets-of", "inject work by binding"),
        ("/v2/secrets", "inject work by binding"),
    ] {
        assert_eq!(world().ci(&format!("GET https://api.a.test{path}")), expected, "{path}");
    }
}

#[test]
fn a_denied_path_is_refused_in_any_case_and_an_allowed_one_is_exact() {
    let deny = || Sample::rule("d", &["api.a.test"], RuleAction::Deny);
    let action = ActionScope {
        paths: vec![path_pattern("/repos/acme/secret/**")],
        ..ActionScope::default()
    };
    let by_path = || World::new().rule(on_path("/repos/acme/secret/**", deny()));
    let by_action = || World::new().rule(Rule { actions: vec![action.clone()], ..deny() });
    for path in ["/repos/acme/secret/x", "/repos/ACME/secret/x", "/Repos/%41cme/SECRET"] {
        let line = format!("GET https://api.a.test{path}");
        for world in [by_path(), by_action()] {
            assert_eq!(world.bind(&work()).ci(&line), "denied", "{path}");
        }
        assert_eq!(by_path().default(DefaultAction::Pass).dev(&line), "denied", "{path}");
    }
    let line = "GET https://api.a.test/repos/acme/secrets";
    assert_eq!(by_path().bind(&work()).ci(line), "inject work by binding");
    let mine = work();
    let uses = || World::new().bind(&mine).rule(on_path("/repos/acme/**", uses("u", &mine)));
    assert_eq!(uses().ci("GET https://api.a.test/repos/acme/x"), "inject work by u");
    assert_eq!(uses().ci("GET https://api.a.test/repos/ACME/x"), "denied");
    let pass = on_path("/repos/acme/**", Sample::rule("p", &["api.a.test"], RuleAction::Pass));
    let pass = World::new().rule(pass);
    assert_eq!(pass.ci("GET https://api.a.test/repos/acme/x"), "pass by p");
    assert_eq!(pass.ci("GET https://api.a.test/repos/ACME/x"), "default_deny");
}

#[test]
fn a_denied_path_with_another_case_is_explained_and_found_through_overrides() {
    let sample = Sample::new();
    let deny = Sample::rule("d", &["api.a.test"], RuleAction::Deny);
    let rules = vec![on_path("/admin/*", only(Method::DELETE, deny))];
    let bindings = vec![sample.bound(&work())];
    let policy = Policy::compile(PolicyInput { rules, bindings, ..PolicyInput::default() });
    let policy = policy.expect("a policy");
    for (overrides, rule) in [(&[Method::DELETE][..], "d"), (&[], "binding")] {
        Sample::ask("POST https://api.a.test/Admin/1", &[], None, |asked| {
            let asked = PolicyRequest { overrides, ..*asked };
            let told = policy.explain(&sample.agent, &asked);
            let found = told.rule.as_deref().map(|rule| rule.split(':').next().unwrap_or(rule));
            assert_eq!(found, Some(rule));
        });
    }
    let fit = Sample::ask("DELETE https://api.a.test/ADMIN/1", &[], None, |asked| {
        policy.explain(&sample.agent, asked).considered[0].fit
    });
    assert_eq!(fit, RuleOutcome::Decides);
}

#[test]
fn an_inject_rule_uses_the_bound_connection_or_refuses() {
    let inject = Sample::rule("i", &["api.a.test"], RuleAction::Inject);
    let world = World::new().bind(&work()).rule(inject).default(DefaultAction::Pass);
    assert_eq!(world.ci("GET https://api.a.test/"), "inject work by i");
    assert_eq!(world.dev("GET https://api.a.test/"), "connection_missing");
}

#[test]
fn a_rule_with_a_removed_connection_refuses_and_is_not_skipped() {
    let world = World::new();
    let agents = Some(vec![world.ci.id.clone()]);
    let gone = Sample::rule("gone", &["api.a.test"], RuleAction::UseMissing("old".into()));
    let pass = Sample::rule("p", &["api.a.test"], RuleAction::Pass);
    let world = world.rule(Rule { agents, ..gone }).rule(pass);
    assert_eq!(world.ci("GET https://api.a.test/"), "connection_missing");
    assert_eq!(world.dev("GET https://api.a.test/"), "pass by p");
}

#[test]
fn rules_and_bindings_for_other_hosts_are_not_candidates() {
    let mut world = World::new().bind(&work()).deny("mine", &["api.a.test"]);
    for number in 0..5_000 {
        let (exact, wide) = (format!("h{number}.b.test"), format!("*.w{number}.test"));
        world = world.deny(&format!("r{number}"), &[&exact, &wide]);
        world = world.bind(&Sample::account(&format!("c{number}"), &[&exact, &wide]));
    }
    let policy = world.policy();
    let org = policy.org(&world.ci.org);
    Sample::ask("GET https://api.a.test/", &[], None, |asked| {
        assert_eq!(org.rules.candidates(&world.ci.id, asked.target).len(), 1);
        let held = policy.held(org, &world.ci).expect("it has bindings");
        assert_eq!(held.by_host.matching(asked.target).count(), 1);
    });
}

#[test]
fn a_path_that_gets_a_credential_is_checked_as_received_and_as_sent() {
    let bot = with_prefix("/bot{key}/");
    let line = |path: &str| format!("POST https://api.a.test{path}");
    let deny = |path: &str| on_path(path, Sample::rule("no", &["api.a.test"], RuleAction::Deny));
    for (rule, path, says) in [
        (deny("/bot*/sendMessage"), "/sendMessage", "denied"),
        (deny("/bot*/sendMessage"), "/bot1:k/sendMessage", "denied"),
        (deny("/sendMessage"), "/sendMessage", "denied"),
        (deny("/BOT*/sendMessage"), "/sendmessage", "denied"),
        (deny("/Bot7:k/sendMessage"), "/sendMessage", "denied"),
        (deny("/bot7*/sendMessage"), "/sendMessage", "denied"),
        (deny("/bot7:k/sendMessage"), "/sendMessage", "denied"),
        (deny("/bot*/sendMessage"), "/getMe", "inject bot by binding"),
        (deny("/bat*/sendMessage"), "/sendMessage", "inject bot by binding"),
        (deny("/bot*/sendMessage"), "/x%2fsendMessage", "bad_target"),
        (on_path("/getMe", uses("r", &bot)), "/getMe", "denied"),
        (on_path("/bot*/getMe", uses("r", &bot)), "/getMe", "denied"),
        (on_path("/bot*/getMe", uses("r", &bot)), "/botX/getMe", "denied"),
        (on_path("/**", uses("r", &bot)), "/getMe", "inject bot by r"),
    ] {
        let world = World::new().bind(&bot).rule(rule);
        assert_eq!(world.ci(&line(path)), says, "{path} {:?}", world.spec.rules);
    }
    // Two rules may permit the two paths; an earlier one that permits both goes before a `deny`.
    let world = World::new().bind(&bot);
    let world = world.rule(on_path("/getMe", uses("one", &bot)));
    let world = world.rule(on_path("/bot*/getMe", uses("two", &bot))).rule(deny("/**"));
    assert_eq!(world.ci(&line("/getMe")), "inject bot by one");
    assert_eq!(world.ci(&line("/sendMessage")), "denied");
    // The sent path is not an OAuth endpoint.
    let world = World::new()
        .bind(&with_prefix("/oauth/{key}/"))
        .oauth_endpoint("api.a.test", "/oauth/*/token");
    assert_eq!(world.ci(&line("/token")), "token_endpoint_refused");
    // A connection without a path prefix is unchanged.
    assert_eq!(
        World::new().bind(&work()).rule(deny("/bot*/x")).ci(&line("/x")),
        "inject work by binding"
    );
}

#[test]
fn a_rule_that_an_earlier_rule_shadows_completely_is_found() {
    let (org, any) = (Sample::new().agent.org, AgentId::random());
    let account = Sample::account("work", &["*.a.test"]);
    let deny = |hosts: &[&str]| Sample::rule("first", hosts, RuleAction::Deny);
    let later = || Rule {
        methods: vec![Method::GET],
        ..Sample::rule("later", &["x.a.test"], RuleAction::Pass)
    };
    let path = |text: &str| vec![PathPattern::parse(text).expect("a pattern")];
    let agents = || Some(vec![any.clone()]);
    for (first, second, shadows) in [
        (deny(&["*.a.test"]), later(), true),
        (deny(&[]), later(), true),
        (Rule { methods: vec![Method::GET, Method::PUT], ..deny(&["x.a.test"]) }, later(), true),
        (Rule { methods: vec![Method::PUT], ..deny(&["x.a.test"]) }, later(), false),
        (
            Rule { methods: vec![Method::GET], ..deny(&["x.a.test"]) },
            Rule { methods: vec![], ..later() },
            false,
        ),
        (deny(&["y.a.test"]), later(), false),
        (deny(&["x.a.test"]), Rule { hosts: vec![], ..later() }, false),
        (Rule { paths: path("/a/**"), ..deny(&["x.a.test"]) }, later(), false),
        (
            Rule { paths: path("/a/**"), ..deny(&[]) },
            Rule { paths: path("/a/**"), ..later() },
            true,
        ),
        (
            Rule { paths: path("/a/**/b"), ..deny(&[]) },
            Rule { paths: path("/a/**/b/"), ..later() },
            true,
        ),
        (
            Rule { paths: path("/a/**/b"), ..deny(&[]) },
            Rule { paths: path("/a/**"), ..later() },
            false,
        ),
        // A rule that refuses is for its paths in any case, one that allows is not.
        (
            Rule { paths: path("/a/**"), ..Sample::rule("first", &[], RuleAction::Pass) },
            Rule { paths: path("/a/**"), action: RuleAction::Deny, ..later() },
            false,
        ),
        (
            Sample::rule("first", &[], RuleAction::Pass),
            Rule { paths: path("/a/**"), action: RuleAction::Deny, ..later() },
            true,
        ),
        (Rule { agents: agents(), ..deny(&[]) }, later(), false),
        (Rule { agents: agents(), ..deny(&[]) }, Rule { agents: agents(), ..later() }, true),
        // It leaves the requests of agents without the connection to later rules.
        (Sample::rule("first", &["x.a.test"], RuleAction::Use(account.clone())), later(), false),
    ] {
        let text = format!("{first:?} {second:?}");
        let rules = vec![first, second];
        let input = PolicyInput { rules, hostless_rules_max: 2, ..PolicyInput::default() };
        let policy = Policy::compile(input).expect("they agree");
        let found = policy.shadow(&org, &RuleId::new("later")).map(ToString::to_string);
        assert_eq!(found.as_deref(), shadows.then_some("first"), "{text}");
        assert_eq!(policy.shadow(&org, &RuleId::new("first")), None);
    }
}
