//! Providers of the catalogue that share hosts, pairwise: which connection a request gets does not depend on the
//! order of the bindings.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::samples::Sample;
use super::world::World;
use crate::policy::Account;
use crate::provider::{Catalogue, Provider, Variable, VariableKind};
use keyward_base::pattern::HostPattern;

/// A connection of the provider's default method, with samples for its variables.
fn account(provider: &Provider) -> Arc<Account> {
    let sample = |variable: &Variable| match (&variable.default, variable.choices.first()) {
        (Some(default), _) => default.clone(),
        (None, Some(choice)) => choice.clone(),
        (None, None) if variable.kind == VariableKind::Host => format!("{}.own.test", provider.id),
        (None, None) => "mine".to_owned(),
    };
    let variables: BTreeMap<String, String> =
        provider.variables.iter().map(|it| (it.name.clone(), sample(it))).collect();
    let instance = provider.instantiate(&provider.auth[0], &variables);
    let instance = instance.unwrap_or_else(|error| panic!("{}: {error}", provider.id));
    let account = Account::clone(&Sample::account(&provider.id, &[]));
    Arc::new(Account { hosts: instance.hosts.into(), paths: instance.paths.into(), ..account })
}

fn overlap(a: &Account, b: &Account) -> bool {
    a.hosts.iter().any(|host| b.hosts.iter().any(|other| host.overlaps(other)))
}

/// A request for each host and path of the account.
fn requests(account: &Account) -> Vec<String> {
    let host = |host: &HostPattern| host.to_string().replacen("*.", "sample.", 1);
    let paths = account.paths.iter().map(|it| it.to_string().replace("**", "x").replace('*', "1"));
    let paths: Vec<String> = paths.chain(["/other/path".to_owned()]).collect();
    let all = account.hosts.iter().flat_map(|it| paths.iter().map(move |path| (it, path)));
    all.map(|(it, path)| format!("GET https://{}{path}", host(it))).collect()
}

fn decided(first: &Arc<Account>, second: &Arc<Account>, line: &str) -> String {
    let mut world = World::new().bind(first).bind(second);
    world.spec.bindings.iter_mut().for_each(|binding| binding.by_default = false);
    world.ci(line)
}

#[test]
fn providers_that_share_hosts_get_the_same_requests_in_either_order() {
    let catalogue = Catalogue::built_in();
    let http = catalogue.all().filter(|it| it.protocol.is_none() && !it.hosts.is_empty());
    let accounts: Vec<_> = http.map(|it| account(it)).collect();
    let mut pairs = 0;
    for (at, a) in accounts.iter().enumerate() {
        for b in accounts[at + 1..].iter().filter(|b| overlap(a, b)) {
            pairs += 1;
            for line in requests(a).into_iter().chain(requests(b)) {
                let (one, other) = (decided(a, b, &line), decided(b, a, &line));
                assert_eq!(one, other, "{} and {}: {line}", a.name, b.name);
                let alone: Vec<String> = [a, b]
                    .into_iter()
                    .map(|it| decided(it, it, &line))
                    .filter(|says| says.starts_with("inject"))
                    .collect();
                match alone.as_slice() {
                    [] => assert!(!one.starts_with("inject"), "{line}: {one}"),
                    [only] => assert_eq!(&one, only, "{line}: the only one that owns it"),
                    both => assert!(both.contains(&one) || one == "connection_ambiguous", "{one}"),
                }
            }
        }
    }
    assert!(pairs > 20, "{pairs}: Google's and Microsoft's services share hosts");
}

#[test]
fn the_connection_with_the_narrower_paths_gets_their_requests() {
    let catalogue = Catalogue::built_in();
    let of = |id: &str| account(catalogue.get(id).expect(id));
    for (narrow, wide, line) in [
        ("gmail", "google", "GET https://gmail.googleapis.com/gmail/v1/users/me/profile"),
        ("outlook", "microsoft", "GET https://graph.microsoft.com/v1.0/me/messages"),
        ("google-calendar", "google", "GET https://www.googleapis.com/calendar/v3/x"),
    ] {
        let (a, b) = (of(narrow), of(wide));
        assert_eq!(decided(&a, &b, line), format!("inject {narrow} by binding"), "{line}");
        assert_eq!(decided(&b, &a, line), format!("inject {narrow} by binding"), "{line}");
    }
}
