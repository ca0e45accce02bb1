//! Tests of consents of OAuth 1.0a in provider files: what is refused, with the message, and what a valid one means.

use crate::provider::{AuthMethod, Catalogue, check};

const ENDPOINTS: &str = "request_token: 'https://api.acme.test/oauth/request_token', \
    authorize: 'https://acme.test/oauth/authorize', token: 'https://api.acme.test/oauth/access_token'";

fn read(auth: &str) -> Result<AuthMethod, Vec<String>> {
    let text = format!(
        "id: acme\nname: Acme\nhosts: [api.acme.test]\nauth: [{{ id: o, kind: oauth1, {auth} }}]\n"
    );
    match check::file("p", &text, &Catalogue::default()) {
        Ok(mut found) => Ok(found.remove(0).auth.remove(0)),
        Err(problems) => {
            let told = problems.iter().map(|it| it.to_string().replace("p:4: auth[0]", ""));
            Err(told.collect())
        }
    }
}

/// Whether the service must confirm the callback.
fn confirms(auth: &AuthMethod) -> bool {
    let temporary = auth.oauth.as_ref().and_then(|oauth| oauth.temporary.as_ref());
    temporary.expect("a consent").confirms
}

#[test]
fn mistakes_in_consents_are_named_with_their_remedy() {
    let with = |more: &str| format!("{ENDPOINTS}, {more}");
    for (auth, expected) in [
        (
            "request_token: 'https://api.acme.test/r', token: 'https://api.acme.test/t'".to_owned(),
            ": a consent of OAuth 1.0a needs `authorize` too; name all of `request_token`, `authorize` and `token`, or \
             none",
        ),
        (
            "authorize: 'https://api.acme.test/a', token: 'https://api.acme.test/t'".to_owned(),
            ": a consent of OAuth 1.0a needs `request_token` too; name all of `request_token`, `authorize` and \
             `token`, or none",
        ),
        (
            "revoke: 'https://api.acme.test/r'".to_owned(),
            ".revoke: `revoke` belongs to a consent, which this method does not have; name `request_token`, \
             `authorize` and `token` too, or remove it",
        ),
        (
            with("revoke: 'http://api.acme.test/r'"),
            ".revoke: this is not an https URL; write `https://host/path`",
        ),
        (
            with("authorize_params: { oauth_token: x }"),
            ".authorize_params.oauth_token: this parameter protects the flow; remove it: it is made for each request",
        ),
        (
            with("fields: [{ name: token }, { name: realm }]"),
            ".fields: a consent gives no `realm`; declare it under `variables`, or with `optional: true`",
        ),
        (
            with("scopes: [read]"),
            ".scopes: `scopes` does not go with kind `oauth1`; remove it, or change the kind",
        ),
        (
            with("app_steps: [create an app]"),
            ".app_steps: 1 step must have ` {redirect_uri}`; put it at the end of the step that \
             registers the redirect URI, and in no other",
        ),
        (
            with("access_page: 'acme.test'"),
            ".access_page: this is not an https URL; write `https://…`",
        ),
    ] {
        assert_eq!(read(&auth).err().unwrap_or_default(), [expected], "{auth}");
    }
}

#[test]
fn an_oauth1_method_without_endpoints_has_no_consent_and_no_app() {
    let auth = read("signature: { hash: sha256 }").unwrap();
    assert!(!auth.is_consented_to() && !auth.needs_app() && !auth.takes_app());
}

#[test]
fn a_consent_needs_an_app_and_its_endpoints_get_no_credential() {
    let auth = read(ENDPOINTS).unwrap();
    assert!(auth.is_consented_to() && auth.needs_app() && auth.takes_app());
    assert!(!auth.has_tokens(), "nothing is renewed");
    assert!(auth.fields.iter().all(|field| field.optional), "the consent gives them");
    assert!(read("label: x").unwrap().fields.iter().all(|field| !field.optional));
    assert!(confirms(&auth));
    let loose = read(&format!("{ENDPOINTS}, unconfirmed_callback: true")).unwrap();
    assert!(!confirms(&loose));

    let text = format!(
        "id: acme\nname: Acme\nhosts: [api.acme.test]\nauth: [{{ id: o, kind: oauth1, {ENDPOINTS} }}]\n"
    );
    let provider = check::file("p", &text, &Catalogue::default()).unwrap().remove(0);
    let paths: Vec<_> = provider.oauth_endpoints.iter().map(|(_, path)| path.to_string()).collect();
    assert_eq!(paths, ["/oauth/request_token", "/oauth/access_token"]);
}
