//! Generated specs and requests on which the compiled policy must agree with the naive interpreter,
//! its own routes, and its explanations. The universes are small, so that things meet often.

use std::sync::Arc;

use proptest::prelude::*;

use super::naive::{Naive, said};
use super::samples::{Sample, agent_of};
use crate::base::agent::Agent;
use crate::base::id::{OrgId, RuleId};
use crate::base::pattern::{HostPattern, PathPattern};
use crate::inject::placeholder::Placeholder;
use crate::policy::explain::RouteKind;
use crate::policy::{
    Account, AccountState, Asked, Bound, DefaultAction, Extent, Policy, Reason, Route, Rule,
    RuleAction, Spec,
};

const HOSTS: [&str; 7] =
    ["a.ex.test", "b.ex.test", "x.a.ex.test", "ex.test", "evilex.test", "other.test", "10.0.0.1"];
const PATTERNS: [&str; 8] = [
    "a.ex.test",
    "*.ex.test",
    "*.a.ex.test",
    "b.ex.test",
    "a.ex.test:8443",
    "*.other.test",
    "10.0.0.1",
    "other.test",
];
const PATHS: [&str; 7] = ["/", "/v1", "/v1/x", "/v1/x/y", "/oauth/token", "/v1%2fx", "/V1"];
const PATH_PATTERNS: [&str; 5] = ["/v1/**", "/v1/*", "/", "/oauth/**", "/v*"];
const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "TRACE"];

/// Agent, hosts, methods, paths, action, `allow_plaintext`.
type RuleSeed = (usize, Vec<usize>, Vec<usize>, Vec<usize>, usize, bool);

/// Numbers from which a case is made.
#[derive(Clone, Debug)]
struct Seed {
    default: usize,
    accounts: Vec<(Vec<usize>, Vec<usize>, usize)>,
    bindings: Vec<(usize, usize)>,
    rules: Vec<RuleSeed>,
    request: (usize, usize, usize, usize, usize),
    /// Which placeholders it carries, and which name.
    carries: (Vec<usize>, usize),
}

fn picks(of: usize, most: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..of, 0..=most)
}

fn seeds() -> impl Strategy<Value = Seed> {
    let accounts = (picks(PATTERNS.len(), 2), picks(PATH_PATTERNS.len(), 1), 0usize..6);
    let rules = (
        0usize..4,
        picks(PATTERNS.len(), 2),
        picks(METHODS.len() - 1, 1),
        picks(PATH_PATTERNS.len(), 1),
        0usize..9,
        any::<bool>(),
    );
    (
        0usize..3,
        proptest::collection::vec(accounts, 4),
        proptest::collection::vec((0usize..3, 0usize..4), 0..6),
        proptest::collection::vec(rules, 0..5),
        (0usize..3, 0..METHODS.len(), 0..HOSTS.len(), 0..PATHS.len(), 0usize..6),
        (picks(7, 1), 0usize..16),
    )
        .prop_map(|(default, accounts, bindings, rules, request, carries)| Seed {
            default,
            accounts,
            bindings,
            rules,
            request,
            carries,
        })
}

fn hosts(picks: &[usize]) -> Vec<HostPattern> {
    picks.iter().map(|at| HostPattern::parse(PATTERNS[*at]).expect("a pattern")).collect()
}

fn paths(picks: &[usize]) -> Vec<PathPattern> {
    picks.iter().map(|at| PathPattern::parse(PATH_PATTERNS[*at]).expect("a pattern")).collect()
}

/// Two agents of one org and one of another; accounts 0 to 2 are the first org's.
fn spec_of(seed: &Seed, agents: &[Agent]) -> (Spec, Vec<Arc<Account>>) {
    let accounts: Vec<_> = seed
        .accounts
        .iter()
        .enumerate()
        .map(|(at, (on, under, state))| {
            Arc::new(Account {
                hosts: hosts(on),
                paths: paths(under),
                state: match state {
                    0 => AccountState::Paused,
                    1 => AccountState::Broken("revoked".into()),
                    2 => AccountState::Draft(None),
                    _ => AccountState::Active,
                },
                ..(*Sample::account(&format!("c{at}"), &[])).clone()
            })
        })
        .collect();
    let account_of = |agent: &Agent, at: usize| match agent.org == agents[2].org {
        true => accounts[3].clone(),
        false => accounts[at % 3].clone(),
    };
    let bindings = seed.bindings.iter().map(|(agent, at)| Bound {
        org: agents[*agent].org.clone(),
        agent: agents[*agent].id.clone(),
        account: account_of(&agents[*agent], *at),
        placeholders: vec![Placeholder::issue("", None)],
        extent: Extent::Whole,
    });
    let rules = seed.rules.iter().enumerate().map(|(at, pick)| {
        let agent = &agents[pick.0.min(2)];
        rule_of(at, pick, agent, &account_of(agent, at))
    });
    let spec = Spec {
        default: [DefaultAction::Deny, DefaultAction::Pass, DefaultAction::Tunnel][seed.default],
        rules: rules.collect(),
        bindings: bindings.collect(),
        empty: Vec::new(),
        known: hosts(&[3]),
        carved: vec![("ex".into(), hosts(&[0]).remove(0), paths(&[3]).remove(0))],
        carved_in: Vec::new(),
        hostless_rules_max: 100,
    };
    (spec, accounts)
}

fn rule_of(at: usize, pick: &RuleSeed, agent: &Agent, account: &Arc<Account>) -> Rule {
    let (who, on, methods, under, action, cleartext) = pick;
    let owned = |pattern: &HostPattern| account.owns_all(pattern);
    let (action, mut hosts) = match action {
        0 | 1 => (RuleAction::Deny, hosts(on)),
        2 => (RuleAction::Pass, hosts(on)),
        3 => (RuleAction::Inject, hosts(on)),
        4 => (RuleAction::Tunnel, hosts(on)),
        5 => (RuleAction::UseMissing("gone".into()), hosts(on)),
        _ => (RuleAction::Use(account.clone()), hosts(on).into_iter().filter(owned).collect()),
    };
    hosts.sort();
    hosts.dedup();
    let is_tunnel = matches!(action, RuleAction::Tunnel);
    let injects = matches!(action, RuleAction::Use(_) | RuleAction::Inject);
    let methods = methods.iter().map(|m| METHODS[*m].parse().expect("a method"));
    Rule {
        id: RuleId::new(format!("r{at}")),
        org: agent.org.clone(),
        agents: (*who < 3).then(|| vec![agent.id.clone()]),
        hosts,
        methods: methods.filter(|_| !is_tunnel).collect(),
        paths: if is_tunnel { Vec::new() } else { paths(under) },
        action,
        allow_plaintext: *cleartext && injects,
    }
}

/// Runs `with` on the case's spec, policy, agent and request, unless the spec does not compile.
fn on_case(seed: &Seed, with: impl FnOnce(&Spec, &Policy, &Agent, &Asked<'_>)) {
    let other_org = OrgId::random();
    let agents = [
        agent_of(OrgId::default_org(), "one"),
        agent_of(OrgId::default_org(), "two"),
        agent_of(other_org, "three"),
    ];
    let (spec, accounts) = spec_of(seed, &agents);
    let Ok(policy) = Policy::compile(spec.clone()) else { return };
    let (who, method, host, path, port) = seed.request;
    let scheme_and_port = ["https|", "https|", "https|:443", "http|", "https|:8443", "https|:22"];
    let (scheme, port) = scheme_and_port[port].split_once('|').expect("two parts");
    let line = format!("{} {scheme}://{}{port}{}", METHODS[method], HOSTS[host], PATHS[path]);
    let unknown = Placeholder::issue("", None).core();
    let core_of = |at: &usize| spec.bindings.get(*at).map_or(unknown, |b| b.placeholders[0].core());
    let cores: Vec<_> = seed.carries.0.iter().map(core_of).collect();
    let named = match seed.carries.1 {
        at @ 0..4 => Some(accounts[at].name.to_string()),
        4 => Some(accounts[0].id.to_string()),
        5 => Some("nobody".to_owned()),
        _ => None,
    };
    Sample::ask(&line, &cores, named.as_deref(), |asked| with(&spec, &policy, &agents[who], asked));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]

    #[test]
    fn the_compiled_policy_decides_as_the_naive_one(seed in seeds()) {
        on_case(&seed, |spec, policy, agent, asked| {
            let naive = Naive { spec, agent, asked }.decide();
            assert_eq!(said(policy.decide(agent, asked)), naive, "{asked:?} {spec:#?}");
        });
    }

    #[test]
    fn a_route_never_promises_other_than_what_is_decided(seed in seeds()) {
        on_case(&seed, |spec, policy, agent, asked| {
            let decided = policy.decide(agent, asked);
            match policy.route(agent, asked.target) {
                Route::Deny(_) => assert!(decided.is_err(), "{asked:?} {spec:#?}"),
                // Placeholders and methods are invisible in a tunnel; nothing else may matter.
                Route::Tunnel(permit) => match decided {
                    Ok(decided) => {
                        assert!(decided.wanted().is_none(), "{asked:?} {spec:#?}");
                        assert_eq!(decided.rule(), permit.rule());
                    }
                    Err(reason) => assert!(
                        matches!(
                            reason.code(),
                            "method_refused" | "placeholder_foreign" | "token_endpoint_refused"
                                | "bad_target"
                        ) || asked.named.is_some(),
                        "{reason:?} {asked:?} {spec:#?}"
                    ),
                },
                Route::Intercept(_) => {}
            }
        });
    }

    #[test]
    fn an_explanation_says_what_is_decided(seed in seeds()) {
        on_case(&seed, |_, policy, agent, asked| {
            let explained = policy.explain(agent, asked);
            let decided = policy.decide(agent, asked);
            let code = decided.as_ref().err().map(Reason::code);
            match explained.route {
                Some(RouteKind::Tunnel) => assert!(explained.code.is_none()),
                Some(RouteKind::Deny) => assert!(decided.is_err()),
                Some(RouteKind::Intercept) | None => assert_eq!(explained.code, code),
            }
            let connection = decided.ok().and_then(|p| p.wanted().map(|w| w.connection.clone()));
            assert_eq!(explained.connection_id, connection);
        });
    }
}
