//! Checks the OAuth part of an auth method: endpoints, parameters, quirks, and the consent of OAuth 1.0a, without which the
//! owner gives all four values.

use super::check_minted::Minting;
use super::document::{Problems, key_of};
use super::field::Field;
use super::keys::JwtText;
use super::kinds::{AuthKind, usual_fields};
use super::oauth::{GrantText, Jwt, OAuth, Quirks, RefreshText, TemporaryEndpoint};
use super::own_hosts::{OwnHosts, split_https};
use super::schema::AuthText;
use super::url_template::{UrlTemplate, variables};

/// Checks the token endpoint of an auth method and related keys; `None` for kinds without one.
pub(super) fn oauth(
    text: &AuthText,
    minting: &Minting,
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Option<OAuth> {
    // Where each request has its own signature, there is no token to renew.
    if !text.kind.mints() || minting.scheme.is_some() {
        return None;
    }
    let facts = OAuthCheck { text, path, own }.oauth(problems);
    let login = minting.session.as_ref().map(|session| session.login.url.clone());
    let (session, signed) = (minting.session.clone(), minting.token.clone());
    Some(OAuth { token: login.or(facts.token), session, signed, ..facts })
}

/// Fields whose values a consent and its app give.
const GIVEN_BY_CONSENT: [&str; 4] = ["consumer_key", "consumer_secret", "token", "token_secret"];

/// The app's client id, which endpoints may contain.
const CLIENT_ID: &str = "client_id";

/// Fields that no endpoint or parameter is filled with, because variables are not secret.
const NEVER_FILLED: &[&str] = &["access_token", "refresh_token", "subject_token", "private_key"];

/// The one value of a parameter that is a secret, where the access token is exchanged: in `lengthen_params`, and in
/// `renew_params` of a provider that exchanges it.
const ACCESS_TEMPLATE: &str = "{access_token}";

/// Parameters that secure a flow or name its parts, which data may not set.
const PROTECTING: &[&str] = &[
    "state",
    "redirect_uri",
    "response_type",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "client_secret",
    "client_assertion",
    "nonce",
    "oauth_callback",
    "oauth_token",
    "oauth_verifier",
];

/// The OAuth keys of one auth method.
pub(super) struct OAuthCheck<'a> {
    pub(super) text: &'a AuthText,
    pub(super) path: &'a str,
    pub(super) own: &'a OwnHosts<'a>,
}

impl OAuthCheck<'_> {
    fn oauth(&self, problems: &mut Problems<'_>) -> OAuth {
        self.endpoints(problems);
        self.params(problems);
        self.codes(problems);
        self.captures(problems);
        self.built(problems)
    }

    pub(super) fn built(&self, problems: &mut Problems<'_>) -> OAuth {
        let text = self.text;
        let mut oauth = text.oauth.clone();
        for (key, url) in [
            ("issuer", &oauth.issuer),
            ("authorize", &oauth.authorize),
            ("token", &oauth.token),
            ("renew", &oauth.renew),
            ("lengthen", &oauth.lengthen),
            ("device", &oauth.device),
            ("revoke", &oauth.revoke),
            ("register", &oauth.register),
            ("push", &oauth.push),
            ("userinfo", &oauth.userinfo),
        ] {
            self.url(key, url.as_ref(), problems);
        }
        if !text.kind.asks_people() {
            oauth.grant = GrantText::JwtBearer;
        }
        if oauth.token_path.is_empty() {
            oauth.token_path = OAuth::standard().token_path;
        }
        oauth.jwt = text.jwt.clone().map(
            |JwtText { alg, kid, iss, aud, sub, scope_claim, ttl, .. }| Jwt {
                alg,
                kid,
                iss,
                aud,
                sub,
                scope_claim,
                ttl,
            },
        );
        oauth.says = Quirks {
            keeps_unsafe: !text.replay_unsafe,
            revoke_via: text.revoke_via,
            access_page: text.access_page.clone(),
            account: text.account.clone(),
            keep_alive: text.keep_alive,
            renew_scopes: text.renew_scopes,
            ..oauth.says
        };
        oauth
    }

    pub(super) fn url(&self, key: &str, url: Option<&UrlTemplate>, problems: &mut Problems<'_>) {
        let Some(url) = url.map(UrlTemplate::as_str) else { return };
        let at = key_of(self.path, key);
        // Scheme and host are checked with all endpoints of the provider.
        if url.contains('#') {
            problems.add(&at, "an endpoint has no fragment", "remove all from `#` on");
        }
        self.names(url, &at, problems);
    }

    /// Checks that variables in templates are known when a token is requested.
    fn names(&self, template: &str, at: &str, problems: &mut Problems<'_>) {
        if template.matches('{').count() != template.matches('}').count() {
            problems.add(at, "the braces do not pair", "write variables as `{name}`");
            return;
        }
        let given = self.text.fields.iter().flatten().map(|field| field.name.as_str());
        let usual = usual_fields(self.text.kind, self.text.oauth.grant);
        let usual = usual.iter().map(|field| field.0);
        let fields: Vec<&str> = given.chain(usual).collect();
        for name in variables(template) {
            let is_variable = self.own.variables.iter().any(|variable| variable.name == name);
            if !is_variable && NEVER_FILLED.contains(&name) {
                let message = format!("`{{{name}}}` is a secret, which is not filled in here");
                let remedy = "remove it; only `lengthen_params`, and `renew_params` with `refresh: \
                     exchange_access_token`, accept `{access_token}`, as a whole value";
                problems.add(at, message, remedy);
            } else if !is_variable && name != CLIENT_ID && !fields.contains(&name) {
                let message = format!("`{{{name}}}` is not declared");
                problems.add(at, message, "declare it under `variables`");
            }
        }
    }

    /// Checks that tokens can be obtained: from an endpoint, or from the issuer's metadata. Only a consent
    /// without any known endpoint may leave all of them to its apps.
    fn endpoints(&self, problems: &mut Problems<'_>) {
        let (kind, oauth) = (self.text.kind, &self.text.oauth);
        let is_code = kind == AuthKind::Oauth2 && oauth.grant == GrantText::AuthorizationCode;
        let is_of_apps = is_code && oauth.authorize.is_none() && oauth.device.is_none();
        let asks = !matches!(kind, AuthKind::Session | AuthKind::SignedJwt | AuthKind::AwsRole);
        if oauth.token.is_none() && oauth.issuer.is_none() && !is_of_apps && asks {
            let message = "there is neither a token endpoint nor an issuer";
            let remedy = "add `token: https://…`, or `issuer: https://…` if the server publishes its endpoints";
            problems.add(self.path, message, remedy);
        }
        self.access_page(problems);
    }

    pub(super) fn access_page(&self, problems: &mut Problems<'_>) {
        if self.text.access_page.as_deref().is_some_and(|url| split_https(url).is_none()) {
            let at = key_of(self.path, "access_page");
            problems.add(&at, "this is not an https URL", "write `https://…`");
        }
    }

    /// Checks parameters: those that a flow sets may not be declared, and templates may only name known
    /// variables.
    pub(super) fn params(&self, problems: &mut Problems<'_>) {
        let oauth = &self.text.oauth;
        for (key, params) in [
            ("authorize_params", &oauth.authorize_params),
            ("token_params", &oauth.token_params),
            ("renew_params", &oauth.renew_params),
            ("lengthen_params", &oauth.lengthen_params),
        ] {
            for (name, value) in params {
                let at = key_of(&key_of(self.path, key), name);
                if PROTECTING.contains(&name.as_str()) {
                    let remedy = "remove it: it is made for each request";
                    problems.add(&at, "this parameter protects the flow", remedy);
                }
                let exchanges = match key {
                    "lengthen_params" => true,
                    "renew_params" => oauth.refresh == RefreshText::ExchangeAccessToken,
                    _ => false,
                };
                if !(exchanges && value == ACCESS_TEMPLATE) {
                    self.names(value, &at, problems);
                }
            }
        }
    }

    /// Checks that codes are valid (RFC 6749 §5.2).
    fn codes(&self, problems: &mut Problems<'_>) {
        let says = &self.text.oauth.says;
        let mut seen: Vec<&str> = Vec::new();
        for (key, codes) in [
            ("permanent", &says.permanent),
            ("rejected", &says.rejected),
            ("temporary", &says.temporary),
        ] {
            let at = key_of(&key_of(self.path, "says"), key);
            for code in codes {
                let sound = (1..=64).contains(&code.len())
                    && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
                if !sound {
                    let remedy = "write letters, digits, `_`, `.` and `-`, up to 64";
                    problems.add(&at, "this is not an error code", remedy);
                }
                if seen.contains(&code.as_str()) {
                    let message = format!("`{code}` cannot mean two things");
                    problems.add(&at, message, "keep one");
                }
                seen.push(code);
            }
        }
        if says.expired.as_ref().is_some_and(|it| it.members.0.is_empty() || it.status == 401) {
            let at = key_of(&key_of(self.path, "says"), "expired");
            let remedy = "name a status that is not 401, and members of its JSON";
            problems.add(&at, "this does not tell an expired token from a good answer", remedy);
        }
        if says.ended.iter().any(|it| it.0.is_empty()) {
            let at = key_of(&key_of(self.path, "says"), "ended");
            problems.add(&at, "every answer would end the grant", "name members of its JSON");
        }
    }

    /// Checks captures: a captured value becomes part of a host only if it is a declared variable.
    pub(super) fn captures(&self, problems: &mut Problems<'_>) {
        let oauth = &self.text.oauth;
        for (key, captured) in
            [("capture", &oauth.capture), ("callback_capture", &oauth.callback_capture)]
        {
            for name in captured.keys() {
                let variable = self.own.variables.iter().find(|it| it.name == *name);
                if variable.is_some_and(|variable| !variable.captured) {
                    let at = key_of(&key_of(self.path, key), name);
                    let message = format!("`{name}` is a variable that the owner gives");
                    problems.add(&at, message, "declare it with `captured: true`, or rename it");
                }
            }
        }
    }
}

/// Checks the endpoints of a consent of OAuth 1.0a (RFC 5849 §2) and related keys; `None` for a method without one.
pub(super) fn consent(
    text: &AuthText,
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Option<OAuth> {
    let endpoints = [
        ("request_token", text.request_token.is_some()),
        ("authorize", text.oauth.authorize.is_some()),
        ("token", text.oauth.token.is_some()),
    ];
    if endpoints.iter().all(|(_, is_named)| !is_named) {
        without_consent(text, path, problems);
        return None;
    }
    for (key, _) in endpoints.iter().filter(|(_, is_named)| !is_named) {
        let message = format!("a consent of OAuth 1.0a needs `{key}` too");
        let remedy = "name all of `request_token`, `authorize` and `token`, or none";
        problems.add(path, message, remedy);
    }
    consent_fields(text, path, problems);
    let check = OAuthCheck { text, path, own };
    check.params(problems);
    check.captures(problems);
    check.access_page(problems);
    let url = text.request_token.clone()?;
    check.url("request_token", Some(&url), problems);
    let confirms = !text.unconfirmed_callback;
    let temporary = TemporaryEndpoint { url, confirms, takes_state: text.authorize_state };
    Some(OAuth { temporary: Some(temporary), ..check.built(problems) })
}

/// A consent gives the values of four fields, so no other may be required.
fn consent_fields(text: &AuthText, path: &str, problems: &mut Problems<'_>) {
    let declared = text.fields.iter().flatten();
    for field in declared.filter(|field| !field.optional) {
        if !GIVEN_BY_CONSENT.contains(&field.name.as_str()) {
            let message = format!("a consent gives no `{}`", field.name);
            let remedy = "declare it under `variables`, or with `optional: true`";
            problems.add(&key_of(path, "fields"), message, remedy);
        }
    }
}

/// Makes the fields optional that a consent gives.
pub(super) fn leave_to_consent(fields: &mut [Field]) {
    for field in fields {
        field.optional |= GIVEN_BY_CONSENT.contains(&field.name.as_str());
    }
}

/// Keys that only a consent has.
fn without_consent(text: &AuthText, path: &str, problems: &mut Problems<'_>) {
    let keys = [
        ("revoke", text.oauth.revoke.is_some()),
        ("unconfirmed_callback", text.unconfirmed_callback),
        ("authorize_state", text.authorize_state),
        ("app_steps", !text.app_steps.is_empty()),
        ("app_source", text.app_source.is_some()),
        ("authorize_params", !text.oauth.authorize_params.is_empty()),
        ("account", !text.account.is_empty()),
        ("capture", !text.oauth.capture.is_empty()),
        ("callback_capture", !text.oauth.callback_capture.is_empty()),
        ("access_page", text.access_page.is_some()),
    ];
    for (key, _) in keys.iter().filter(|(_, is_named)| *is_named) {
        let message = format!("`{key}` belongs to a consent, which this method does not have");
        let remedy = "name `request_token`, `authorize` and `token` too, or remove it";
        problems.add(&key_of(path, key), message, remedy);
    }
}

#[cfg(test)]
mod oauth1_tests;
#[cfg(test)]
mod tests;
