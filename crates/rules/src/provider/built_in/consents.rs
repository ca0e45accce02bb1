//! Tests of the default scopes of consents: they suffice for the API of the service.

use crate::provider::Catalogue;

/// With the scopes of a sign-in alone, every request is a 403.
#[test]
fn a_consent_for_a_google_service_requests_a_scope_of_a_google_api() {
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
fn the_typeform_consent_requests_the_scope_that_its_test_request_needs() {
    let catalogue = Catalogue::built_in();
    let auth = catalogue.get("typeform").unwrap().auth(Some("oauth")).unwrap();
    let oauth = auth.oauth.as_ref().unwrap();
    assert!(oauth.scopes.iter().any(|scope| scope == "accounts:read"), "{:?}", oauth.scopes);
}

#[test]
fn the_auth0_consent_names_the_management_api_as_audience() {
    let catalogue = Catalogue::built_in();
    let auth = catalogue.get("auth0").unwrap().auth(Some("oauth")).unwrap();
    let params = &auth.oauth.as_ref().unwrap().authorize_params;
    assert_eq!(params["audience"], "https://{host}/api/v2/");
}
