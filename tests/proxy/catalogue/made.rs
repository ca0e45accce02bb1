//! Built-in providers whose credential is made here: each login and each key through one gateway. What is exact about
//! signatures is tested beside them and in `real`, with the libraries of the services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use keyward_rules::inject::placement::Location;
use keyward_rules::provider::keys::ClientAuthText;
use keyward_rules::provider::{AuthKind, AuthMethod, Catalogue, Field, Provider};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use super::accounts::{Account, value, variables};
use super::requests::{Client, assert_received};
use super::{NextAnswer, origin, put};
use test_support::canary::Canary;
use test_support::pki::pki;
use test_support::*;

const KINDS: [AuthKind; 5] =
    [AuthKind::Session, AuthKind::SignedJwt, AuthKind::Hmac, AuthKind::Oauth1, AuthKind::Mtls];

/// The token of each session: a JWT that does not end soon.
fn session_token(name: &str) -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(json!({ "for": name })), part(json!({ "exp": 4_102_444_800_u64 })))
}

/// Whether this test makes the credential of the owner's fields.
pub(super) fn is_made(auth: &AuthMethod) -> bool {
    KINDS.contains(&auth.kind)
}

/// Whether a token endpoint gives the credential without a person: to an app, or for a key of the owner.
pub(super) fn is_fetched(auth: &AuthMethod) -> bool {
    let by_app = auth.kind == AuthKind::Oauth2 && !auth.is_consented_to();
    by_app || matches!(auth.kind, AuthKind::ServiceAccount | AuthKind::GithubApp)
}

/// The methods of services that are `chosen`.
fn methods(chosen: fn(&AuthMethod) -> bool) -> Vec<(std::sync::Arc<Provider>, AuthMethod)> {
    let catalogue = Catalogue::built_in();
    let mut found = Vec::new();
    // Databases are not used over HTTP.
    for provider in catalogue.all().filter(|provider| provider.protocol.is_none()) {
        let chosen = provider.auth.iter().filter(|auth| chosen(auth));
        found.extend(chosen.map(|auth| (provider.clone(), auth.clone())));
    }
    found
}

/// A client's certificate and key.
static CERTIFICATE: OnceLock<(String, String)> = OnceLock::new();

fn rsa_key() -> String {
    KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key").serialize_pem()
}

/// As Google issues it.
fn key_file() -> String {
    let file = json!({
        "type": "service_account", "project_id": "project", "private_key_id": "k1",
        "private_key": rsa_key(), "client_email": "robot@project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    file.to_string()
}

/// What the owner gives for a field: a key of the kind that the method takes.
fn given(auth: &AuthMethod, field: &Field, number: usize, canary: &str) -> String {
    let signed = auth.oauth.as_ref().and_then(|oauth| oauth.signed.clone());
    let shared = signed.is_some_and(|token| field.pattern.is_some() && *token.key == *field.name);
    let (certificate, key) = CERTIFICATE.get_or_init(|| pki().pem(&["client.acme.test"]));
    match auth.kind {
        AuthKind::ServiceAccount => key_file(),
        AuthKind::GithubApp | AuthKind::Oauth2 if field.secret => rsa_key(),
        AuthKind::GithubApp => "123456".to_owned(),
        AuthKind::Mtls if field.name == "client_cert" => certificate.clone(),
        AuthKind::Mtls => key.clone(),
        AuthKind::SignedJwt if shared => format!("{}:{}", "0a".repeat(12), "0f".repeat(32)),
        AuthKind::SignedJwt if field.secret => {
            let rsa = auth.oauth.as_ref().and_then(|oauth| oauth.signed.clone());
            let is_rsa = rsa.is_some_and(|token| format!("{:?}", token.algorithm).contains("RS"));
            match is_rsa {
                true => rsa_key(),
                false => {
                    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem()
                }
            }
        }
        // Some keys are in base64, which is also a text.
        AuthKind::Hmac if field.secret => BASE64_STANDARD.encode(format!("{canary}{number:02}")),
        _ => value(&auth.id, field, number, canary),
    }
}

/// The app of a method, by that name.
async fn app(lab: &mut Lab, name: &str, account: &Account) {
    let private = account.auth.oauth.as_ref().map(|oauth| (oauth.client_auth, oauth.grant));
    let secrets = match private {
        Some((ClientAuthText::PrivateKeyJwt, _)) => json!({ "private_key": rsa_key() }),
        Some((ClientAuthText::None, _)) => json!({}),
        _ => json!({ "client_secret": lab.canary.text }),
    };
    let mut variables = account.variables.clone();
    variables.retain(|name, _| name != "instance");
    let new = json!({ "provider": account.provider, "auth": account.auth.id, "name": name, "client_id": "client-1",
                      "secrets": secrets, "variables": variables });
    let made = lab.gateway.api("POST", "/apps", &new.to_string()).await;
    assert_eq!(made.head.status(), 201, "{name}: {}", made.text());
    if let Some(key) = secrets["private_key"].as_str() {
        lab.guard(Canary::of(key.to_owned()));
    }
}

/// A connection of each method, with an agent that may use it alone.
async fn connected(
    lab: &mut Lab,
    chosen: fn(&AuthMethod) -> bool,
) -> Vec<(Account, BTreeMap<String, String>)> {
    let canary = lab.canary.text.clone();
    let mut found = Vec::new();
    for (provider, auth) in methods(chosen) {
        let name = format!("{}-{}", provider.id, auth.id);
        let variables = variables(&provider, |variable| variable.default.is_none());
        let account = Account::new(name.clone(), &provider, &auth, variables.clone(), &canary);
        // A consent of OAuth 1.0a may give what is optional then.
        let all = auth.kind == AuthKind::Oauth1;
        let fields = auth.fields.iter().filter(|field| all || !field.optional).enumerate();
        let fields: BTreeMap<String, String> = fields
            .map(|(number, field)| (field.name.clone(), given(&auth, field, number, &canary)))
            .collect();
        for field in auth.fields.iter().filter(|field| field.secret) {
            if let Some(secret) = fields.get(&field.name) {
                lab.guard(Canary::of(secret.clone()));
            }
        }
        let mut new = json!({ "provider": &*provider.id, "auth": auth.id, "name": name, "fields": fields,
                              "variables": variables });
        if auth.kind == AuthKind::Oauth2 {
            app(lab, &name, &account).await;
            new["app"] = json!(name);
        }
        let made = lab.gateway.api("POST", "/connections", &new.to_string()).await;
        assert_eq!(made.head.status(), 201, "{name}: {}", made.text());
        lab.add_agent(&name).await;
        let bind = json!({ "connection": name }).to_string();
        let bound = lab.gateway.api("POST", &format!("/agents/{name}/bindings"), &bind).await;
        assert!((200..300).contains(&bound.head.status()), "{name}: {}", bound.text());
        found.push((account, fields));
    }
    found
}

/// The host of logins, where it is not one of the provider's.
fn login_host(provider: &Provider, auth: &AuthMethod) -> Option<String> {
    let url = auth.oauth.as_ref()?.token.as_ref()?;
    let defaults = provider.variables.iter();
    let defaults = defaults.filter_map(|it| Some((it.name.clone(), it.default.clone()?)));
    let mut values = variables(provider, |variable| variable.default.is_none());
    values.extend(defaults);
    // Fields are in paths only.
    let url = url.fill(&values).unwrap_or_else(|_| url.to_string());
    url.parse::<http::Uri>().ok()?.host().map(ToOwned::to_owned)
}

/// The answer to a login of this method.
fn login_answer(account: &Account) -> String {
    let mut body = Value::Null;
    if let Some(oauth) = &account.auth.oauth {
        put(&mut body, &oauth.token_path[0], json!(session_token(&account.name)));
        if is_fetched(&account.auth) {
            body["token_type"] = json!("Bearer");
            body["expires_in"] = json!(3600);
            body["instance_url"] = json!("https://mine.my.salesforce.com");
        }
        if account.auth.kind == AuthKind::GithubApp {
            body["expires_at"] = json!("2100-01-01T00:00:00Z");
        }
    }
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 Fine\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A gateway before an origin that is everything that these methods name, and what the origin answers.
async fn lab(chosen: fn(&AuthMethod) -> bool) -> (Lab, NextAnswer) {
    let answer = NextAnswer::new(std::sync::Mutex::new(ok("fine")));
    let origin = origin(answer.clone());
    let mut plan = Plan::api_key().no_agents();
    let sample = plan.canary().text.clone();
    let mut hosts: BTreeSet<String> = BTreeSet::new();
    for (provider, auth) in methods(chosen) {
        let variables = variables(&provider, |variable| variable.default.is_none());
        hosts.extend(Account::new("x".to_owned(), &provider, &auth, variables, &sample).hosts());
        hosts.extend(login_host(&provider, &auth));
    }
    for host in hosts {
        plan = plan.resolve(&format!("\"{host}\": \"{}\"", origin.addr));
    }
    (plan.start(origin).await, answer)
}

#[tokio::test]
async fn every_token_of_a_token_endpoint_arrives_in_its_placements_only() {
    let (mut lab, answer) = lab(is_fetched).await;
    let canary = lab.canary.text.clone();
    let mut kinds: Vec<String> = Vec::new();
    for (mut account, fields) in connected(&mut lab, is_fetched).await {
        let name = account.name.clone();
        let token = session_token(&name);
        account.values.insert("access_token".to_owned(), token.clone());
        *answer.lock().expect("not poisoned") = login_answer(&account);
        let before = lab.origin.received().len();
        let spots = account.spots();
        for spot in &spots {
            let mut wire = lab.tunnel_as(&name, &spot.host).await;
            let request = Client::Confused.request(spot, &account.cleared(), &account.values);
            let answered = wire.ask(request).await;
            let case = format!("{name} {}{}", spot.host, spot.path);
            assert_eq!(answered.head.status(), 200, "{case}: {}", answered.text());
            let received = lab.origin.received().pop().expect("a request");
            assert!(received.head.target().contains("x=1"), "{case}");
            assert_received(&account, spot, &received, &canary, &case);
            let text =
                format!("{}{}", String::from_utf8_lossy(&received.head.raw), received.text());
            assert_eq!(text.matches("kwph").count(), 0, "{case}");
            for secret in fields.values().filter(|it| it.len() > 20) {
                assert!(!text.contains(secret.as_str()), "{case}");
            }
        }
        // One token is fetched for all of them.
        assert_eq!(lab.origin.received().len() - before, spots.len() + 1, "{name}");
        lab.guard(Canary::of(token));
        kinds.push(format!("{:?} {:?}", account.auth.kind, account.auth.oauth.map(|it| it.grant)));
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    lab.finish().await;
}

#[tokio::test]
async fn every_credential_that_the_gateway_creates_arrives_in_its_placements() {
    let (mut lab, answer) = lab(is_made).await;
    let mut kinds: Vec<AuthKind> = Vec::new();
    for (account, fields) in connected(&mut lab, is_made).await {
        kinds.push(account.auth.kind);
        let spot = account.spots().pop().expect("a place");
        // The login and the request get the same answer, which is no error to either.
        *answer.lock().expect("not poisoned") = login_answer(&account);
        let answered =
            lab.ask_as(&account.name, &spot.host, &format!("GET {}?x=1", spot.path)).await;
        let name = &account.name;
        assert_eq!(answered.head.status(), 200, "{name}: {}", answered.text());
        let received = lab.origin.received().pop().expect("a request");
        assert!(received.head.target().contains("x=1"), "{name}: {}", received.head.target());
        for place in &spot.places {
            let found = match &place.at {
                Location::Header(header) => received.head.all(header.as_str()).join("|"),
                Location::Query(query) => {
                    super::requests::parameters(received.head.target(), query).join("|")
                }
                other => panic!("{name}: {other:?}"),
            };
            assert!(!found.is_empty() && !found.contains('|'), "{name}: {place:?}");
            if account.auth.kind == AuthKind::Session
                && place.value.fields().any(|it| it == "access_token")
            {
                assert!(found.contains(&session_token(name)), "{name}: {found}");
            }
        }
        let text = String::from_utf8_lossy(&received.head.raw).into_owned();
        for field in account.auth.fields.iter().filter(|field| field.secret) {
            let Some(secret) = fields.get(&field.name) else { continue };
            let placed =
                spot.places.iter().any(|place| place.value.fields().any(|it| it == field.name));
            // OAuth 1.0a names the client and its token in each request.
            let named = account.auth.kind == AuthKind::Oauth1 && !field.name.ends_with("_secret");
            assert_eq!(text.contains(secret), placed || named, "{name}: {}", field.name);
        }
    }
    for kind in KINDS {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
    lab.finish().await;
}
