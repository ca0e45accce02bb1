//! Tests of the scopes of consents: they suffice for the API of the service, and have words.

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

/// oauth 2.scope: with Google's parameter, a token has the scopes of all connections of the account
/// (<https://developers.google.com/identity/protocols/oauth2/web-server#incrementalAuth>).
#[test]
fn no_consent_requests_scopes_that_other_connections_were_granted() {
    for provider in Catalogue::built_in().all() {
        for oauth in provider.auth.iter().filter_map(|auth| auth.oauth.as_ref()) {
            let added = oauth.authorize_params.keys();
            let mut granted = added.filter(|name| name.contains("granted_scopes"));
            assert_eq!(granted.next(), None, "{}", provider.id);
        }
    }
}

#[test]
fn every_requested_or_suggested_scope_has_words() {
    let catalogue = Catalogue::built_in();
    let (mut worded, mut suggesting) = (0, 0);
    for provider in catalogue.all() {
        let asked = provider.auth.iter().filter_map(|auth| auth.oauth.as_ref());
        let asked = asked.flat_map(|oauth| &oauth.scopes);
        let suggested = provider.about.templates.iter().flat_map(|template| &template.scopes);
        for scope in asked.chain(suggested) {
            assert!(provider.about.scope_words.contains_key(scope), "{}: {scope}", provider.id);
        }
        worded += usize::from(!provider.about.scope_words.is_empty());
        suggesting += usize::from(!provider.about.templates.is_empty());
    }
    assert!(worded >= 85 && suggesting >= 56, "{worded} {suggesting}");
    for id in [
        "google",
        "gmail",
        "google-calendar",
        "google-drive",
        "github",
        "slack",
        "microsoft",
        "linear",
        "discord",
        "spotify",
        "atlassian",
        "hubspot",
        "salesforce",
        "dropbox",
        "zoom",
        "gitlab",
        "asana",
    ] {
        assert!(!catalogue.get(id).unwrap().about.scope_words.is_empty(), "{id}");
    }
}
