//! Tests of OAuth methods in provider files: what is refused, with the message, and how valid ones are
//! converted.

use crate::provider::{Catalogue, OAuth, Provider, check};

const HEAD: &str = "id: acme\nname: Acme\nhosts: [api.acme.test]\n\
    variables: [{ name: tenant }, { name: pod, captured: true }]\n";

fn read(auth: &str) -> Result<Provider, Vec<String>> {
    let text = format!("{HEAD}auth: [{{ id: o, kind: oauth2, {auth} }}]\n");
    match check::file("p.yaml", &text, &Catalogue::default()) {
        Ok(mut found) => Ok(found.remove(0)),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

/// Input lines, with the expected message.
const BAD: &[(&str, &str)] = &[
    ("token: 'http://a.test/t'", "token: this is not an https URL; write `https://host/path`"),
    (
        "token: 'https://a.test/t', revoke: 'ftp://a.test/r'",
        "revoke: this is not an https URL; write `https://host/path`",
    ),
    ("token: 'https://u:p@a.test/t'", "auth[0].token: "),
    ("token: 'https://a.test/t#x'", "token: an endpoint has no fragment; remove all from `#` on"),
    (
        "token: 'https://a.test/{tennant}/t'",
        "token: `{tennant}` is not declared; declare it under `variables`",
    ),
    (
        "token: 'https://a.test/t?p={access}'",
        "token: `{access}` is not declared; declare it under `variables`",
    ),
    (
        "token: 'https://a.test/{tenant/t'",
        "token: the braces do not pair; write variables as `{name}`",
    ),
    (
        "authorize: 'https://a.test/a'",
        "p.yaml:5: auth[0]: there is neither a token endpoint nor an issuer; add `token: https://…`, or `issuer: ",
    ),
    ("grant: client_credentials", "auth[0]: there is neither a token endpoint nor an issuer; add "),
    ("grant: token_exchange", "auth[0]: there is neither a token endpoint nor an issuer; add "),
    ("grant: jwt_bearer", "auth[0]: there is neither a token endpoint nor an issuer; add "),
    (
        "grant: device_code, device: 'https://a.test/d'",
        "auth[0]: there is neither a token endpoint nor an issuer; add ",
    ),
    (
        "grant: password, token: 'https://a.test/t'",
        "grant: `password` is not one of the choices; write authorization_code, device_code, \
         client_credentials, jwt_bearer, token_exchange",
    ),
    (
        "token: 'https://a.test/t', revoke_via: delete",
        "revoke_via: `delete` is not one of the choices; write rfc7009, basic, token, bearer, \
         query, github, square, webflow, none",
    ),
    (
        "token: 'https://a.test/t', authorize_params: { state: x }",
        "authorize_params.state: this parameter protects the flow; remove it: it is made for each \
         request",
    ),
    (
        "token: 'https://a.test/t', token_params: { audience: '{who}' }",
        "token_params.audience: `{who}` is not declared; declare it under `variables`",
    ),
    (
        "token: 'https://a.test/t', token_params: { t: '{access_token}' }",
        "token_params.t: `{access_token}` is a secret, which is not filled in here; remove it; \
         only `lengthen_params`, and `renew_params` with `refresh: exchange_access_token`, accept \
         `{access_token}`, as a whole value",
    ),
    (
        "token: 'https://a.test/t', authorize_params: { t: '{access_token}' }",
        "authorize_params.t: `{access_token}` is a secret",
    ),
    (
        "token: 'https://a.test/t', lengthen: 'https://a.test/l', lengthen_params: { t: 'x {access_token}' }",
        "lengthen_params.t: `{access_token}` is a secret",
    ),
    (
        "token: 'https://a.test/t', lengthen: 'https://a.test/l', lengthen_params: { t: '{refresh_token}' }",
        "lengthen_params.t: `{refresh_token}` is a secret",
    ),
    (
        "token: 'https://a.test/t', renew_params: { t: '{access_token}' }",
        "renew_params.t: `{access_token}` is a secret",
    ),
    (
        "token: 'https://a.test/t', refresh: exchange_access_token, renew_params: { t: 'x {access_token}' }",
        "renew_params.t: `{access_token}` is a secret",
    ),
    (
        "token: 'https://a.test/t', refresh: exchange_access_token, renew_params: { t: '{refresh_token}' }",
        "renew_params.t: `{refresh_token}` is a secret",
    ),
    ("token: 'https://a.test/{refresh_token}'", "token: `{refresh_token}` is a secret"),
    (
        "token: 'https://a.test/t', grant: token_exchange, token_params: { t: '{subject_token}' }",
        "token_params.t: `{subject_token}` is a secret",
    ),
    ("token: 'https://a.test/t', access_ttl: soon", "access_ttl: `soon` is not a duration"),
    (
        "token: 'https://a.test/t', says: { permanent: ['a b'] }",
        "says.permanent: this is not an error code; write letters, digits, `_`, `.` and `-`, up to 64",
    ),
    (
        "token: 'https://a.test/t', says: { permanent: [gone], temporary: [gone] }",
        "says.temporary: `gone` cannot mean two things; keep one",
    ),
    (
        "token: 'https://a.test/t', says: { expired: { status: 200 } }",
        "says.expired: this does not tell an expired token from a good answer; name a status that is \
         not 401, and members of its JSON",
    ),
    ("token: 'https://a.test/t', says: { gone: [a] }", "says.gone: unknown key `gone`"),
    (
        "token: 'https://a.test/t', scope: [a]",
        "auth[0].scope: unknown key `scope`; did you mean `scopes`?",
    ),
    (
        "token: 'https://a.test/t', capture: { tenant: t }",
        "capture.tenant: `tenant` is a variable that the owner gives; declare it with `captured: \
         true`, or rename it",
    ),
    (
        "token: 'https://a.test/t', access_page: 'javascript:alert(1)'",
        "access_page: this is not an https URL; write `https://…`",
    ),
];

#[test]
fn an_invalid_oauth_method_is_refused_by_key_with_a_remedy() {
    for (auth, expected) in BAD {
        let said = read(auth).map(|_| ()).expect_err(auth).join("\n");
        assert!(said.contains(expected), "{auth}\n{said}");
    }
}

#[test]
fn a_request_that_exchanges_the_access_token_may_send_it_as_a_parameter() {
    let renewal = "refresh: exchange_access_token, renew_params: { t: '{access_token}' }";
    let longer = "lengthen: 'https://a.test/l', lengthen_params: { t: '{access_token}' }";
    for exchanging in [renewal, longer] {
        let auth = format!("token: 'https://a.test/t', {exchanging}");
        assert!(read(&auth).is_ok(), "{exchanging}");
    }
}

#[test]
fn a_key_without_a_value_means_its_default() {
    let keys = "grant: ~, pkce: ~, scope_separator: ~, access_ttl: ~, token_path: []";
    let provider = read(&format!("token: 'https://a.test/t', {keys}")).unwrap();
    let oauth = provider.auth[0].oauth.as_ref().unwrap();
    assert_eq!((oauth.scope_separator.as_str(), oauth.access_ttl), (" ", None));
    assert_eq!(oauth.token_path, ["access_token"]);
}

/// An MCP server's app names all endpoints; an issuer's metadata does.
#[test]
fn an_issuer_or_an_app_may_name_the_endpoints() {
    for auth in ["pkce: required", "issuer: 'https://a.test', grant: client_credentials"] {
        assert!(read(auth).is_ok(), "{auth}");
    }
}

#[test]
fn endpoints_are_filled_with_declared_variables_and_the_client_id() {
    let provider = read(
        "token: 'https://a.test/{tenant}/t', revoke: 'https://a.test/{client_id}/r', \
         token_params: { audience: 'https://{tenant}.a.test' }, capture: { pod: p, note: n }",
    )
    .unwrap();
    let oauth = provider.auth[0].oauth.as_ref().unwrap();
    let values = [("tenant", "a/b"), ("client_id", "x y")];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let token = oauth.token.as_ref().unwrap();
    assert_eq!(token.fill(&values).unwrap(), "https://a.test/a%2Fb/t", "no way out of the path");
    let revoke = oauth.revoke.as_ref().unwrap();
    assert_eq!(revoke.fill(&values).unwrap(), "https://a.test/x%20y/r");
    let params = OAuth::params(&oauth.token_params, &values).unwrap();
    assert_eq!(params["audience"], "https://a/b.a.test");
    assert!(token.fill(&[].into()).is_err(), "a missing variable is named");
}

#[test]
fn an_answer_for_an_expired_token_is_recognised_by_status_and_members() {
    let provider = read(
        "token: 'https://a.test/t', says: { expired: { status: 200, json: { ok: false, error: \
         [token_expired, token_revoked] } } }",
    )
    .unwrap();
    let oauth = provider.auth[0].oauth.as_ref().unwrap();
    let expired = oauth.says.expired.as_ref().unwrap();
    let table = [
        (200, r#"{"ok":false,"error":"token_expired"}"#, true),
        (200, r#"{"ok":false,"error":"token_revoked","x":1}"#, true),
        (401, r#"{"ok":false,"error":"token_expired"}"#, false),
        (200, r#"{"ok":true,"error":"token_expired"}"#, false),
        (200, r#"{"ok":false,"error":"no_channel"}"#, false),
        (200, r#"{"ok":false}"#, false),
        (200, "token_expired", false),
    ];
    for (status, body, is) in table {
        assert_eq!(expired.is(status, body.as_bytes()), is, "{status} {body}");
    }
}

#[test]
fn a_bearer_method_has_no_token_endpoint() {
    let text = "id: a\nname: A\nhosts: [a.test]\nauth: [{ id: b, kind: bearer }]\n";
    let provider = check::file("p", text, &Catalogue::default()).unwrap().remove(0);
    assert!(provider.auth[0].oauth.is_none() && provider.auth[0].minted.is_empty());
}
