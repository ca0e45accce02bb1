//! The requests of every grant, as the server receives them.

use std::collections::BTreeMap;

use super::super::{ErrorCode, OAuthClient};
use super::*;
use crate::tests::scripted_server::{
    Server, client, http, json, noon, oauth, secret, shown, tokens,
};
use keyward_rules::provider::Catalogue;
use keyward_rules::provider::oauth::OAuth;

const TOKEN: &str = r#"{"access_token":"at","refresh_token":"rt2","expires_in":3600}"#;

fn form(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A server that answers once, and a client.
async fn one(answer: &str) -> (Server, OAuthClient) {
    (Server::start(&[answer]).await, client("s3cret-canary"))
}

const PROVED: [(&str, &str); 2] = [("client_id", "id"), ("client_secret", "s3cret-canary")];

fn with_proof(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut all = form(pairs);
    all.extend(form(&PROVED));
    all
}

/// oauth 2.8, 5.headers, 5.coded: the fields and parameters of an exchange.
#[tokio::test]
async fn a_code_is_exchanged_with_its_verifier_and_redirect_uri() {
    let (mut server, client) = one(&json("200 OK", TOKEN)).await;
    let (oauth, variables) = (server.oauth(""), BTreeMap::new());
    let ask = server.ask(&oauth, &client, &variables);
    let (code, verifier) = (secret("c/de"), secret("verifier"));
    let uri = "http://127.0.0.1:8081/oauth/callback/app_1";
    let tokens = exchange_code(&ask, &code, uri, Some(&verifier)).await.expect("tokens");
    assert_eq!(shown(&tokens.access), "at");
    assert_eq!(tokens.sent, noon());
    let request = server.received().await;
    assert_eq!(request.line, "POST /token HTTP/1.1");
    let expected = with_proof(&[
        ("grant_type", "authorization_code"),
        ("code", "c/de"),
        ("redirect_uri", uri),
        ("code_verifier", "verifier"),
    ]);
    assert_eq!(request.form(), expected);
    assert_eq!(request.fields["accept"], "application/json");
    assert_eq!(request.fields["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.fields["accept-encoding"], "identity");
    for absent in ["cookie", "authorization"] {
        assert!(!request.fields.contains_key(absent), "{absent}");
    }
}

/// oauth 2.8: a failed exchange is never repeated.
#[tokio::test]
async fn an_exchange_that_fails_is_sent_once() {
    for answer in [http("500 Oops", "", ""), String::new()] {
        let mut server = Server::start(&[&answer, &json("200 OK", TOKEN)]).await;
        let client = client("s3cret-canary");
        let (oauth, variables) = (server.oauth(""), BTreeMap::new());
        let ask = server.ask(&oauth, &client, &variables);
        let result = exchange_code(&ask, &secret("code"), "http://127.0.0.1/", None).await;
        assert!(matches!(result, Err(TokenFailure::Temporary(_))), "{result:?}");
        server.received().await;
        assert!(server.is_quiet());
    }
}

/// OAuth 3, refresh: the scope only where it is required; app parameters such as `resource` again.
#[tokio::test]
async fn a_refresh_repeats_scopes_only_where_the_provider_wants_them() {
    for (more, scope) in
        [("scopes: [a, b]", None), ("scopes: [a, b], renew_scopes: true", Some("a b"))]
    {
        let (mut server, client) = one(&json("200 OK", TOKEN)).await;
        let mut oauth = server.oauth(more);
        oauth.token_params = form(&[("resource", "https://mcp.acme.test/mcp")]);
        let variables = BTreeMap::new();
        let ask = server.ask(&oauth, &client, &variables);
        let tokens = refresh(&ask, &secret("rt 1+"), true).await.expect("tokens");
        assert_eq!(tokens.refresh.as_ref().map(shown), Some("rt2"));
        let mut expected = with_proof(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", "rt 1+"),
            ("resource", "https://mcp.acme.test/mcp"),
        ]);
        expected.extend(scope.map(|scope| ("scope".to_owned(), scope.to_owned())));
        assert_eq!(server.received().await.form(), expected);
    }
}

/// oauth 6.6: the refresh token is kept, so the access token is renewed after the provider's usual lifetime.
#[tokio::test]
async fn a_refresh_whose_answer_has_no_lifetime_uses_the_usual_one() {
    let (server, client) = one(&json("200 OK", r#"{"access_token":"at"}"#)).await;
    let (oauth, variables) = (server.oauth("access_ttl: 2h"), BTreeMap::new());
    let ask = server.ask(&oauth, &client, &variables);
    let tokens = refresh(&ask, &secret("rt"), true).await.expect("tokens");
    assert!(tokens.refresh.is_none());
    let life = tokens.expires.map(|end| end.duration_since(noon()).as_hours());
    assert_eq!(life, Some(2));
}

/// oauth 6.9: the refresh token that was sent may have ended
#[tokio::test]
async fn the_refresh_token_beside_an_unusable_access_token_is_the_next_one() {
    let nested = "token_path: [user.access_token]";
    let (ok, sure, unsure) = ("200 OK", Some(("rt2", true)), Some(("rt2", false)));
    for (status, more, answer, next) in [
        (ok, "", r#"{"refresh_token":"rt2"}"#, sure),
        (ok, "", r#"{"access_token":"a b","refresh_token":"rt2"}"#, sure),
        (ok, "", r#"{"access_token":"at","token_type":"mac","refresh_token":"rt2"}"#, sure),
        (ok, "", r#"{"refresh_token":"rt"}"#, None),
        (ok, "", r#"{"refresh_token":"r\u0007"}"#, None),
        (ok, "", r#"{"error":"quux","refresh_token":"rt2"}"#, unsure),
        (ok, "", r#"{"error":"invalid_grant","refresh_token":"rt2"}"#, None),
        ("500 X", "", r#"{"access_token":"at","refresh_token":"rt2"}"#, unsure),
        ("503 X", "", r#"{"error":"server_error","refresh_token":"rt"}"#, None),
        ("400 X", "", r#"{"error":"invalid_client","refresh_token":"rt2"}"#, None),
        (ok, nested, r#"{"user":{"refresh_token":"rt2"},"refresh_token":"bot"}"#, sure),
        (ok, nested, r#"{"refresh_token":"bot"}"#, None),
    ] {
        let (server, client) = one(&json(status, answer)).await;
        let (oauth, variables) = (server.oauth(more), BTreeMap::new());
        let result = refresh(&server.ask(&oauth, &client, &variables), &secret("rt"), true).await;
        let failure = result.expect_err(answer);
        let found = failure.next.as_ref().map(|next| (shown(&next.token), next.is_sure));
        assert_eq!(found, next, "{status} {answer}: {failure:?}");
    }
}

/// oauth 5.headers: bodies in JSON and other names of parameters, for providers that need them.
#[tokio::test]
async fn a_provider_may_require_json_renamed_and_further_parameters_and_headers() {
    let (mut server, client) = one(&json("200 OK", TOKEN)).await;
    let oauth = server.oauth(
        "token_body: json, renames: { client_id: client_key }, \
         extra_headers: { X-Version: '2026' }, renew_params: { type: refresh }",
    );
    let variables = BTreeMap::new();
    refresh(&server.ask(&oauth, &client, &variables), &secret("rt"), true).await.expect("tokens");
    let request = server.received().await;
    assert_eq!(request.fields["content-type"], "application/json");
    assert_eq!(request.fields["x-version"], "2026");
    let body: Value = serde_json::from_str(&request.body).expect("JSON");
    let expected = json!({
        "grant_type": "refresh_token", "refresh_token": "rt", "type": "refresh",
        "client_key": "id", "client_secret": "s3cret-canary",
    });
    assert_eq!(body, expected);
}

/// OAuth 3, client credentials: parameters such as `audience` have their variables filled in; a refresh token is
/// ignored.
#[tokio::test]
async fn client_credentials_ignore_a_refresh_token() {
    let (mut server, client) = one(&json("200 OK", TOKEN)).await;
    let oauth = server.oauth(
        "grant: client_credentials, scopes: [x], scope_separator: ',', \
         token_params: { audience: 'https://api.acme.test/v2/' }",
    );
    let variables = BTreeMap::new();
    let scopes = ["a".to_owned(), "b".to_owned()];
    let ask = RequestContext { scopes: &scopes, ..server.ask(&oauth, &client, &variables) };
    let tokens = client_credentials(&ask).await.expect("tokens");
    assert!(tokens.refresh.is_none() && tokens.expires.is_some());
    let expected = with_proof(&[
        ("grant_type", "client_credentials"),
        ("scope", "a,b"),
        ("audience", "https://api.acme.test/v2/"),
    ]);
    assert_eq!(server.received().await.form(), expected);
}

/// OAuth 3, JWT bearer, in the shapes of Google, Salesforce and DocuSign.
#[tokio::test]
async fn a_jwt_bearer_assertion_has_issuer_subject_audience_and_expiry() {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let key = key.expect("a key");
    let assertion = |scope_as_claim, seconds| JwtAssertion {
        key: secret(&key.serialize_pem()),
        key_id: Some("k1".to_owned()),
        algorithm: None,
        issuer: "issuer".to_owned(),
        subject: Some("user@acme.test".to_owned()),
        audience: Some("https://login.acme.test".to_owned()),
        seconds,
        backdated: 0,
        scope_as_claim,
    };
    for (scope_as_claim, seconds, life) in
        [(true, None, 300), (false, Some(60), 60), (false, Some(86_400), 3_600)]
    {
        let (mut server, client) = one(&json("200 OK", TOKEN)).await;
        let facts = "scopes: [a, b], client_auth: none";
        let (oauth, variables) = (server.oauth(facts), BTreeMap::new());
        let ask = server.ask(&oauth, &client, &variables);
        let tokens = jwt_bearer(&ask, &assertion(scope_as_claim, seconds)).await.expect("tokens");
        assert!(tokens.refresh.is_none());
        let form = server.received().await.form();
        assert_eq!(form["grant_type"], JWT_BEARER);
        assert_eq!(form.get("scope").map(String::as_str), (!scope_as_claim).then_some("a b"));
        let claims = payload(&form["assertion"]);
        assert_eq!((&claims["iss"], &claims["sub"]), (&"issuer".into(), &"user@acme.test".into()));
        assert_eq!(claims["aud"], "https://login.acme.test");
        assert_eq!(claims["iat"], noon().as_second());
        assert_eq!(claims["exp"], noon().as_second() + life);
        assert_eq!(claims.get("scope").is_some(), scope_as_claim);
        assert!(claims["jti"].is_string());
    }
}

fn payload(assertion: &str) -> Value {
    use base64::Engine as _;
    let payload = assertion.split('.').nth(1).expect("three parts");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn subject() -> SubjectToken {
    SubjectToken {
        token: secret("subject-canary"),
        kind: None,
        actor: None,
        wanted: None,
        audience: Some("other".to_owned()),
        resource: None,
    }
}

/// OAuth 3, token exchange.
#[tokio::test]
async fn an_issued_token_of_another_type_than_requested_is_refused() {
    const TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
    for (issued, taken) in [
        (format!(r#","issued_token_type":"{TYPE}","token_type":"N_A""#), true),
        (String::new(), true),
        (r#","issued_token_type":"urn:ietf:params:oauth:token-type:id_token""#.to_owned(), false),
        (
            r#","issued_token_type":"urn:ietf:params:oauth:token-type:refresh_token""#.to_owned(),
            false,
        ),
    ] {
        let body = format!(r#"{{"access_token":"at"{issued}}}"#);
        let (mut server, client) = one(&json("200 OK", &body)).await;
        let (oauth, variables) = (server.oauth("grant: token_exchange"), BTreeMap::new());
        let ask = server.ask(&oauth, &client, &variables);
        assert_eq!(token_exchange(&ask, &subject()).await.is_ok(), taken, "{issued}");
        let expected = with_proof(&[
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", "subject-canary"),
            ("subject_token_type", TYPE),
            ("audience", "other"),
        ]);
        assert_eq!(server.received().await.form(), expected);
    }
}

/// oauth 9.exchange: by the one code that RFC 8693 has, unless the server is not well or its file says
/// otherwise.
#[tokio::test]
async fn an_expired_subject_token_ends_the_grant() {
    let said = r#"{"error":"invalid_request","error_description":"SubjectToken token inactive"}"#;
    for (status, more, over) in [
        ("400 No", "", true),
        ("500 Oops", "", false),
        ("400 No", ", says: { temporary: [invalid_request] }", false),
    ] {
        let (server, client) = one(&json(status, said)).await;
        let oauth = server.oauth(&format!("grant: token_exchange{more}"));
        let variables = BTreeMap::new();
        let result = token_exchange(&server.ask(&oauth, &client, &variables), &subject()).await;
        let failure = result.expect_err("no token");
        let ends = matches!(&failure, TokenFailure::Permanent { who: ActingParty::Person, .. });
        assert_eq!(ends, over, "{status}{more}: {failure:?}");
        assert_eq!(failure.code().map(ErrorCode::as_str), Some("invalid_request"));
    }
    // In the answer to another request, the code has its usual meaning.
    assert!(failed(&json("400 No", said)).await.unknown_code);
}

/// Instagram and Threads.
#[tokio::test]
async fn a_live_access_token_is_exchanged_by_get() {
    let (mut server, client) = one(&json("200 OK", TOKEN)).await;
    let oauth =
        server.oauth("client_auth: none, refresh: exchange_access_token, renew_params: { grant_type: ig_refresh_token }");
    let variables = BTreeMap::new();
    let ask = server.ask(&oauth, &client, &variables);
    renew_access(&ask, &secret("old+")).await.expect("tokens");
    let line = server.received().await.line;
    let expected = "GET /token?access_token=old%2B&grant_type=ig_refresh_token&client_id=id";
    assert_eq!(line, format!("{expected} HTTP/1.1"));
}

/// The query of a request line that asks for tokens by GET.
fn query(line: &str) -> BTreeMap<String, String> {
    let query = line.strip_prefix("GET /token?").and_then(|line| line.split(' ').next());
    form_urlencoded::parse(query.expect(line).as_bytes()).into_owned().collect()
}

/// The renewals of the catalogue's own files, and the name that each has for the token.
#[tokio::test]
async fn facebook_instagram_and_threads_renewals_use_their_own_parameter_names() {
    let catalogue = Catalogue::built_in();
    for (id, grant_type, name) in [
        ("facebook", "fb_exchange_token", "fb_exchange_token"),
        ("instagram", "ig_refresh_token", "access_token"),
        ("threads", "th_refresh_token", "access_token"),
    ] {
        let auth = catalogue.get(id).and_then(|provider| provider.auth(Some("oauth")));
        let facts = auth.and_then(|auth| auth.oauth.clone()).expect(id);
        let (mut server, client) = one(&json("200 OK", TOKEN)).await;
        let (oauth, variables) = (server.over(&facts), BTreeMap::new());
        let ask = server.ask(&oauth, &client, &variables);
        renew_access(&ask, &secret("old+")).await.expect(id);
        let expected = with_proof(&[("grant_type", grant_type), (name, "old+")]);
        assert_eq!(query(&server.received().await.line), expected, "{id}");
    }
}

/// Without this, a token expires after an hour or two.
#[tokio::test]
async fn the_token_of_a_consent_is_exchanged_for_a_longer_one_where_the_file_says_so() {
    let catalogue = Catalogue::built_in();
    for (id, grant_type, name) in [
        ("facebook", "fb_exchange_token", "fb_exchange_token"),
        ("instagram", "ig_exchange_token", "access_token"),
        ("threads", "th_exchange_token", "access_token"),
    ] {
        let auth = catalogue.get(id).and_then(|provider| provider.auth(Some("oauth")));
        let facts = auth.and_then(|auth| auth.oauth.clone()).expect(id);
        let (mut server, client) = one(&json("200 OK", r#"{"access_token":"longer"}"#)).await;
        let (oauth, variables) = (server.over(&facts), BTreeMap::new());
        let ask = server.ask(&oauth, &client, &variables);
        let first = Tokens { account: Some("me".to_owned()), ..tokens("old+", None) };
        let longer = lengthened(&ask, &first).await.expect(id);
        assert_eq!(longer.account.as_deref(), Some("me"), "{id}");
        assert_eq!(shown(&longer.access), "longer", "{id}");
        let days = longer.expires.map(|end| end.duration_since(noon()).as_hours() / 24);
        assert_eq!(days, Some(60), "{id}");
        let expected = with_proof(&[("grant_type", grant_type), (name, "old+")]);
        assert_eq!(query(&server.received().await.line), expected, "{id}");
    }
}

/// Only a token of weeks outlives a gateway that is stopped for some days.
#[test]
fn every_provider_that_exchanges_access_tokens_has_one_of_60_days_from_the_consent_on() {
    let mut found = Vec::new();
    for provider in Catalogue::built_in().all() {
        let consents = provider.auth.iter().filter_map(|auth| auth.oauth.as_ref());
        for oauth in consents.filter(|oauth| oauth.exchanges_access_token()) {
            assert!(oauth.lengthen.is_some(), "{}", provider.id);
            let days = oauth.access_ttl.map(|life| life.as_secs() / 86_400);
            assert_eq!(days, Some(60), "{}", provider.id);
            found.push(provider.id.to_string());
        }
    }
    assert_eq!(found, ["facebook", "instagram", "threads"]);
}

/// The code is spent by then, so the consent has failed.
#[tokio::test]
async fn a_failed_exchange_for_a_longer_lived_token_is_an_error() {
    let (server, client) = one(&json("400 No", r#"{"error":"invalid_grant"}"#)).await;
    let (oauth, variables) =
        (server.oauth("lengthen: 'https://auth.acme.test/l'"), BTreeMap::new());
    let ask = server.ask(&oauth, &client, &variables);
    let failure = lengthened(&ask, &tokens("old", None)).await.expect_err("refused");
    assert_eq!(failure.code().map(ErrorCode::as_str), Some("invalid_grant"));
}

/// A token is masked under any name.
#[tokio::test]
async fn a_refused_exchange_does_not_show_its_token() {
    let said = r#"{"error":"invalid_grant","error_description":"no: old-token-canary"}"#;
    let (server, client) = one(&json("400 No", said)).await;
    let more = "refresh: exchange_access_token, renew_params: { old: '{access_token}' }";
    let (oauth, variables) = (server.oauth(more), BTreeMap::new());
    let ask = server.ask(&oauth, &client, &variables);
    let failure = renew_access(&ask, &secret("old-token-canary")).await.expect_err("refused");
    assert_eq!(failure.code().map(ErrorCode::as_str), Some("invalid_grant"));
    assert!(!format!("{failure:?} {failure}").contains("canary"), "{failure:?}");
    let (server, client) = one(&json("400 No", said)).await;
    let more = "lengthen: 'https://auth.acme.test/l', lengthen_params: { old: '{access_token}' }";
    let oauth = server.oauth(more);
    let ask = server.ask(&oauth, &client, &variables);
    let first = tokens("old-token-canary", None);
    let failure = lengthened(&ask, &first).await.expect_err("refused");
    assert!(!format!("{failure:?} {failure}").contains("canary"), "{failure:?}");
}

/// The failure of a refresh with this answer.
async fn failed(answer: &str) -> Temporary {
    let (server, client) = one(answer).await;
    let (oauth, variables) = (server.oauth(""), BTreeMap::new());
    let result = refresh(&server.ask(&oauth, &client, &variables), &secret("rt"), true).await;
    match result.expect_err(answer).failure {
        TokenFailure::Temporary(temporary) => temporary,
        other => panic!("{answer}: {other:?}"),
    }
}

/// oauth 6.14, 9.3: redirects, codings, oversize and truncation are temporary, and the token
/// may be spent.
#[tokio::test]
async fn an_answer_that_cannot_be_read_is_temporary_and_ambiguous() {
    let huge = "x".repeat(256 * 1024 + 1);
    for (answer, what) in [
        (http("302 Found", "Location: https://evil.test/\r\n", ""), "redirect"),
        (http("307 Temporary Redirect", "Location: /token\r\n", TOKEN), "redirect"),
        (http("200 OK", "Content-Encoding: gzip\r\n", TOKEN), "coding"),
        (json("200 OK", &huge), "more than is read"),
        (format!("HTTP/1.1 200 OK\r\nX: {huge}\r\n\r\n"), "more than is read"),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{TOKEN}"), "short"),
        (json("200 OK", &TOKEN[..TOKEN.len() / 2]), "not an OAuth response"),
        (http("200 OK", "Content-Type: text/html\r\n", "<p>Welcome"), "not an OAuth response"),
        (json("200 OK", r#"{"access_token":"a b"}"#), "cannot be sent"),
        (String::new(), "no answer"),
        ("HTTP/1.1 200".to_owned(), "no answer"),
        ("garbage\r\n\r\n".to_owned(), "no answer"),
    ] {
        let failure = failed(&answer).await;
        assert!(failure.what.contains(what), "{what}: {failure:?}");
        assert!(failure.ambiguous, "{what}");
    }
}

/// oauth 10.3: `Retry-After` counts although the body is not read.
#[tokio::test]
async fn retry_after_of_a_429_with_an_oversized_body_is_read() {
    let huge = "x".repeat(256 * 1024 + 1);
    let failure = failed(&http("429 Too Many Requests", "Retry-After: 9\r\n", &huge)).await;
    assert!(failure.whole_client);
    assert_eq!(failure.retry_after.map(|pause| pause.as_secs()), Some(9));
}

/// OAuth 9: the operator must correct an app without an endpoint.
#[tokio::test]
async fn an_app_without_an_endpoint_must_be_corrected_by_the_operator() {
    let (mut server, client) = one(&json("200 OK", TOKEN)).await;
    let facts = OAuth { token: None, ..OAuth::clone(&oauth("")) };
    let variables = BTreeMap::new();
    let result = refresh(&server.ask(&facts, &client, &variables), &secret("rt"), true).await;
    let result = result.map_err(|refused| refused.failure);
    let Err(TokenFailure::Permanent { who: ActingParty::Operator(_), code, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(code.as_str(), "no_endpoint");
    assert!(server.is_quiet());
}
