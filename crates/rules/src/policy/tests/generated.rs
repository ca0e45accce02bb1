//! Property tests: on generated specs and requests, the compiled policy must agree with the naive interpreter,
//! its own routes, and its explanations. The universes are small, so that rules often overlap.

use std::sync::Arc;

use proptest::prelude::*;

use http::HeaderMap;

use super::naive::{Naive, Said, said};
use super::samples::{Sample, agent_of};
use crate::inject::credential::Write;
use crate::inject::path_prefix::PathPrefix;
use crate::inject::placeholder::Placeholder;
use crate::inject::placement::{Location, Scoped};
use crate::inject::template::{Encoding, ValueTemplate};
use crate::inject::write::{self, RequestHead};
use crate::policy::explain::RouteKind;
use crate::policy::{
    Account, AccountBinding, AccountState, AgentAllow, AllowedSets, DefaultAction, Extent,
    OwnAuthorization, Policy, PolicyInput, PolicyRequest, Reason, Route, Rule, RuleAction,
};
use keyward_base::agent::Agent;
use keyward_base::id::{OrgId, RuleId};
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};
use keyward_base::secret::Secret;

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
const PATHS: [&str; 11] = [
    "/",
    "/v1",
    "/v1/x",
    "/v1/x/y",
    "/oauth/token",
    "/v1%2fx",
    "/V1",
    "/botx/v1",
    "/V1/X",
    "/OAuth/token",
    "/%42OTx/v1",
];
const PATH_PATTERNS: [&str; 11] = [
    "/v1/**",
    "/v1/*",
    "/",
    "/oauth/**",
    "/v*",
    "/bot*/**",
    "/bot1*/v1",
    "/*/v1/*",
    "/*:k*/x",
    "/**/x",
    "/v1/**/y",
];
/// Prefixes of an account's paths; most are empty, so that most paths are unchanged. The credential of the second one has
/// a place below `/v1` only.
const PREFIXES: [&str; 7] =
    ["", "", "/bot{key}/", "/{key}/", "/v1/{open}/", "/v1/a{open}b{key}c/", "/oauth/{key}/"];
const KEYS: [&str; 4] = ["1:k", "1:key~x", "k", "2-v1"];
/// Schemes and ports.
const PLACES: [(&str, &str); 8] = [
    ("https", ""),
    ("https", ""),
    ("https", ":443"),
    ("http", ""),
    ("https", ":8443"),
    ("https", ":22"),
    ("https", ":80"),
    ("http", ":443"),
];
const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "TRACE"];

/// Agent, hosts, methods, paths, action, `allow_plaintext`.
type RuleSeed = (usize, Vec<usize>, Vec<usize>, Vec<usize>, usize, bool);

/// Random numbers that a case is built from.
#[derive(Clone, Debug)]
struct Seed {
    default: usize,
    /// Whether agents may reach every host.
    allow: [bool; 2],
    /// Hosts, paths, state, prefix.
    accounts: Vec<(Vec<usize>, Vec<usize>, usize, usize)>,
    bindings: Vec<(usize, usize)>,
    rules: Vec<RuleSeed>,
    request: (usize, usize, usize, usize, usize),
    /// Which placeholders and which name the request has.
    carries: (Vec<usize>, usize),
}

fn picks(of: usize, most: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..of, 0..=most)
}

fn seeds() -> impl Strategy<Value = Seed> {
    let accounts =
        (picks(PATTERNS.len(), 2), picks(PATH_PATTERNS.len(), 1), 0usize..6, 0..PREFIXES.len());
    let rules = (
        0usize..4,
        picks(PATTERNS.len(), 2),
        picks(METHODS.len() - 1, 1),
        picks(PATH_PATTERNS.len(), 1),
        0usize..10,
        any::<bool>(),
    );
    (
        (0usize..3, any::<[bool; 2]>()),
        proptest::collection::vec(accounts, 4),
        proptest::collection::vec((0usize..3, 0usize..4), 0..6),
        proptest::collection::vec(rules, 0..5),
        (0usize..3, 0..METHODS.len(), 0..HOSTS.len(), 0..PATHS.len(), 0..PLACES.len()),
        (picks(7, 1), 0usize..16),
    )
        .prop_map(|((default, allow), accounts, bindings, rules, request, carries)| Seed {
            default,
            allow,
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

/// The places of an account with the prefix of this number. The field `open` is not secret.
fn places(number: usize) -> Vec<Scoped<Option<PathPrefix>>> {
    let text = PREFIXES[number];
    if text.is_empty() {
        let placed = Scoped { hosts: Vec::new(), paths: paths(&[0]), what: None };
        return vec![placed; number];
    }
    let template = ValueTemplate::parse(text, Encoding::Plain).expect(text);
    let what = Some(PathPrefix::of(&template, |name| name == "key"));
    vec![Scoped { hosts: Vec::new(), paths: Vec::new(), what }]
}

/// The path that the sending code writes for the account with this key.
fn written(account: &Account, path: &str, at: usize, key: &str) -> Option<DecodedPath> {
    let prefix = account.places.first()?.what.clone()?;
    let value = PREFIXES[at].replace("{key}", key).replace("{open}", "x");
    let writes = [Write { at: Location::Path(prefix), value: Secret::from(value) }];
    let mut fields = HeaderMap::new();
    let mut head = RequestHead { fields: &mut fields, path: path.into(), query: None };
    write::credential(&mut head, &writes).expect("a key that can be sent");
    Some(DecodedPath::parse(&head.path).expect("a path"))
}

/// The result of two readings: the same one, or a refusal.
fn both(one: Said, other: Said) -> Said {
    match (one, other) {
        (refused @ Said::Refuse { .. }, _) | (_, refused @ Said::Refuse { .. }) => refused,
        (
            Said::Permit { rule, connection, plaintext },
            Said::Permit { connection: second, plaintext: also, .. },
        ) => match connection == second {
            true => Said::Permit { rule, connection, plaintext: plaintext && also },
            false => Said::Refuse { code: "denied", rule: None, connection: None },
        },
    }
}

/// Two agents of one org and one of another; accounts 0 to 2 belong to the first org.
fn spec_of(seed: &Seed, agents: &[Agent]) -> (PolicyInput, Vec<Arc<Account>>) {
    let accounts: Vec<_> = seed
        .accounts
        .iter()
        .enumerate()
        .map(|(at, (on, under, state, prefix))| {
            Arc::new(Account {
                hosts: hosts(on).into(),
                paths: paths(under).into(),
                places: places(*prefix).into(),
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
    let bindings = seed.bindings.iter().map(|(agent, at)| AccountBinding {
        org: agents[*agent].org.clone(),
        agent: agents[*agent].id.clone(),
        account: account_of(&agents[*agent], *at),
        placeholders: vec![Placeholder::issue("", None).core()],
        extent: Extent::Whole,
        deny: None,
        by_default: (agent + at) % 2 == 0,
        own_authorization: OwnAuthorization::Refuse,
    });
    let rules = seed.rules.iter().enumerate().map(|(at, pick)| {
        let agent = &agents[pick.0.min(2)];
        rule_of(at, pick, agent, &account_of(agent, at))
    });
    let allow = seed.allow.iter().zip(agents).filter(|(allowed, _)| **allowed);
    let allow = allow.map(|(_, agent)| AgentAllow {
        org: agent.org.clone(),
        agent: agent.id.clone(),
        sets: AllowedSets::named(["web"]),
    });
    let spec = PolicyInput {
        default: [DefaultAction::Deny, DefaultAction::Pass, DefaultAction::Tunnel][seed.default],
        rules: rules.collect(),
        bindings: bindings.collect(),
        empty: Vec::new(),
        allow: allow.collect(),
        known: hosts(&[3]),
        oauth_endpoints: vec![("ex".into(), hosts(&[0]).remove(0), paths(&[3]).remove(0))],
        org_oauth_endpoints: Vec::new(),
        sessions: Vec::new(),
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
        6 => (RuleAction::UseRefused(account.clone()), hosts(on)),
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
        actions: Vec::new(),
        branches: None,
        action,
        allow_plaintext: *cleartext && injects,
        own_authorization: None,
    }
}

/// Runs `with` on the case. A spec that does not compile is rejected, and too many of them fail the test.
fn on_case(
    seed: &Seed,
    with: impl FnOnce(&PolicyInput, &Policy, &Agent, &PolicyRequest<'_>),
) -> Result<(), TestCaseError> {
    let other_org = OrgId::random();
    let agents = [
        agent_of(OrgId::default_org(), "one"),
        agent_of(OrgId::default_org(), "two"),
        agent_of(other_org, "three"),
    ];
    let (spec, accounts) = spec_of(seed, &agents);
    let Ok(policy) = Policy::compile(spec.clone()) else {
        return Err(TestCaseError::reject("the spec does not compile"));
    };
    let (who, method, host, path, port) = seed.request;
    let (scheme, port) = PLACES[port];
    let line = format!("{} {scheme}://{}{port}{}", METHODS[method], HOSTS[host], PATHS[path]);
    let unknown = Placeholder::issue("", None).core();
    let core_of = |at: &usize| spec.bindings.get(*at).map_or(unknown, |b| b.placeholders[0]);
    let cores: Vec<_> = seed.carries.0.iter().map(core_of).collect();
    let named = match seed.carries.1 {
        at @ 0..4 => Some(accounts[at].name.to_string()),
        4 => Some(accounts[0].id.to_string()),
        5 => Some("nobody".to_owned()),
        _ => None,
    };
    Sample::ask(&line, &cores, named.as_deref(), |asked| with(&spec, &policy, &agents[who], asked));
    Ok(())
}

proptest! {
    // At least three of four specs compile.
    #![proptest_config(ProptestConfig {
        max_global_rejects: 2_600,
        ..ProptestConfig::with_cases(8_000)
    })]

    #[test]
    fn the_compiled_policy_decides_as_the_naive_one(mut seed in seeds()) {
        seed.accounts.iter_mut().for_each(|account| account.3 %= 2);
        on_case(&seed, |spec, policy, agent, asked| {
            let naive = Naive { spec, agent, asked, path: asked.path }.decide();
            assert_eq!(said(policy.decide(agent, asked)), naive, "{asked:?} {spec:#?}");
        })?;
    }

    #[test]
    fn a_rule_is_shadowed_by_the_first_earlier_rule_that_decides_all_its_requests(seed in seeds()) {
        on_case(&seed, |spec, policy, _, _| {
            for (at, later) in spec.rules.iter().enumerate() {
                let of_org = |earlier: &&Rule| earlier.org == later.org;
                let mut earlier = spec.rules[..at].iter().filter(of_org);
                let first = earlier.find(|earlier| earlier.shadows(later)).map(|rule| &rule.id);
                assert_eq!(policy.shadow(&later.org, &later.id), first, "{later:?} {spec:#?}");
            }
        })?;
    }

    /// For a path with any credential: both the sent path and the agent's path are permitted. Only requests
    /// that depend on the credential's characters are refused in addition.
    #[test]
    fn no_request_passes_if_its_sent_path_is_denied(
        seed in seeds(),
        key in 0..KEYS.len(),
    ) {
        on_case(&seed, |spec, policy, agent, asked| {
            let naive = |path: &DecodedPath| Naive { spec, agent, asked, path }.decide();
            let mut expected = naive(asked.path);
            if let Said::Permit { connection: Some(id), .. } = &expected {
                let uses = spec.rules.iter().filter_map(|rule| match &rule.action {
                    RuleAction::Use(account) => Some(account),
                    _ => None,
                });
                let all = spec.bindings.iter().map(|bound| &bound.account).chain(uses);
                let account = all.into_iter().find(|account| account.id == *id).expect("it is there");
                let at = account.name[1..].parse::<usize>().expect("`c` and a number");
                let prefix = seed.accounts[at].3;
                if let Some(sent) = written(account, asked.path.raw(), prefix, KEYS[key]) {
                    expected = both(expected, naive(&sent));
                }
            }
            match policy.decide(agent, asked) {
                Err(Reason::CredentialInPath { .. }) => {}
                decided => assert_eq!(said(decided), expected, "{asked:?} {spec:#?}"),
            }
        })?;
    }

    #[test]
    fn a_denied_or_tunnelled_route_agrees_with_the_decision(seed in seeds()) {
        on_case(&seed, |spec, policy, agent, asked| {
            let decided = policy.decide(agent, asked);
            match policy.route(agent, asked.target) {
                Route::Deny { .. } => assert!(decided.is_err(), "{asked:?} {spec:#?}"),
                // Placeholders and methods are invisible in a tunnel; nothing else may matter.
                Route::Tunnel(permit) => match decided {
                    Ok(decided) => {
                        assert!(decided.wanted().is_none(), "{asked:?} {spec:#?}");
                        assert_eq!(decided.rule(), permit.rule());
                    }
                    Err(reason) => assert!(
                        matches!(
                            reason.code().as_str(),
                            "method_refused" | "placeholder_foreign" | "token_endpoint_refused"
                                | "bad_target"
                        ) || asked.named.is_some(),
                        "{reason:?} {asked:?} {spec:#?}"
                    ),
                },
                Route::Intercept(_) => {}
            }
        })?;
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
        })?;
    }
}
