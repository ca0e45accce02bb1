//! The stored grant: its contents, its validity, and its renewal.

mod refresh_tokens;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use super::super::{NO_REFRESH_TOKEN, OAuthClient, Temporary};
use super::*;
use crate::grant::{Dead, Grant, MintContext, Minted};
use crate::tests::scripted_server::{
    Server, client, json, noon, provider, provider_of, secret, shown, tokens,
};
use keyward_base::id::ConnectionId;
use keyward_rules::provider::Provider;

fn given(fields: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), secret(value))).collect()
}

/// The grant after it was stored and read.
fn again(grant: &Grant) -> Grant {
    Grant::decode(&grant.encode()).expect("it is whole")
}

fn as_oauth(grant: &Grant) -> &OAuthGrant {
    match grant {
        Grant::OAuth(grant) => grant,
        other => panic!("{other:?}"),
    }
}

fn after(seconds: i64) -> Timestamp {
    noon() + SignedDuration::from_secs(seconds)
}

/// One request of a grant, in the context of a provider and a client.
async fn minted(
    provider: &Provider,
    grant: &Grant,
    server: &Server,
    client: &OAuthClient,
) -> Result<Minted, MintError> {
    let auth = &provider.auth[0];
    let facts = server.over(auth.oauth.as_ref().expect("OAuth"));
    let variables = BTreeMap::new();
    let instance = provider.instantiate(auth, &variables).expect("an instance");
    let connection = ConnectionId::random();
    let ask = Some(server.ask(&facts, client, &variables));
    let client_secret = None;
    let ctx = MintContext {
        connection: &connection,
        generation: 3,
        instance: &instance,
        ask,
        client_secret,
        client_id: None,
    };
    match grant.ready(&ctx)? {
        Some(minted) => Ok(minted),
        None => grant.mint(&ctx).await,
    }
}

fn written(minted: &Minted) -> &str {
    shown(&minted.credential.writes[0].what[0].value)
}

#[test]
fn without_any_token_there_is_no_grant() {
    let provider = provider("");
    let error = Grant::from_fields(&provider.auth[0], given(&[])).map(drop).expect_err("nothing");
    assert_eq!(error, GrantError::NoToken);
    for fields in [&[("refresh_token", "rt")][..], &[("access_token", "at")]] {
        assert!(Grant::from_fields(&provider.auth[0], given(fields)).is_ok());
    }
}

#[test]
fn a_stored_grant_of_an_unknown_kind_is_refused() {
    let fields = given(&[("access_token", "at"), (".by", "quux")]);
    assert!(matches!(OAuthGrant::stored(fields), Err(MintError::Malformed { .. })));
}

/// oauth 7.3, 7.5: a token is never used after its expiry; a token of unknown lifetime is used until the API rejects
/// it.
#[test]
fn a_token_is_live_until_its_end_and_no_longer() {
    let grant = |expires| OAuthGrant::of(Tokens { expires, ..tokens("at", None) });
    let ending = grant(Some(after(60)));
    assert!(ending.is_live(after(59)) && !ending.is_live(after(60)) && !ending.is_live(after(61)));
    assert!(grant(None).is_live(after(1_000_000_000)));
    let none = OAuthGrant::stored(given(&[("refresh_token", "rt")])).expect("a grant");
    assert!(!none.is_live(noon()));
}

#[test]
fn a_stored_grant_reads_back_unchanged() {
    let whole = Tokens {
        expires: Some(after(3_600)),
        refresh_expires: Some(after(86_400)),
        scope: Some(vec!["a".to_owned(), "b".to_owned()]),
        captured: BTreeMap::from([("instance_url".to_owned(), "https://x.test".to_owned())]),
        account: Some("me@acme.test".to_owned()),
        ..tokens("at", Some("rt"))
    };
    for tokens in [whole, tokens("at", None)] {
        let grant = Grant::OAuth(OAuthGrant::of(tokens));
        let read = again(&grant);
        assert_eq!(as_oauth(&read).facts(), as_oauth(&grant).facts());
        assert_eq!(*read.encode(), *grant.encode());
    }
}

/// During a rolling upgrade, an older replica may be the one that refreshes.
#[test]
fn a_renewal_keeps_the_stored_facts_of_a_newer_version() {
    let stored = given(&[("access_token", "at"), ("refresh_token", "rt"), (".bound_key", "k")]);
    let grant = OAuthGrant::stored(stored).expect("a grant");
    let renewed = again(&Grant::OAuth(grant.with(tokens("newer", Some("rt2")))));
    let kept = as_oauth(&renewed).to_fields();
    assert_eq!(kept.get(".bound_key").map(shown), Some("k"));
    assert_eq!(kept.get("refresh_token").map(shown), Some("rt2"));
    assert!(!as_oauth(&renewed).fields().contains_key(".bound_key"), "no placement may use it");
}

#[test]
fn debug_shows_no_token() {
    let grant = Grant::OAuth(OAuthGrant::of(tokens("at-canary", Some("rt-canary"))));
    assert!(!format!("{grant:?}").contains("canary"));
    assert!(!format!("{:?}", grant.revocable()).contains("canary"));
}

const DEAD: i64 = 3_600;

fn expired(refresh: Option<&str>) -> Grant {
    let sent = after(-DEAD);
    again(&Grant::OAuth(OAuthGrant::of(Tokens {
        sent,
        expires: Some(noon()),
        ..tokens("old", refresh)
    })))
}

/// oauth 7.5, 7.exchanged, 9.6: no refresh token, no request; also where a live access token is exchanged.
#[tokio::test]
async fn without_a_refresh_token_an_expired_grant_has_ended_without_a_request() {
    for refresh in ["", EXCHANGES] {
        let mut server = Server::start(&[&json("200 OK", r#"{"access_token":"new"}"#)]).await;
        let client = client("s3cret-canary");
        let result = minted(&provider(refresh), &expired(None), &server, &client).await.map(drop);
        let Err(MintError::Dead { reason, code, .. }) = result else { panic!("{result:?}") };
        assert_eq!((reason, code.as_str()), (Dead::NoRefreshToken, NO_REFRESH_TOKEN), "{refresh}");
        assert!(server.is_quiet(), "{refresh}");
    }
}

const EXCHANGES: &str = "refresh: exchange_access_token";

/// oauth 7.exchanged
#[tokio::test]
async fn an_access_token_is_renewable_while_it_lives_if_it_is_exchanged() {
    let server = Server::start(&[]).await;
    let (client, variables) = (OAuthClient::default(), BTreeMap::new());
    for (refresh, exchanges) in [(EXCHANGES, true), ("", false)] {
        let facts = server.oauth(refresh);
        let ask = server.ask(&facts, &client, &variables);
        for (end, lives) in [(None, true), (Some(after(1)), true), (Some(noon()), false)] {
            let grant = OAuthGrant::of(Tokens { expires: end, ..tokens("at", None) });
            assert_eq!(grant.is_renewable(&ask), exchanges && lives, "{refresh} {end:?}");
        }
        assert!(as_oauth(&expired(Some("rt"))).is_renewable(&ask), "{refresh}");
    }
}

/// oauth 7.exchanged: what is left after the end of the access token.
#[tokio::test]
async fn a_refresh_token_replaces_an_expired_access_token_that_is_usually_exchanged() {
    let mut server = Server::start(&[&json("200 OK", r#"{"access_token":"new"}"#)]).await;
    let client = client("s3cret-canary");
    let minted = minted(&provider(EXCHANGES), &expired(Some("rt1")), &server, &client).await;
    assert_eq!(written(&minted.expect("a credential")), "Bearer new");
    let form = server.received().await.form();
    assert_eq!((&*form["grant_type"], &*form["refresh_token"]), ("refresh_token", "rt1"));
    assert!(!form.contains_key("access_token"), "{form:?}");
}

/// oauth 7.6: a valid token is never refreshed.
#[tokio::test]
async fn a_valid_token_is_used_without_a_request() {
    let mut server = Server::start(&[]).await;
    let client = client("s3cret-canary");
    let expires = Some(noon() + Duration::from_secs(1));
    let live = again(&Grant::OAuth(OAuthGrant::of(Tokens { expires, ..tokens("at", Some("rt")) })));
    let minted = minted(&provider(""), &live, &server, &client).await.expect("a credential");
    assert_eq!(written(&minted), "Bearer at");
    assert!(minted.rotated.is_none());
    assert_eq!(minted.credential.expires, expires);
    assert!(minted.credential.renews.is_some_and(|renews| renews.unsafe_too));
    assert!(server.is_quiet());
}

/// A given token is used until the API rejects it; a given refresh token is sent at once.
#[tokio::test]
async fn pasted_tokens_are_grants() {
    let provider = provider("");
    let auth = &provider.auth[0];
    let server = Server::start(&[&json("200 OK", r#"{"access_token":"new"}"#)]).await;
    let client = client("s3cret-canary");
    let pasted = again(&Grant::from_fields(auth, given(&[("access_token", "at")])).expect("one"));
    let used = minted(&provider, &pasted, &server, &client).await.expect("a credential");
    assert_eq!((written(&used), used.life.renewable), ("Bearer at", false));
    let pasted = again(&Grant::from_fields(auth, given(&[("refresh_token", "rt")])).expect("one"));
    let asked = minted(&provider, &pasted, &server, &client).await.expect("a credential");
    assert_eq!(written(&asked), "Bearer new");
}

/// Files of gcloud, google-auth, googleapis for Node and oauthlib, given in the token's place.
#[test]
fn a_token_file_of_another_tool_is_accepted_as_a_grant() {
    let provider = provider("");
    let imported =
        |file: &str| Grant::from_fields(&provider.auth[0], given(&[("refresh_token", file)]));
    for bad in [r#"{"canary": 1}"#, r#"{"refresh_token": "a canary"}"#, r#"{"token": "canary""#] {
        let error = imported(bad).map(drop).expect_err(bad);
        assert!(matches!(error, GrantError::TokenFile { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    let end = "2026-02-01T13:00:00Z";
    let (seconds, millis) = (after(3_600).as_second(), after(3_600).as_millisecond());
    for (file, access, expires) in [
        (r#"{"type": "authorized_user", "refresh_token": "rt"}"#.to_owned(), None, None),
        (
            format!(r#"{{"token": "at", "refresh_token": "rt", "expiry": "{end}"}}"#),
            Some("at"),
            Some(3_600),
        ),
        (
            format!(
                "{{\n\"access_token\": \"at\",\n\"refresh_token\": \"rt\", \"expiry_date\": {millis}}}\n"
            ),
            Some("at"),
            Some(3_600),
        ),
        (
            format!(
                r#"{{"access_token": "at", "refresh_token": "rt", "expires_at": {seconds}.5}}"#
            ),
            Some("at"),
            Some(3_600),
        ),
        (
            r#"{"token": "at", "refresh_token": "rt", "expiry": "soon"}"#.to_owned(),
            Some("at"),
            None,
        ),
    ] {
        let grant = again(&imported(&file).expect(&file));
        let grant = as_oauth(&grant);
        assert_eq!(shown(&grant.fields()["refresh_token"]), "rt");
        assert_eq!(grant.fields().get("access_token").map(shown), access, "{file}");
        let found = grant.facts().expires.map(|found| found.duration_since(noon()).as_secs());
        assert_eq!(found, expires, "{file}");
    }
}

/// oauth 9.1, 9.2, 9.4: the three results of a failed refresh, as the vault receives them.
#[tokio::test]
async fn a_failed_refresh_counts_as_revoked_client_rejected_or_unavailable() {
    for (body, expected) in [
        (r#"{"error":"invalid_grant"}"#, Some(Dead::Revoked)),
        (r#"{"error":"invalid_client"}"#, Some(Dead::ClientRejected)),
        (r#"{"error":"invalid_scope"}"#, Some(Dead::RequestRejected)),
        (r#"{"error":"slow_down"}"#, None),
    ] {
        let server = Server::start(&[&json("400 Bad Request", body)]).await;
        let client = client("s3cret-canary");
        let result = minted(&provider(""), &expired(Some("rt")), &server, &client).await;
        match (result.map(drop), expected) {
            (Err(MintError::Dead { reason, .. }), Some(expected)) => assert_eq!(reason, expected),
            (Err(MintError::Unavailable(failure)), None) => {
                assert!(matches!(
                    *failure,
                    Temporary { unknown_code: false, ambiguous: false, .. }
                ));
            }
            (other, _) => panic!("{body}: {other:?}"),
        }
    }
}

/// OAuth 3: client credentials need only the app; the first token is requested at the first use.
#[tokio::test]
async fn client_credentials_need_no_fields() {
    let provider = provider("grant: client_credentials, fields: []");
    let grant = again(&Grant::from_fields(&provider.auth[0], given(&[])).expect("a grant"));
    let mut server = Server::start(&[&json("200 OK", r#"{"access_token":"new"}"#)]).await;
    let client = client("s3cret-canary");
    let minted = minted(&provider, &grant, &server, &client).await.expect("a credential");
    assert!(minted.life.renewable);
    assert_eq!(written(&minted), "Bearer new");
    assert_eq!(server.received().await.form()["grant_type"], "client_credentials");
}

fn key() -> String {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    key.expect("a key").serialize_pem()
}

fn payload(assertion: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = assertion.split('.').nth(1).expect("three parts");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

const SERVICE: &str = "{ id: s, kind: service_account, client_auth: none, token: 'https://auth.acme.test/t', \
    scopes: [a, b], fields: [{ name: service_account }, \
    { name: subject, secret: false, optional: true }], \
    placement: { header: Authorization, value: 'Bearer {access_token}' } }";

#[test]
fn an_invalid_key_file_is_refused_without_being_quoted() {
    let provider = provider_of(SERVICE);
    for bad in [
        "canary",
        "{\"canary\": 1}",
        r#"{"type":"authorized_user","client_email":"c","private_key":"canary PRIVATE KEY-----"}"#,
        r#"{"type":"service_account","client_email":"c","private_key":"canary"}"#,
    ] {
        let result = Grant::from_fields(&provider.auth[0], given(&[("service_account", bad)]));
        let error = result.map(drop).expect_err(bad);
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

/// OAuth 3, Google: `aud` is the token endpoint, scopes are a claim, no client; with a subject.
#[tokio::test]
async fn a_service_account_signs_for_itself_or_for_a_user() {
    let provider = provider_of(SERVICE);
    let file = serde_json::json!({
        "type": "service_account", "client_email": "robot@p.iam.test", "private_key": key(),
        "private_key_id": "k1", "token_uri": "https://evil.test/token",
    });
    let file = serde_json::to_string_pretty(&file).expect("JSON");
    for subject in [None, Some("user@acme.test")] {
        let mut fields = given(&[("service_account", &file)]);
        fields.extend(subject.map(|subject| ("subject".to_owned(), secret(subject))));
        let grant = again(&Grant::from_fields(&provider.auth[0], fields).expect("a grant"));
        let mut server = Server::start(&[&json("200 OK", r#"{"access_token":"new"}"#)]).await;
        let client = OAuthClient::default();
        let minted = minted(&provider, &grant, &server, &client).await.expect("a credential");
        assert_eq!(written(&minted), "Bearer new");
        let form = server.received().await.form();
        assert_eq!(form.keys().collect::<Vec<_>>(), ["assertion", "grant_type"]);
        let claims = payload(&form["assertion"]);
        assert_eq!((&claims["iss"], &claims["scope"]), (&"robot@p.iam.test".into(), &"a b".into()));
        assert_eq!(claims["aud"], server.url);
        assert_eq!(claims.get("sub").and_then(|sub| sub.as_str()), subject);
    }
}

/// Google: the account requests another account's token with its own.
#[tokio::test]
async fn a_service_account_acts_as_another_with_its_own_token() {
    let provider = provider_of(
        "{ id: s, kind: service_account, client_auth: none, token: 'https://auth.acme.test/t', \
         renew: 'https://iam.acme.test/v1/{impersonate}:generateAccessToken', scopes: [a, b], \
         placement: { header: Authorization, value: 'Bearer {access_token}' } }",
    );
    let file = serde_json::json!({
        "type": "service_account", "client_email": "robot@p.iam.test", "private_key": key(),
    });
    let fields = given(&[("service_account", &file.to_string()), ("impersonate", "other@p.test")]);
    let grant = again(&Grant::from_fields(&provider.auth[0], fields).expect("a grant"));
    let own = json("200 OK", r#"{"access_token":"own-token"}"#);
    let others = json("200 OK", r#"{"accessToken":"others","expireTime":"2026-02-01T13:00:00Z"}"#);
    let mut server = Server::start(&[&own, &others]).await;
    let minted = minted(&provider, &grant, &server, &OAuthClient::default()).await;
    let minted = minted.expect("a credential");
    assert_eq!((written(&minted), minted.life.expires), ("Bearer others", Some(after(3_600))));
    let claims = payload(&server.received().await.form()["assertion"]);
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    let second = server.received().await;
    assert_eq!(second.fields["authorization"], "Bearer own-token");
    assert_eq!(second.body, r#"{"scope":["a","b"]}"#);
}

/// OAuth 3: a user's token by the app's key. Salesforce names the user in `sub` and its own host in `aud`
/// (<https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm>), DocuSign wants the
/// scopes in the assertion (<https://developers.docusign.com/platform/auth/jwt-grant/>).
#[tokio::test]
async fn an_app_signs_for_a_user_as_salesforce_and_docusign_want_it() {
    for (jwt, aud, scope) in [
        ("{ aud: 'https://login.salesforce.com', ttl: 3m }", "https://login.salesforce.com", None),
        (
            "{ aud: account-d.docusign.com, sub: '{username}', ttl: 1h, scope_claim: true }",
            "account-d.docusign.com",
            Some("signature impersonation"),
        ),
    ] {
        let provider = provider(&format!(
            "grant: jwt_bearer, client_auth: none, scopes: [signature, impersonation], jwt: {jwt}, \
             fields: [{{ name: username, secret: false, optional: true }}, \
             {{ name: subject, secret: false, optional: true }}, {{ name: private_key }}]"
        ));
        let user = if scope.is_some() { "username" } else { "subject" };
        let fields = given(&[(user, "user@acme.test"), ("private_key", &key())]);
        let grant = again(&Grant::from_fields(&provider.auth[0], fields).expect("a grant"));
        let mut server = Server::start(&[&json("200 OK", r#"{"access_token":"new"}"#)]).await;
        let client = client("unused");
        let minted = minted(&provider, &grant, &server, &client).await.expect("a credential");
        assert_eq!((written(&minted), minted.life.renewable), ("Bearer new", true));
        let form = server.received().await.form();
        assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
        assert_eq!(form.contains_key("scope"), scope.is_none());
        let claims = payload(&form["assertion"]);
        assert_eq!((&claims["iss"], &claims["sub"]), (&"id".into(), &"user@acme.test".into()));
        assert_eq!(claims["aud"], aud);
        assert_eq!(claims.get("scope").and_then(|scope| scope.as_str()), scope);
    }
}

/// OAuth 3: the subject's token is exchanged again each time, and never injected.
#[tokio::test]
async fn a_subject_token_is_exchanged_and_never_injected() {
    let provider = provider("grant: token_exchange, fields: [{ name: subject_token }]");
    let fields = given(&[("subject_token", "subject-1")]);
    let grant = again(&Grant::from_fields(&provider.auth[0], fields).expect("a grant"));
    let mut server =
        Server::start(&[&json("200 OK", r#"{"access_token":"new","expires_in":9}"#)]).await;
    let client = client("s3cret-canary");
    let minted = minted(&provider, &grant, &server, &client).await.expect("a credential");
    assert_eq!(written(&minted), "Bearer new");
    assert_eq!(server.received().await.form()["subject_token"], "subject-1");
    let rotated = again(&minted.rotated.expect("a newer grant"));
    assert_eq!(shown(&as_oauth(&rotated).fields()["subject_token"]), "subject-1");
}

/// A GitHub App: its own assertion, no body, the installation in the URL, the answer's own names.
#[tokio::test]
async fn a_github_app_gets_a_token_for_its_installation() {
    let provider = provider_of(
        "{ id: a, kind: github_app, client_auth: none, \
         token: 'https://api.acme.test/app/installations/{installation_id}/access_tokens', \
         jwt: { alg: RS256, iss: '{app_id}', ttl: 9m }, token_path: token, \
         expires_path: expires_at, expires_format: rfc3339, \
         placement: { header: Authorization, value: 'Bearer {access_token}' } }",
    );
    let fields = given(&[("app_id", "7"), ("installation_id", "42"), ("private_key", &key())]);
    let grant = again(&Grant::from_fields(&provider.auth[0], fields).expect("a grant"));
    let body = r#"{"token":"ghs_1","expires_at":"2026-02-01T13:00:00Z"}"#;
    let mut server = Server::start(&[&json("201 Created", body)]).await;
    let client = OAuthClient::default();
    let minted = minted(&provider, &grant, &server, &client).await.expect("a credential");
    assert_eq!(written(&minted), "Bearer ghs_1");
    assert_eq!(minted.life.expires, Some(after(3_600)));
    let request = server.received().await;
    assert_eq!(request.body, "");
    assert!(request.fields.contains_key("user-agent"), "GitHub refuses requests without one");
    let claims = payload(request.fields["authorization"].strip_prefix("Bearer ").expect("Bearer"));
    assert_eq!(claims["iss"], "7");
    assert_eq!(claims["iat"], noon().as_second() - 60);
    assert_eq!(claims["exp"], noon().as_second() + 540);
}
