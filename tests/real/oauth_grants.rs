//! Flows without a browser at third-party servers: client credentials, signed assertions, token exchange, and
//! tokens of another tool. Each is refreshed after its token has expired.

use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use crate::issuer::{Program, SECRET, World, client};
use test_support::authorization::AUTH_HOST;
use test_support::*;

const ACCOUNT: &str = "robot@project.acme.test";
const OTHER: &str = "other@project.acme.test";

/// Its ways to authenticate, with where tokens are given and taken back.
fn auth(id: &str, kind: &str, revoke: &str, more: &str) -> String {
    format!(
        "{{ id: {id}, kind: {kind}, token: \"https://{AUTH_HOST}/token\", \
         revoke: \"https://{AUTH_HOST}/{revoke}\", {more} }}"
    )
}

/// Requests go on over the end of the token, by its clock and by the API's word; how many were given.
async fn lives_on(world: &World, connection: &str) -> usize {
    let (first, _) = world.works(connection).await;
    until("a newer token", async || world.works(connection).await.0 != first).await;
    let (second, _) = world.works(connection).await;
    world.issuer.end();
    let (third, _) = world.works(connection).await;
    assert!(first != second && second != third);
    world.issuer.log("token").len()
}

/// A client of its own account.
async fn machine(program: Program, revoke: &str) -> World {
    let more = "grant: client_credentials, client_auth: basic, scopes: [read], \
                token_params: { resource: \"https://api.acme.test/v1\" }";
    let mut world = World::of(program, &auth("machine", "oauth2", revoke, more)).await;
    world.app("robot", json!({ "secrets": { "client_secret": SECRET } })).await;
    let known = match program {
        Program::OidcProvider => json!({
            "client_id": "robot", "client_secret": SECRET, "redirect_uris": [], "response_types": [],
            "grant_types": ["client_credentials"],
            "token_endpoint_auth_method": "client_secret_basic",
        }),
        _ => json!({ "client_id": "robot", "method": "client_secret_basic", "secret": SECRET }),
    };
    world.issuer.settle([known], json!({ "access_ttl": 2 }));
    world.connection("work", &json!({})).await;
    world
}

#[tokio::test]
async fn client_credentials_get_and_renew_tokens_for_one_resource_at_oidc_provider() {
    let world = machine(Program::OidcProvider, "token/revocation").await;
    let (_, told) = world.works("work").await;
    assert_eq!((&told["client_id"], &told["scope"]), (&json!("robot"), &json!("read")), "{told}");
    assert_eq!(told["aud"], "https://api.acme.test/v1", "{told}");
    let given = lives_on(&world, "work").await;
    assert!(given >= 3, "{given}");
    let asked = world.issuer.log("token");
    assert!(asked.iter().all(|it| it["grant"] == "client_credentials"), "{asked:#?}");
    world.ends("work").await;
    world.finish().await;
}

#[tokio::test]
async fn client_credentials_get_and_renew_tokens_at_authlib() {
    let world = machine(Program::Authlib, "revoke").await;
    let (_, told) = world.works("work").await;
    assert_eq!((&told["client_id"], &told["scope"]), (&json!("robot"), &json!("read")), "{told}");
    assert!(lives_on(&world, "work").await >= 3);
    world.ends("work").await;
    world.finish().await;
}

/// As DocuSign and Salesforce have it: the client signs, for a user.
#[tokio::test]
async fn an_assertion_of_a_client_for_a_user_is_exchanged_at_authlib() {
    let more = "grant: jwt_bearer, client_auth: none, scopes: [read]";
    let mut world = World::of(Program::Authlib, &auth("jwt", "oauth2", "revoke", more)).await;
    world.app("signer", json!({})).await;
    let (key, stranger) =
        (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let known = json!({ "client_id": "signer", "method": "none", "key": key.public_key_pem() });
    world.issuer.settle([known], json!({ "access_ttl": 2 }));
    for (name, key, subject) in [
        ("forged", &stranger, "alice@acme.test"),
        ("mallory", &key, "mallory@acme.test"),
        ("work", &key, "alice@acme.test"),
    ] {
        world.guard(&key.serialize_pem());
        let fields = json!({ "private_key": key.serialize_pem(), "subject": subject });
        world.connection(name, &json!({ "fields": fields })).await;
        if name != "work" {
            world.is_broken(name, "client_rejected", "invalid_grant").await;
        }
    }
    assert_eq!(world.issuer.log("refused").len(), 2, "each was tried once");
    let (_, told) = world.works("work").await;
    assert_eq!(told["client_id"], "signer", "{told}");
    assert_eq!((&told["sub"], &told["scope"]), (&json!("alice@acme.test"), &json!("read")));
    assert!(lives_on(&world, "work").await >= 3);
    world.ends("work").await;
    world.finish().await;
}

/// As Google has it: the key file signs, with the scopes in the assertion; for itself, for a user of the
/// domain, and as another account.
#[tokio::test]
async fn a_service_account_gets_tokens_as_itself_a_user_or_another_account_at_authlib() {
    let more = format!(
        "client_auth: none, scopes: [sheets, drive], revoke_via: token, \
         renew: \"https://{AUTH_HOST}/accounts/{{impersonate}}:generateAccessToken\""
    );
    let auth = auth("robot", "service_account", "revoke", &more);
    let mut world = World::of(Program::Authlib, &auth).await;
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let known = json!({ "client_id": ACCOUNT, "method": "none", "key": key.public_key_pem() });
    world.issuer.settle([known], json!({}));
    world.guard(&key.serialize_pem());
    let file = json!({
        "type": "service_account", "client_email": ACCOUNT, "private_key_id": "1",
        "private_key": key.serialize_pem(), "token_uri": "https://evil.test/token",
    });
    for (name, who, whose) in [
        ("itself", json!({}), ACCOUNT),
        ("user", json!({ "subject": "alice@acme.test" }), "alice@acme.test"),
        ("another", json!({ "impersonate": OTHER }), OTHER),
    ] {
        let mut fields = who;
        fields["service_account"] = file.to_string().into();
        world.connection(name, &json!({ "fields": fields })).await;
        for _ in 0..2 {
            let (_, told) = world.works(name).await;
            let (sub, scope) = (&told["sub"], &told["scope"]);
            assert_eq!((sub, scope), (&json!(whose), &json!("sheets drive")), "{name}: {told}");
            world.issuer.end();
        }
    }
    let stranger = json!({ "service_account": file.to_string(), "subject": "mallory@acme.test" });
    world.connection("stranger", &json!({ "fields": stranger })).await;
    world.is_broken("stranger", "client_rejected", "invalid_grant").await;
    // Two assertions for each, and two more steps as another.
    assert_eq!(world.issuer.log("token").len(), 2 * 3 + 2);
    world.finish().await;
}

#[tokio::test]
async fn a_subject_token_is_exchanged_at_idpyoidc_until_it_is_revoked() {
    // This server does not decode a Basic pair.
    let more = "grant: token_exchange, client_auth: basic_raw, scopes: [read], \
                token_params: { audience: \"https://api.acme.test\" }, \
                test: { method: GET, url: \"https://api.acme.test/me\" }";
    let mut world = World::of(Program::Idpyoidc, &auth("exchange", "oauth2", "revoke", more)).await;
    world.app("keyward", json!({ "secrets": { "client_secret": SECRET } })).await;
    let known = ["front", "keyward"].map(|id| json!({ "client_id": id, "secret": SECRET }));
    world.issuer.settle(known, json!({}));
    let subject = world.issuer.tell(&json!({ "do": "subject" }))["token"].clone();
    let subject = subject.as_str().expect("a token").to_owned();
    world.guard(&subject);
    let fields = json!({ "subject_token": subject });
    world.connection("work", &json!({ "fields": fields })).await;
    let (first, told) = world.works("work").await;
    assert_ne!(first, subject, "the API sees another token");
    assert_eq!((&told["client_id"], &told["scope"]), (&json!("keyward"), &json!("read")), "{told}");
    assert_eq!(told["aud"], json!(["https://api.acme.test"]), "{told}");
    world.issuer.tell(&json!({ "do": "revoke", "token": first }));
    let (second, _) = world.works("work").await;
    assert_ne!(second, first);
    assert_eq!(world.issuer.log("token").len(), 2);
    // The person's own token ends: nothing can be had for it any more.
    for token in [&second, &subject] {
        world.issuer.tell(&json!({ "do": "revoke", "token": token }));
    }
    for _ in 0..2 {
        world.is_broken("work", "revoked", "invalid_request").await;
    }
    assert_eq!(world.issuer.log("refused").len(), 1, "and nobody asks again");
    // Whoever follows the advice is told what helps, and another token does.
    let told = world.try_api("POST", "/connections/work/reconnect", &json!({})).await.is(422);
    assert!(told.text().contains("keyward connection rotate work"), "{}", told.text());
    let other = world.issuer.tell(&json!({ "do": "subject" }))["token"].clone();
    world.guard(other.as_str().expect("a token"));
    let new = json!({ "fields": { "subject_token": other } });
    world.api("POST", "/connections/work/rotate", &new).await;
    assert_eq!(world.works("work").await.1["scope"], "read");
    assert_eq!(world.shown("work").await["state"], "active");
    world.finish().await;
}

/// Pasted, and in the file that another tool wrote.
#[tokio::test]
async fn refresh_tokens_of_another_tool_rotate_at_oidc_provider_until_they_are_revoked() {
    let more = "grant: authorization_code, client_auth: basic, scopes: [openid]";
    let auth = auth("oauth", "oauth2", "token/revocation", more);
    let mut world = World::of(Program::OidcProvider, &auth).await;
    let redirect = world.app("tool", json!({ "secrets": { "client_secret": SECRET } })).await;
    let secret = json!({ "client_secret": SECRET });
    let known = client("tool", &redirect, "client_secret_basic", secret);
    world.issuer.settle([known], json!({ "access_ttl": 2 }));
    let mut grants = vec![];
    for name in ["pasted", "imported"] {
        let issued = world.issued("tool");
        let file = json!({ "type": "authorized_user", "refresh_token": issued["refresh_token"] });
        let given = if name == "pasted" {
            issued["refresh_token"].clone()
        } else {
            file.to_string().into()
        };
        world.connection(name, &json!({ "fields": { "refresh_token": given } })).await;
        let (_, told) = world.works(name).await;
        assert_eq!((&told["client_id"], &told["sub"]), (&json!("tool"), &json!("alice")), "{told}");
        lives_on(&world, name).await;
        grants.push(issued["grant"].clone());
    }
    world.lab.gateway.restart().await;
    for name in ["pasted", "imported"] {
        world.refreshes(name).await;
        world.works(name).await;
    }
    let (given, rotated) = (world.issuer.log("token").len(), world.issuer.log("rotated").len());
    assert_eq!(given, rotated, "each token of one refresh token");
    assert_eq!(world.issuer.log("refused"), Vec::<Value>::new(), "and none was used twice");
    // The account's owner takes the access back at the server.
    world.issuer.tell(&json!({ "do": "revoke", "grant": grants[0] }));
    world.is_broken("pasted", "revoked", "invalid_grant").await;
    world.ends("imported").await;
    world.finish().await;
}
