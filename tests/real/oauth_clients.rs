//! Every client authentication method, at servers that check it: `oidc-provider`, which is known only by its issuer,
//! and Authlib, which has none.

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use crate::issuer::{Program, SECRET, World, client};
use test_support::authorization::AUTH_HOST;
use test_support::oauth::AGENT;
use test_support::pki::pki;
use test_support::*;

/// Long enough for HS256, and hard to encode.
const LONG: &str = "s+e/c%r:e&t =~ of a test, and long enough for HS256";

/// A way, by the server's name of it and by ours, with what proves it and what the server verifies by.
struct Way {
    id: &'static str,
    method: &'static str,
    ours: &'static str,
    secrets: Value,
    known: Value,
}

/// The same client, and what does not prove that it is.
struct Wrong {
    way: Way,
    secrets: Value,
}

fn auth() -> String {
    format!(
        "{{ id: oauth, kind: oauth2, grant: authorization_code, issuer: \"https://{AUTH_HOST}\", \
         scopes: [openid] }}"
    )
}

/// A key, and its public half.
fn pair(key: &KeyPair) -> (Value, Value) {
    (json!({ "private_key": key.serialize_pem() }), json!({ "keys": [key.public_key_pem()] }))
}

/// A certificate that vouches for itself, and its key.
fn self_signed() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["keyward.acme.test".to_owned()]).expect("a name");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

fn identity((certificate, key): &(String, String)) -> Value {
    json!({ "certificate": certificate, "private_key": key })
}

fn ways() -> Vec<Way> {
    let way = |id, method, ours, (secrets, known)| Way { id, method, ours, secrets, known };
    let secret = || (json!({ "client_secret": LONG }), json!({ "client_secret": LONG }));
    let ec = KeyPair::generate().expect("a key");
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let (vouched, own) = (pki().pem(&["keyward.acme.test"]), self_signed());
    let name = json!({ "tls_client_auth_san_dns": "keyward.acme.test" });
    let shown = (identity(&own), json!({ "keys": [own.0] }));
    vec![
        way("basic", "client_secret_basic", "basic", secret()),
        way("post", "client_secret_post", "body", secret()),
        way("public", "none", "none", (json!({}), json!({}))),
        way("shared-jwt", "client_secret_jwt", "client_secret_jwt", secret()),
        way("ec-jwt", "private_key_jwt", "private_key_jwt", pair(&ec)),
        way("rsa-jwt", "private_key_jwt", "private_key_jwt", pair(&rsa)),
        way("tls", "tls_client_auth", "mtls", (identity(&vouched), name)),
        way("own-tls", "self_signed_tls_client_auth", "mtls", shown),
    ]
}

/// Each way with what another client would have; the public one without what it has to prove.
fn wrong() -> Vec<Wrong> {
    let other = |way: &Way| match way.ours {
        "private_key_jwt" => pair(&KeyPair::generate().expect("a key")).0,
        "mtls" if way.id == "tls" => identity(&pki().pem(&["somebody.acme.test"])),
        "mtls" => identity(&self_signed()),
        "none" => json!({}),
        _ => json!({ "client_secret": format!("not-{LONG}") }),
    };
    let wrong = |way: Way| match way.ours {
        "none" => {
            let known = json!({ "client_secret": LONG });
            Wrong { secrets: json!({}), way: Way { method: "client_secret_basic", known, ..way } }
        }
        _ => Wrong { secrets: other(&way), way },
    };
    ways().into_iter().map(wrong).collect()
}

/// An app for each; what the server knows of them.
async fn apps<'a>(
    world: &mut World,
    all: impl IntoIterator<Item = (&'a Way, &'a Value)>,
    urls: &Value,
) {
    let mut known = vec![];
    for (way, secrets) in all {
        let settings = json!({ "client_auth": way.ours });
        let app = json!({ "secrets": secrets, "settings": settings, "urls": urls });
        let redirect = world.app(way.id, app).await;
        known.push(client(way.id, &redirect, way.method, way.known.clone()));
    }
    world.issuer.settle(known, json!({}));
}

#[tokio::test]
async fn wrong_client_authentication_gets_no_token_and_is_tried_once() {
    let all = wrong();
    let mut world = World::of(Program::OidcProvider, &auth()).await;
    // Nothing is discovered where nobody consents.
    let urls = json!({ "token": format!("https://{AUTH_HOST}/token") });
    apps(&mut world, all.iter().map(|it| (&it.way, &it.secrets)), &urls).await;
    for (count, Wrong { way, .. }) in all.iter().enumerate() {
        let token = world.issued(way.id)["refresh_token"].clone();
        let given = json!({ "app": way.id, "fields": { "refresh_token": token } });
        world.connection(way.id, &given).await;
        for _ in 0..2 {
            world.is_broken(way.id, "client_rejected", "invalid_client").await;
        }
        let refused = world.issuer.log("refused");
        assert_eq!(refused.len(), count + 1, "{}: {refused:#?}", way.id);
    }
    assert!(world.issuer.log("rotated").is_empty() && world.issuer.log("token").is_empty());
    assert!(world.lab.origin.received().is_empty(), "nothing went out");
    world.finish().await;
}

#[tokio::test]
async fn every_client_authentication_works_from_the_consent_to_the_revocation() {
    let all = ways();
    let mut world = World::of(Program::OidcProvider, &auth()).await;
    apps(&mut world, all.iter().map(|way| (way, &way.secrets)), &json!({})).await;
    for way in &all {
        let made = world.connection(way.id, &json!({ "app": way.id })).await;
        world.consented(&made).await;
        let (first, told) = world.works(way.id).await;
        assert_eq!((&told["client_id"], &told["sub"]), (&json!(way.id), &json!("alice")));
        // The API says that it is over, and then somebody asks for a newer one.
        world.issuer.end();
        let (second, _) = world.works(way.id).await;
        world.refreshes(way.id).await;
        let (third, _) = world.works(way.id).await;
        assert!(first != second && second != third, "{}", way.id);
        let given = world.issuer.log("token");
        let grants: Vec<_> = given.iter().filter(|it| it["client"] == way.id).collect();
        let grants: Vec<_> =
            grants.iter().map(|it| it["grant"].as_str().expect("a grant")).collect();
        assert_eq!(grants, ["authorization_code", "refresh_token", "refresh_token"], "{}", way.id);
        let before = world.issuer.log("revoked").len();
        world.ends(way.id).await;
        assert!(world.issuer.log("revoked").len() > before, "{}: the grant too", way.id);
    }
    assert_eq!(world.issuer.log("rotated").len(), 2 * all.len());
    assert_eq!(world.issuer.log("refused"), Vec::<Value>::new());
    world.finish().await;
}

/// oauth 11.certificate: the userinfo endpoint of `oidc-provider` accepts a token that is bound to a certificate (RFC 8705) only with it.
#[tokio::test]
async fn a_token_bound_to_a_certificate_is_shown_to_the_api_with_it_also_after_a_refresh() {
    let at = |path: &str| format!("\"https://{AUTH_HOST}/{path}\"");
    let bound = format!(
        "{{ id: bound, name: Bound, hosts: [{AUTH_HOST}], auth: [{{ id: oauth, kind: oauth2, \
         grant: authorization_code, issuer: \"https://{AUTH_HOST}\", authorize: {}, token: {}, \
         scopes: [openid] }}] }}",
        at("auth"),
        at("token"),
    );
    let plan = |plan: Plan| plan.provider(&bound);
    let mut world = World::with(Program::OidcProvider, &auth(), false, plan).await;
    let own = self_signed();
    let mut known = vec![];
    for (name, binds) in [("bound", true), ("unbound", false)] {
        let app = json!({ "secrets": identity(&own), "settings": { "client_auth": "mtls" },
                          "provider": "bound" });
        let redirect = world.app(name, app).await;
        let more = json!({ "keys": [own.0], "tls_client_certificate_bound_access_tokens": binds });
        known.push(client(name, &redirect, "self_signed_tls_client_auth", more));
    }
    world.issuer.settle(known, json!({}));
    for name in ["bound", "unbound"] {
        let made = world.connection(name, &json!({ "provider": "bound", "app": name })).await;
        world.consented(&made).await;
        let ask = format!("GET /me\r\nKeyward-Connection: {name}");
        for _ in 0..2 {
            let told = world.lab.ask_as(AGENT, AUTH_HOST, &ask).await;
            assert_eq!(told.head.status(), 200, "{name}: {}", told.text());
            assert_eq!(told.json()["sub"], "alice", "{name}");
            world.refreshes(name).await;
        }
    }
    world.finish().await;
}

/// Where no issuer is known an assertion is for the token endpoint.
#[tokio::test]
async fn authlib_accepts_four_client_authentications_and_rejects_another_key() {
    let token = format!("https://{AUTH_HOST}/token");
    let auth = format!(
        "{{ id: machine, kind: oauth2, grant: client_credentials, token: \"{token}\", \
         revoke: \"https://{AUTH_HOST}/revoke\", scopes: [read] }}"
    );
    let mut world = World::of(Program::Authlib, &auth).await;
    let (key, stranger) =
        (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let (signs, own) = ("client_assertion_jwt", key.public_key_pem());
    let (secret, key) = (json!({ "client_secret": SECRET }), pair(&key).0);
    let mut known = vec![];
    for (id, ours, method, secrets) in [
        ("basic", "basic", "client_secret_basic", &secret),
        ("post", "body", "client_secret_post", &secret),
        ("shared-jwt", "client_secret_jwt", signs, &secret),
        ("ec-jwt", "private_key_jwt", signs, &key),
        ("forged", "private_key_jwt", signs, &pair(&stranger).0),
    ] {
        let settings = json!({ "client_auth": ours });
        world.app(id, json!({ "secrets": secrets, "settings": settings })).await;
        known.push(match ours {
            "private_key_jwt" => json!({ "client_id": id, "method": method, "key": own }),
            _ => json!({ "client_id": id, "method": method, "secret": SECRET }),
        });
    }
    world.issuer.settle(known, json!({}));
    for id in ["basic", "post", "shared-jwt", "ec-jwt", "forged"] {
        world.connection(id, &json!({ "app": id })).await;
        if id == "forged" {
            world.is_broken(id, "client_rejected", "invalid_client").await;
            continue;
        }
        assert_eq!(world.works(id).await.1["client_id"], id);
        world.issuer.end();
        assert_eq!(world.works(id).await.1["client_id"], id);
        world.ends(id).await;
    }
    assert_eq!(world.issuer.log("token").len(), 2 * 4);
    assert_eq!(world.issuer.log("refused").len(), 1);
    world.finish().await;
}
