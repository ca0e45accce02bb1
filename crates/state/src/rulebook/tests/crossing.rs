//! Each provider with each set of hosts: what a set allows, it also allows while a connection to the provider is bound.

use std::collections::BTreeMap;

use super::*;
use crate::rulebook::account::{ProviderParts, connection_facts};
use http::Method;
use keyward_base::pattern::{HostPattern, PathPattern};
use keyward_rules::host_sets::HostSets;
use keyward_rules::policy::{
    Account, AccountBinding, AgentAllow, AllowedSets, Extent, OwnAuthorization, PolicyInput,
};
use keyward_rules::provider::{AuthMethod, Provider, Variable};

/// A request, as `METHOD`, host and path.
type Asked = (Method, String, String);

fn host(pattern: &HostPattern) -> String {
    pattern.to_string().replacen('*', "x", 1)
}

fn path(pattern: &PathPattern) -> String {
    pattern.to_string().replace("**", "x").replace('*', "x")
}

/// The account of a connection with an example of each variable.
fn account(
    provider: &Provider,
    auth: &AuthMethod,
    catalogue: &Catalogue,
    parts: &ProviderParts,
) -> Account {
    let example = |it: &Variable| {
        let text = it.choices.first().or(it.default.as_ref()).or(it.example.as_ref());
        (it.name.clone(), text.cloned().unwrap_or_else(|| "x".to_owned()))
    };
    let mut record = Samples::new().made("work", &provider.id);
    record.spec.auth = Some(auth.id.clone());
    record.spec.variables = provider.variables.iter().map(example).collect::<BTreeMap<_, _>>();
    connection_facts(&record, None, catalogue, parts).account
}

/// What some set allows, and pages of the account's hosts.
fn requests(account: &Account) -> Vec<Asked> {
    let mut all = Vec::new();
    for allowance in HostSets::built_in().all().iter().flat_map(|set| &set.allow) {
        let paths: Vec<_> = match &allowance.paths[..] {
            [] => vec!["/x/y".to_owned()],
            paths => paths.iter().map(path).collect(),
        };
        for host in allowance.hosts.iter().map(host) {
            let methods = allowance.methods.iter();
            all.extend(methods.flat_map(|method| {
                let paths = paths.iter();
                paths.map(|path| (method.clone(), host.clone(), path.clone())).collect::<Vec<_>>()
            }));
        }
    }
    for host in account.hosts.iter().map(host) {
        for path in ["/", "/a/page/of/it"] {
            all.push((Method::GET, host.clone(), path.to_owned()));
            all.push((Method::POST, host.clone(), path.to_owned()));
        }
    }
    all
}

fn is_allowed(policy: &Policy, agent: &Agent, (method, host, path): &Asked) -> bool {
    let target = Target::parse(Scheme::Https, host).expect(host);
    let path = DecodedPath::parse(path).expect(path);
    let asked = PolicyRequest {
        target: &target,
        method,
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
    policy.explain(agent, &asked).action != ActionKind::Deny
}

#[test]
fn no_set_loses_a_host_to_a_connection_of_any_provider() {
    let catalogue = Catalogue::built_in();
    let parts = ProviderParts::new(&catalogue);
    let (mut samples, sets) = (Samples::new(), HostSets::built_in().all());
    let agents: Vec<_> =
        sets.iter().map(|set| [&*set.id, "bound"].map(|it| samples.agent(it))).collect();
    let allow = || {
        let each =
            sets.iter().zip(&agents).flat_map(|(set, pair)| pair.iter().map(move |it| (set, it)));
        each.map(|(set, agent)| AgentAllow {
            org: agent.org.clone(),
            agent: agent.id.clone(),
            sets: AllowedSets::named([&*set.id]),
        })
    };
    let (mut compared, mut lost) = (0, Vec::new());
    for provider in catalogue.all().filter(|it| it.protocol.is_none()) {
        for auth in &provider.auth {
            let account = Arc::new(account(provider, auth, &catalogue, &parts));
            let bindings = agents.iter().map(|[_, bound]| AccountBinding {
                org: bound.org.clone(),
                agent: bound.id.clone(),
                account: account.clone(),
                placeholders: Vec::new(),
                extent: Extent::Whole,
                deny: None,
                by_default: true,
                own_authorization: OwnAuthorization::Refuse,
            });
            let bindings = bindings.collect();
            let input =
                PolicyInput { bindings, allow: allow().collect(), ..PolicyInput::default() };
            let policy = Policy::compile(input).expect("a policy");
            let is_owned = |(_, host, _): &Asked| {
                let target = Target::parse(Scheme::Https, host).expect(host);
                account.owning(&target).is_some()
            };
            for asked in requests(&account).into_iter().filter(is_owned) {
                for (set, [free, bound]) in sets.iter().zip(&agents) {
                    if !is_allowed(&policy, free, &asked) {
                        continue;
                    }
                    compared += 1;
                    if !is_allowed(&policy, bound, &asked) {
                        lost.push(format!("{} {}: {asked:?} of {}", provider.id, auth.id, set.id));
                    }
                }
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(compared > 1_000, "{compared}");
}
