//! Mistakes in the parts of provider files whose credential is made here.

use crate::provider::catalogue::Catalogue;
use crate::provider::check::file;

/// The problems of a provider with this auth method, without its place.
fn problems(auth: &str) -> Vec<String> {
    let text = format!(
        "id: acme\nname: Acme\nhosts: [api.acme.test]\nvariables: [{{ name: site, default: x }}]\nauth: [{auth}]\n"
    );
    let found = file("p", &text, &Catalogue::default()).err().unwrap_or_default();
    found.iter().map(|problem| problem.to_string().replace("p:5: auth[0]", "")).collect()
}

/// Whether each method has this problem alone.
fn assert_problems<'a>(cases: impl IntoIterator<Item = (String, &'a str)>) {
    for (auth, expected) in cases {
        assert_eq!(problems(&auth), [expected], "{auth}");
    }
}

#[test]
fn mistakes_in_logins_are_named_with_their_remedy() {
    let session = |login: &str| {
        format!(
            "{{ id: a, kind: session, login: {{ url: \"https://api.acme.test/login\", {login} }} }}"
        )
    };
    assert_problems([
        (
            "{ id: a, kind: session }".to_owned(),
            ": kind `session` has no login; describe the request under `login`",
        ),
        (
            session("json: { a: \"{usrname}\" }"),
            ".login.json: `{usrname}` is neither a field nor a variable; declare it under `fields` or `variables`",
        ),
        (
            session("json: { a: \"{username\" }"),
            ".login.json: the braces do not pair; write fields as `{name}`",
        ),
        (session("json: {}, form: {}"), ".login: `json` and `form` exclude each other; keep one"),
        (
            session("bearer: refresh_token"),
            ".login.bearer: `{refresh_token}` is neither a field nor a variable; declare it under `fields` or `variables`",
        ),
    ]);
}

#[test]
fn mistakes_in_signed_tokens_are_named_with_their_remedy() {
    let jwt = |more: &str| format!("{{ id: a, kind: signed_jwt, {more} }}");
    assert_problems([
        (
            jwt("jwt: { alg: none }"),
            ".jwt.alg: this is not an algorithm of tokens; write ES256, ES384, RS256, PS256, EdDSA, HS256 or a longer one",
        ),
        (
            jwt("fields: [{ name: k }, { name: l }]"),
            ".jwt: it is not clear which field is the key; name a field of this method as `key`",
        ),
        (
            jwt("jwt: { iss: \"{issuer}\" }"),
            ".jwt.claims: `{issuer}` is neither a field nor a variable; declare it under `fields` or `variables`",
        ),
    ]);
}

#[test]
fn mistakes_in_signatures_and_certificates_are_named_with_their_remedy() {
    let hmac = |more: &str| {
        format!(
            "{{ id: a, kind: hmac, fields: [{{ name: secret }}], placement: {{ header: X, value: \"{{signature}}\" }}, {more} }}"
        )
    };
    assert_problems([
        (
            hmac("signature: { hash: sha512 }"),
            ".signature: kind `hmac` has no text to sign; write what is signed under `signature`, as `message`",
        ),
        (
            hmac("signature: { message: \"{signature}\" }"),
            ".signature.message: a signature does not sign itself; name it in placements only",
        ),
        (
            hmac("signature: { message: x }, tls: { ca: own }"),
            ".tls: `own` is not a field of this method; declare it under `fields`",
        ),
        (
            hmac("signature: { message: x }, tls: { key: secret }"),
            ".tls: a certificate and its key go together; name `certificate` and `key`, or `ca`, or all three",
        ),
        (
            "{ id: a, kind: bearer, signature: { message: x } }".to_owned(),
            ".signature: `signature` does not go with kind `bearer`; remove it, or change the kind",
        ),
        (
            "{ id: a, kind: oauth1, device: \"https://acme.test/device\" }".to_owned(),
            ".device: `device` does not go with kind `oauth1`; remove it, or change the kind",
        ),
    ]);
}

#[test]
fn valid_logins_signed_tokens_signatures_and_certificates_are_accepted() {
    for auth in [
        "{ id: a, kind: session, login: { url: \"https://api.acme.test/{site}/login\", method: GET, basic: \"{username}:{password}\" } }",
        "{ id: a, kind: signed_jwt, jwt: { iss: \"{upper:site}\", sub: \"{key_fingerprint}\" } }",
        "{ id: a, kind: mtls }",
        "{ id: a, kind: oauth1 }",
        "{ id: a, kind: oauth1, signature: { hash: sha256 } }",
        "{ id: a, kind: hmac, fields: [{ name: s }], signature: { message: \"{site}\" }, place: [{ header: X, value: \"{site} {signature}\" }, { header: V, value: \"1\" }] }",
    ] {
        assert_eq!(problems(auth), Vec::<String>::new(), "{auth}");
    }
}
