//! Tests of the default scopes of consents: they suffice for the API of the service.

use crate::provider::Catalogue;

/// With the scopes of a sign-in alone, every request is a 403.
#[test]
fn a_consent_at_a_service_of_google_asks_for_a_scope_of_its_api() {
    let of_apis = ["https://www.googleapis.com/auth/", "https://mail.google.com/"];
    let mut count = 0;
    for provider in Catalogue::built_in().all() {
        let consents = provider.auth.iter().filter_map(|auth| auth.oauth.as_ref());
        for oauth in consents.filter(|oauth| oauth.apps_of.as_deref() == Some("google")) {
            let is_of_api = |scope: &String| of_apis.iter().any(|it| scope.starts_with(*it));
            assert!(oauth.scopes.iter().any(is_of_api), "{}: {:?}", provider.id, oauth.scopes);
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn the_consent_at_typeform_asks_for_what_the_test_needs() {
    let catalogue = Catalogue::built_in();
    let auth = catalogue.get("typeform").unwrap().auth(Some("oauth")).unwrap();
    let oauth = auth.oauth.as_ref().unwrap();
    assert!(oauth.scopes.iter().any(|scope| scope == "accounts:read"), "{:?}", oauth.scopes);
}

#[test]
fn the_consent_at_auth0_is_for_its_api() {
    let catalogue = Catalogue::built_in();
    let auth = catalogue.get("auth0").unwrap().auth(Some("oauth")).unwrap();
    let params = &auth.oauth.as_ref().unwrap().authorize_params;
    assert_eq!(params["audience"], "https://{host}/api/v2/");
}
