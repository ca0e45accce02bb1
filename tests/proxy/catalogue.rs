//! Every built-in provider through the real proxy: generated from the catalogue, so that one that
//! is added is tried as well. For each auth method that can be used and each place it writes to:
//! what the origin receives, and what is refused nearby; and the request that tests a connection. No method is without a
//! test.

mod accounts;
mod made;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use keyward_base::pattern::HostPattern;
use keyward_rules::provider::schema::TestText;
use keyward_rules::provider::{Catalogue, Field};
use serde_json::{Value, json};

use accounts::{Account, Spot, sample_host, samples};
use requests::assert_received;
use test_support::pki::pki;
use test_support::*;

/// Methods that are tested elsewhere, each by name: the signatures need a second implementation, which programs have.
const ELSEWHERE: [(&str, &str, &str, &str); 10] = [
    ("amazon-ses", "access_key", "real/aws.rs", STORES),
    ("aws", "access_key", "real/aws.rs", "boto3_signs_with_placeholders_and_aws_accepts_all_of_it"),
    (
        "aws",
        "assume_role",
        "real/aws.rs",
        "the_session_of_a_role_signs_all_requests_and_is_kept_over_restarts",
    ),
    (
        "aws",
        "web_identity",
        "real/aws.rs",
        "a_role_is_assumed_with_the_token_of_a_source_and_one_session_serves_a_run",
    ),
    ("backblaze-b2", "access_key", "real/aws.rs", STORES),
    ("cloudflare-r2", "access_key", "real/aws.rs", STORES),
    (
        "mongodb-atlas",
        "api_key",
        "proxy/minted/digest.rs",
        "the_key_of_mongodb_atlas_answers_the_challenges_of_its_host",
    ),
    ("s3-compatible", "access_key", "real/aws.rs", STORES),
    ("sqlite", "file", "api/file_connections.rs", "no_request_uses_a_file"),
    (
        "ssh",
        "key",
        "real/ssh.rs",
        "only_logins_to_the_servers_and_accounts_of_the_connection_are_signed",
    ),
];
const STORES: &str =
    "storage_and_mail_that_sign_as_aws_does_get_the_live_keys_for_their_region_and_service";

/// What the origin answers; a test sets it.
type NextAnswer = Arc<Mutex<String>>;

/// An origin that is every host.
fn origin(answer: NextAnswer) -> Origin {
    let answers = move |_: &Message| answer.lock().expect("not poisoned").clone();
    Origin::serving(Some(pki().any_name()), answers)
}

/// A gateway with a connection and an agent for each account, before an origin that is everything
/// they name. Names beside theirs lead there too, where a request would be noticed.
async fn lab() -> (Lab, Vec<Account>, NextAnswer) {
    let mut plan = Plan::api_key().no_agents();
    let accounts = Account::all(&plan.canary().text);
    let hosts: BTreeSet<String> = accounts.iter().flat_map(Account::hosts).collect();
    let tested = accounts.iter().filter_map(|account| account.test.as_ref()?.url.split('/').nth(2));
    let hosts = hosts.into_iter().chain(tested.filter(|it| !it.contains('{')).map(str::to_owned));
    let hosts: BTreeSet<String> = hosts.collect();
    let strangers: BTreeSet<String> = accounts.iter().flat_map(Account::strangers).collect();
    let answer = NextAnswer::new(Mutex::new(ok("fine")));
    let origin = origin(answer.clone());
    for host in hosts.union(&strangers) {
        plan = plan.resolve(&format!("\"{host}\": \"{}\"", origin.addr));
    }
    for account in &accounts {
        let (yaml, variables) = account.declared();
        plan = plan.connection(&yaml).agent(&account.name, &account.name);
        for (name, value) in variables {
            plan = plan.variable(&name, &value);
        }
    }
    (plan.start(origin).await, accounts, answer)
}

/// What `account`'s agent holds instead of secrets, and the values of the other fields.
fn held(lab: &Lab, account: &Account) -> BTreeMap<String, String> {
    let held = |field: &Field| match field.secret {
        true => lab.gateway.placeholder(&account.name, &account.name, &field.name),
        false => account.values[&field.name].clone(),
    };
    // The agent holds nothing instead of a secret beside a token.
    let is_held = |it: &Field| !it.secret || account.auth.carried().any(|one| one.name == it.name);
    let given = account.auth.fields.iter().filter(|it| account.values.contains_key(&it.name));
    let given = given.filter(|it| is_held(it));
    given.map(|field| (field.name.clone(), held(field))).collect()
}

/// The code that a request of `account`'s agent is refused with, at CONNECT or inside the tunnel.
async fn refusal(lab: &Lab, account: &Account, host: &str, path: &str) -> String {
    let mut wire = lab.client().await;
    let authorization = lab.authorization(&account.name);
    wire.send(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n")).await;
    let mut answer = wire.answer("CONNECT").await;
    if answer.head.status() == 200 {
        let mut wire = lab.secure(wire, host).await;
        answer = wire.ask(request_text(&format!("GET {path}"), host)).await;
    }
    let code = answer.head.one("keyward-error");
    code.unwrap_or_else(|| panic!("{}: {host}{path} was answered", account.name)).to_owned()
}

#[tokio::test]
async fn every_provider_receives_its_credential_in_its_place_and_nothing_else() {
    let (mut lab, accounts, _) = lab().await;
    let canary = lab.canary.text.clone();
    for account in &accounts {
        let held = held(&lab, account);
        let mut wires: BTreeMap<String, Wire> = BTreeMap::new();
        for spot in account.spots() {
            if !wires.contains_key(&spot.host) {
                let target = format!("{}:443", spot.host);
                let wire = lab.tunnel_to(&account.name, &target, &spot.host).await;
                wires.insert(spot.host.clone(), wire);
            }
            let wire = wires.get_mut(&spot.host).expect("it was just opened");
            for client in account.clients() {
                let case = format!("{} {client:?} {}{}", account.name, spot.host, spot.path);
                let request = client.request(&spot, &account.cleared(), &held);
                let answer = wire.ask(request).await;
                assert_eq!(answer.head.status(), 200, "{case}: {}", answer.text());
                let received = lab.origin.arrival().await;
                assert!(received.head.target().contains("x=1"), "{case}: other parameters stay");
                assert_received(account, &spot, &received, &canary, &case);
            }
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn look_alike_hosts_and_other_paths_of_a_provider_s_hosts_receive_no_request() {
    let (lab, accounts, _) = lab().await;
    let mut seen: Vec<(&str, &[HostPattern])> = Vec::new();
    for account in &accounts {
        let name = &account.name;
        // Hosts are those of the provider, whatever the method.
        let of = (&*account.provider, &*account.instance.hosts);
        if seen.contains(&of) {
            continue;
        }
        seen.push(of);
        for host in account.strangers() {
            let code = refusal(&lab, account, &host, "/some/thing").await;
            assert_eq!(code, "default_deny", "{name}: {host}");
        }
        for host in account.hosts() {
            let path = "/nothing/of/the/service";
            if account.scope(&host, path).is_none() {
                let code = refusal(&lab, account, &host, path).await;
                assert!(["default_deny", "bad_request"].contains(&&*code), "{name}: {code}");
            }
        }
        for (host, pattern) in &account.instance.oauth_endpoints {
            let (host, path) = (sample_host(host), &samples(std::slice::from_ref(pattern))[0]);
            let code = refusal(&lab, account, &host, path).await;
            // Where the credential has no place, the connection is not asked.
            let owned = account.owns_path(path) && account.scope(&host, path).is_some();
            let expected = if owned { "token_endpoint_refused" } else { "default_deny" };
            assert_eq!(code, expected, "{name}: {host}{path}");
        }
    }
    assert_eq!(lab.origin.streams(), 0, "{:#?}", lab.origin.received());
    lab.finish().await;
}

/// The answer that a service gives to a good credential, with the name `someone` for each member of the identity.
fn good_answer(test: &TestText) -> String {
    let status = test.expect_status.unwrap_or(200);
    let mut body = Value::Null;
    for path in &test.account {
        put(&mut body, path, json!("someone"));
    }
    for (path, value) in test.expect_json.iter().flatten() {
        put(&mut body, path, serde_json::to_value(value).expect("YAML of a file is JSON"));
    }
    let text = if body.is_null() { "{}".to_owned() } else { body.to_string() };
    match status {
        204 => "HTTP/1.1 204 Fine\r\n\r\n".to_owned(),
        status => format!("HTTP/1.1 {status} Fine\r\nContent-Length: {}\r\n\r\n{text}", text.len()),
    }
}

/// Sets the value at a dotted path; a number is an index of a list.
fn put(body: &mut Value, path: &str, value: Value) {
    let at = path.split('.').fold(body, |at, name| match name.parse::<usize>() {
        Ok(index) => {
            if !at.is_array() {
                *at = Value::Array(vec![Value::Null; index + 1]);
            }
            &mut at[index]
        }
        Err(_) => &mut at[name],
    });
    *at = value;
}

#[tokio::test]
async fn every_test_request_carries_the_credential_and_names_the_account() {
    let (mut lab, accounts, answer) = lab().await;
    let canary = lab.canary.text.clone();
    let mut named = 0;
    for account in &accounts {
        let Some(test) = &account.test else { continue };
        *answer.lock().expect("not poisoned") = good_answer(test);
        let case = format!("the test of {}", account.name);
        let told =
            lab.gateway.api("POST", &format!("/connections/{}/test", account.name), "").await;
        let told = told.json();
        assert_eq!(told["outcome"], "ok", "{case}: {told}");
        let received = lab.origin.arrival().await;
        let host = received.head.one("host").expect("it has one").to_owned();
        // A path with the credential is compared by its placement.
        let own_path = received.head.target().split('?').next().unwrap_or_default().to_owned();
        let path = account.path_of_test().unwrap_or(own_path);
        let Some(number) = account.scope(&host, &path) else {
            panic!("{case}: {host}{path} is not the provider's, or has no placement")
        };
        let places = account.instance.placements[number].what.clone();
        assert_received(account, &Spot { host, path, places }, &received, &canary, &case);
        if !test.account.is_empty() {
            named += 1;
            assert!(told["message"].to_string().contains("someone"), "{case}: {told}");
        }
    }
    assert!(named > 100, "{named}");
    lab.finish().await;
}

/// A method of another kind, or a provider whose signatures no program checks, fails here until it is tested.
#[test]
fn every_method_of_every_service_is_tested() {
    let generated: BTreeSet<(String, String)> =
        Account::all("canary").into_iter().map(|it| (it.provider, it.auth.id)).collect();
    let mut elsewhere: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (provider, method, file, name) in ELSEWHERE {
        elsewhere.insert((provider, method));
        let path = format!("{}/tests/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(&format!("async fn {name}()")), "{file} has no test {name}");
    }
    let mut listed = 0;
    for provider in Catalogue::built_in().all().filter(|it| it.protocol.is_none()) {
        for auth in &provider.auth {
            let is_generated = generated.contains(&(provider.id.to_string(), auth.id.clone()))
                || made::is_made(auth)
                || made::is_fetched(auth);
            let is_elsewhere = elsewhere.contains(&(&*provider.id, &*auth.id));
            assert!(is_generated != is_elsewhere, "{}.{}: one test", provider.id, auth.id);
            listed += usize::from(is_elsewhere);
        }
    }
    assert_eq!(listed, ELSEWHERE.len(), "one of the list is no method");
}
