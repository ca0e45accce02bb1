//! `apps:` and the connections that name them.

use super::{is, read, said};
use crate::config::SecretSource;
use keyward_model::Reference;

/// What stands behind `name: a, provider: github, client_id: x` → what is said.
const BAD: &[(&str, &str)] = &[
    (
        "client_secret: { env: S }, auth: pat",
        "apps[0].auth: `pat` of github is not OAuth: it needs no app",
    ),
    (
        "client_secret: { env: S }, auth: nope",
        "apps[0].auth: provider `github` has no auth method `nope`; it has: pat, oauth_app, app_user, app",
    ),
    (
        "client_secret: { env: S }, urls: { token: 'http://a.test/t' }",
        "apps[0].urls.token: `urls.token` must be an https URL without user and fragment; write `https://host/path`",
    ),
    (
        "client_secret: { env: S }, urls: { token: 'https://u:p@a.test/t' }",
        "apps[0].urls.token: `urls.token` must be an https URL without user and fragment; write `https://host/path`",
    ),
    (
        "client_secret: { env: S }, urls: { token: 'https://api.github.com/token' }",
        "apps[0].urls.token: requests to this URL would carry the credential: describe the service under `providers`, with this endpoint",
    ),
    (
        "client_secret: { env: S }, urls: { tokn: x }",
        "apps[0].urls.tokn: unknown key `tokn`; did you mean `token`?",
    ),
    (
        "client_secret: { env: S }, scopes: ['repo gist']",
        "apps[0].scopes: `scopes` must be up to 200 scopes of visible ASCII without blanks; list them one by one",
    ),
    (
        "client_secret: { env: S }, settings: { authorize_params: { state: x } }",
        "apps[0].settings.authorize_params: `settings.authorize_params` must not have `state`, which each request sets itself; omit it",
    ),
    (
        "client_secret: { env: S }, settings: { refresh_buffer: 30d }",
        "apps[0].settings.refresh_buffer: `settings.refresh_buffer` must be 24h or less; write 5m",
    ),
    (
        "client_secret: { env: S }, settings: { client_auth: magic }",
        "apps[0].settings.client_auth: `magic` is not one of the choices; did you mean `basic`?",
    ),
    (
        "client_secret: { env: S }, settings: { client_auth: private_key_jwt }",
        "apps[0].private_key: `private_key` is missing: the client authenticates with it; or set \
         client_auth",
    ),
    (
        "settings: { client_auth: body }",
        "apps[0].client_secret: `client_secret` is missing: the client authenticates with it; or \
         set client_auth",
    ),
    (
        "client_secret: plain",
        "apps[0].client_secret: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
    ),
    ("variables: { host: x }", "apps[0].variables: provider `github` has no variable `host`"),
];

#[test]
fn an_invalid_app_is_refused_with_its_exact_message() {
    for (more, expected) in BAD {
        let yaml = format!("apps: [{{ name: a, provider: github, client_id: x, {more} }}]");
        let said = said(&yaml, &[]);
        assert_eq!(said, format!("keyward.yaml:1: {expected}"), "{more}");
    }
    for (yaml, expected) in [
        (
            "apps: [{ name: a, provider: openai, client_id: x }]",
            "apps[0].provider: openai has no OAuth: it needs no app",
        ),
        (
            "apps: [{ name: a, provider: githb, client_id: x }]",
            "apps[0].provider: there is no provider `githb`; did you mean `github`?",
        ),
        (
            "apps: [{ name: app_x, provider: github, client_id: x }]",
            "apps[0].name: `name` must be 1 to 64 letters, digits or `-_.`, not an id and not only dots; write another one",
        ),
        (
            "apps: [{ name: a, provider: github }]",
            "apps[0]: `client_id` is missing; add `client_id:`",
        ),
        (
            "apps: [{ name: a, provider: github, client_id: '' }]",
            "apps[0].client_id: `client_id` must be 1 to 1024 characters of visible ASCII; copy it again, whole",
        ),
        (
            "apps: [{ name: a, provider: github, client_id: x }, { name: a, provider: github, client_id: x }]",
            "apps[1].name: the name `a` is used twice; rename or remove one",
        ),
    ] {
        assert_eq!(said(yaml, &[]), format!("keyward.yaml:1: {expected}"), "{yaml}");
    }
}

#[test]
fn a_connection_may_only_name_an_app_for_its_provider_and_auth_method() {
    let apps = "apps: [{ name: hub, provider: github, auth: oauth_app, client_id: x }, { name: goog, provider: google, client_id: y }]";
    for (connection, expected) in [
        (
            "provider: github, auth: pat, app: hub, fields: { token: { env: T } }",
            "app: auth method `pat` is not OAuth: it needs no app; remove it",
        ),
        (
            "provider: github, auth: app_user, app: hub",
            "app: app `hub` is not for `app_user` of github; name one of the same provider",
        ),
        (
            "provider: slack, auth: oauth, app: hub",
            "app: app `hub` is not for `oauth` of slack; name one of the same provider",
        ),
    ] {
        let yaml = format!("{apps}\nconnections: [{{ name: c, {connection} }}]");
        assert_eq!(said(&yaml, &[]), format!("keyward.yaml:2: connections[0].{expected}"));
    }
    let good = format!(
        "{apps}\nconnections: [{{ name: c, provider: github, auth: oauth_app, app: hub, scopes: [repo] }}, {{ name: d, \
         provider: gmail, app: goog }}, {{ name: e, provider: github, auth: oauth_app, app: elsewhere }}]"
    );
    let config = read(&good, &[]);
    assert_eq!(config.connections[0].app, Some(Reference::new("hub")));
    assert_eq!(config.connections[0].scopes, ["repo"]);
    assert_eq!(
        config.connections[1].app,
        Some(Reference::new("goog")),
        "one app for all of Google"
    );
}

#[test]
fn the_fields_of_an_app_are_read_and_its_secret_variable_is_listed() {
    let config = read(
        "insecure_inline: true\napps: [{ name: a, provider: microsoft, auth: oauth, client_id: x, client_secret: \
         shh, scopes: [Mail.Read], variables: { tenant: acme }, urls: { token: 'https://login.acme.test/t' }, \
         settings: { refresh_buffer: 2m, auto_refresh: false, token_params: { a: b } } }, { name: b, provider: \
         github, client_id: y, client_secret: { env: HUB_SECRET } }]",
        &[],
    );
    let app = &config.apps[0];
    assert!(
        matches!(&app.with.sources["client_secret"], SecretSource::Inline(secret) if is(secret, "shh"))
    );
    assert_eq!(app.urls.token.as_deref(), Some("https://login.acme.test/t"));
    assert_eq!(app.settings.tokens.refresh_buffer, Some(std::time::Duration::from_secs(120)));
    assert_eq!(app.settings.tokens.auto_refresh, Some(false));
    assert!(config.secret_variables().contains(&"HUB_SECRET"));
}
