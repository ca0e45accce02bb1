//! Checks an app before it is stored: its provider uses OAuth, its id, scopes and parameters can be sent,
//! and it has the secret that its client authentication needs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{NewApp, VaultError, method};
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};
use keyward_rules::provider::oauth::ClientAuthText;
use keyward_rules::provider::{AuthMethod, Catalogue, OAuth, Provider};

/// Longest client id, scope and value of a parameter.
const TEXT_BYTES_MAX: usize = 1024;
/// Most scopes of an app.
const SCOPES_MAX: usize = 200;
/// Most parameters of one sort.
const PARAMS_MAX: usize = 32;
/// Longest URL.
const URL_BYTES_MAX: usize = 2048;
/// Upper bound: with a longer buffer, tokens would be renewed constantly.
const BUFFER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Lower bound of keep-alive periods: one pass over all connections takes hours.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(6 * 3600);
/// Upper bound of keep-alive periods.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Parameters that Keyward sets itself. An app that could set them could disable their protection.
const OURS: &[&str] = &[
    "assertion",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "device_code",
    "grant_type",
    "nonce",
    "redirect_uri",
    "refresh_token",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "state",
    "subject_token",
];

/// Checks an app with secrets of these names.
pub(super) fn check(
    catalogue: &Catalogue,
    app: &NewApp,
    secrets: &[&str],
) -> Result<(), VaultError> {
    let (provider, _) = method(catalogue, &app.provider, app.auth.as_deref())?;
    let methods = methods(provider, app.auth.as_deref())?;
    visible(&app.client_id, "client_id")?;
    scopes(&app.scopes, "scopes")?;
    for (name, value) in &app.variables {
        let variable = provider.variable(name).filter(|variable| !variable.captured);
        let unknown =
            || refused("variables", format!("provider `{}` has no variable `{name}`", provider.id));
        variable.ok_or_else(unknown)?.accept(value)?;
    }
    urls(app, provider, &methods)?;
    has_endpoints(app, &methods)?;
    settings(app)?;
    let fits = |method: &&&AuthMethod| {
        let oauth = method.oauth.as_ref();
        oauth.is_some_and(|oauth| proves(app, oauth, secrets).is_ok())
    };
    match methods.iter().find(fits) {
        Some(_) => Ok(()),
        None => methods
            .iter()
            .filter_map(|method| method.oauth.as_ref())
            .try_for_each(|oauth| proves(app, oauth, secrets)),
    }
}

/// The auth methods that the app may be for.
fn methods<'a>(
    provider: &'a Provider,
    auth: Option<&str>,
) -> Result<Vec<&'a AuthMethod>, VaultError> {
    let wanted =
        |method: &&AuthMethod| method.oauth.is_some() && auth.is_none_or(|auth| auth == method.id);
    let found: Vec<_> = provider.auth.iter().filter(wanted).collect();
    match (found.is_empty(), auth) {
        (false, _) => Ok(found),
        (true, Some(auth)) => Err(refused(
            "auth",
            format!("`{auth}` of {} is not OAuth: it needs no app", provider.id),
        )),
        (true, None) => {
            Err(refused("provider", format!("{} has no OAuth: it needs no app", provider.id)))
        }
    }
}

/// RFC 6749 §3.3.
pub(super) fn scopes(scopes: &[String], field: &'static str) -> Result<(), VaultError> {
    if scopes.len() > SCOPES_MAX {
        return Err(refused(field, format!("there are more than {SCOPES_MAX} scopes")));
    }
    let sound = |scope: &String| {
        (1..=TEXT_BYTES_MAX).contains(&scope.len())
            && scope.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
    };
    match scopes.iter().all(sound) {
        true => Ok(()),
        false => {
            Err(refused(field, "a scope is visible ASCII without blanks: list them one by one"))
        }
    }
}

fn urls(app: &NewApp, provider: &Provider, methods: &[&AuthMethod]) -> Result<(), VaultError> {
    let urls = &app.urls;
    for (field, url) in [
        ("urls.issuer", &urls.issuer),
        ("urls.authorize", &urls.authorize),
        ("urls.token", &urls.token),
        ("urls.device", &urls.device),
        ("urls.revoke", &urls.revoke),
    ] {
        let Some(url) = url else { continue };
        if !is_https(url) {
            let what =
                "this is not an https URL: write `https://host/path`, without user and fragment";
            return Err(refused(field, what));
        }
        let takes_tokens = matches!(field, "urls.token" | "urls.revoke");
        if takes_tokens && methods.iter().any(|method| is_injected(url, app, provider, method)) {
            let what = "requests to this URL would carry the credential: describe the service under \
                        `providers`, with this endpoint";
            return Err(refused(field, what));
        }
    }
    Ok(())
}

/// Whether every auth method of the app has a known token endpoint.
fn has_endpoints(app: &NewApp, methods: &[&AuthMethod]) -> Result<(), VaultError> {
    let knows = |method: &&AuthMethod| {
        let oauth = method.oauth.as_ref();
        oauth.is_some_and(|oauth| oauth.token.is_some() || oauth.issuer.is_some())
    };
    if app.urls.token.is_some() || app.urls.issuer.is_some() || methods.iter().any(knows) {
        return Ok(());
    }
    let what = "the provider names neither a token endpoint nor an issuer: give the app `issuer`, or \
                `token` and `authorize`";
    Err(refused("urls.token", what))
}

/// Whether the URL is at one of the provider's hosts, and is not one of its OAuth endpoints, where nothing
/// is injected.
fn is_injected(url: &str, app: &NewApp, provider: &Provider, method: &AuthMethod) -> bool {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let path = tail.split('?').next().filter(|path| !path.is_empty()).unwrap_or("/");
    let Ok(target) = Target::parse(Scheme::Https, authority) else { return true };
    let Ok(path) = DecodedPath::parse(path) else { return true };
    let usual = provider.known_hosts().any(|host| host.matches(&target));
    let Ok(instance) = provider.instantiate(method, &app.variables) else { return usual };
    let owned = instance.paths.is_empty() || instance.paths.iter().any(|own| own.matches(&path));
    let is_it =
        |(host, at): &(HostPattern, PathPattern)| host.matches(&target) && at.matches(&path);
    instance.hosts.iter().any(|host| host.matches(&target))
        && owned
        && !instance.oauth_endpoints.iter().any(is_it)
}

fn is_https(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let sound =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'{' | b'}' | b'"' | b'<' | b'>');
    url.len() <= URL_BYTES_MAX
        && url.bytes().all(sound)
        && !authority.contains('@')
        && Target::parse(Scheme::Https, authority).is_ok()
}

fn settings(app: &NewApp) -> Result<(), VaultError> {
    let settings = &app.settings;
    if settings.refresh_buffer.is_some_and(|buffer| buffer > BUFFER_MAX) {
        return Err(refused("settings.refresh_buffer", "a buffer is 24h at most"));
    }
    let kept = settings.keep_alive.filter(|every| !every.is_zero());
    if kept.is_some_and(|every| !(KEEP_ALIVE_MIN..=KEEP_ALIVE_MAX).contains(&every)) {
        let what = "idle tokens are renewed every 6h to 365d, or never: write `0s`";
        return Err(refused("settings.keep_alive", what));
    }
    params(&settings.authorize_params, "settings.authorize_params")?;
    params(&settings.token_params, "settings.token_params")?;
    settings.key_id.as_deref().map_or(Ok(()), |id| visible(id, "settings.key_id"))
}

fn params(params: &BTreeMap<String, String>, field: &'static str) -> Result<(), VaultError> {
    if params.len() > PARAMS_MAX {
        return Err(refused(field, format!("there are more than {PARAMS_MAX} parameters")));
    }
    for (name, value) in params {
        if OURS.contains(&name.as_str()) {
            return Err(refused(field, format!("`{name}` is made for each request: leave it out")));
        }
        let sound = |text: &str| {
            text.len() <= TEXT_BYTES_MAX && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        };
        if name.is_empty() || !sound(name) || !sound(value) {
            return Err(refused(
                field,
                "names and values are visible ASCII, up to 1024 characters",
            ));
        }
    }
    Ok(())
}

/// Whether the app has the secret for its client authentication.
fn proves(app: &NewApp, oauth: &OAuth, secrets: &[&str]) -> Result<(), VaultError> {
    let given = |name: &str| secrets.contains(&name);
    let usual = match secrets.is_empty() {
        true => ClientAuthText::None,
        false => oauth.client_auth,
    };
    let needed: &[&'static str] = match app.settings.client_auth.unwrap_or(usual) {
        ClientAuthText::None => &[],
        ClientAuthText::PrivateKeyJwt => &["private_key"],
        ClientAuthText::Mtls => &["private_key", "certificate"],
        ClientAuthText::Body
        | ClientAuthText::Basic
        | ClientAuthText::BasicRaw
        | ClientAuthText::BasicSecretAsUsername
        | ClientAuthText::ClientSecretJwt => &["client_secret"],
    };
    match needed.iter().find(|name| !given(name)) {
        None => Ok(()),
        Some(missing) => {
            let what = format!(
                "`{missing}` is missing: the client proves itself with it; or set client_auth"
            );
            Err(refused(missing, what))
        }
    }
}

fn visible(text: &str, field: &'static str) -> Result<(), VaultError> {
    let sound = (1..=TEXT_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        && text.trim() == text;
    match sound {
        true => Ok(()),
        false => Err(refused(field, format!("`{field}` is 1 to 1024 characters of visible ASCII"))),
    }
}

pub(super) fn refused(field: &'static str, what: impl Into<String>) -> VaultError {
    VaultError::App { field, what: what.into() }
}
