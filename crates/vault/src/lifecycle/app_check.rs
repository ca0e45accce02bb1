//! Checks an app against its provider before it is stored: the provider uses OAuth and has its variables, tokens do
//! not go where the credential is injected, and the client has the secret that its authentication needs. What can be
//! judged without the provider is checked with the spec. Also default settings of a new app, from a template.

use crate::context::method;
use crate::error::VaultError;
use crate::grants::apps::refused;
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};
use keyward_model::{AppSettings, AppSpec, AppUrls};
use keyward_rules::provider::oauth::ClientAuthText;
use keyward_rules::provider::{
    AuthKind, AuthMethod, Catalogue, OAuth, Provider, Template, Variable,
};

/// Checks an app whose secrets have these names.
pub(crate) fn check(
    catalogue: &Catalogue,
    app: &AppSpec,
    secrets: &[&str],
) -> Result<(), VaultError> {
    let (provider, _) = method(catalogue, &app.provider, app.auth.as_deref())?;
    let methods = methods(provider, app.auth.as_deref())?;
    for (name, value) in &app.variables {
        // One that has a default may also be chosen before the provider names it.
        let is_chosen = |it: &&Variable| !it.captured || it.default.is_some();
        let variable = provider.variable(name).filter(is_chosen);
        let unknown =
            || refused("variables", format!("provider `{}` has no variable `{name}`", provider.id));
        variable.ok_or_else(unknown)?.accept(value)?;
    }
    oauth1(app, secrets, &methods)?;
    urls(app, provider, &methods)?;
    has_endpoints(app, &methods)?;
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
    let wanted = |method: &&AuthMethod| method.is_for_app(auth);
    let found: Vec<_> = provider.auth.iter().filter(wanted).collect();
    if let (true, None, Some(method)) =
        (found.is_empty(), auth, provider.auth.iter().find(|method| method.takes_app()))
    {
        let what = format!("an app of OAuth 1.0a names the method that it is for, `{}`", method.id);
        return Err(refused("auth", what));
    }
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

/// An app of OAuth 1.0a: both keys sign every request, and its endpoints are those of the provider.
fn oauth1(app: &AppSpec, secrets: &[&str], methods: &[&AuthMethod]) -> Result<(), VaultError> {
    if methods.iter().any(|method| method.kind != AuthKind::Oauth1) {
        return Ok(());
    }
    if app.urls != AppUrls::default() {
        let what = "an app of OAuth 1.0a has the endpoints of its provider: describe others under `providers`";
        return Err(refused("urls", what));
    }
    match secrets == ["client_secret"] {
        true => Ok(()),
        false => Err(refused(
            "client_secret",
            "an app of OAuth 1.0a has its consumer secret as `client_secret`, and no other secret",
        )),
    }
}

fn urls(app: &AppSpec, provider: &Provider, methods: &[&AuthMethod]) -> Result<(), VaultError> {
    for (field, url) in [("urls.token", &app.urls.token), ("urls.revoke", &app.urls.revoke)] {
        let Some(url) = url else { continue };
        if methods.iter().any(|method| is_injected(url, app, provider, method)) {
            let what = "requests to this URL would carry the credential: describe the service under \
                        `providers`, with this endpoint";
            return Err(refused(field, what));
        }
    }
    Ok(())
}

/// Checks that the app, or one of its auth methods, has a token endpoint or an issuer.
fn has_endpoints(app: &AppSpec, methods: &[&AuthMethod]) -> Result<(), VaultError> {
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

/// Whether the provider's credential is injected into requests to the URL. It is not injected into those to the
/// provider's endpoints.
fn is_injected(url: &str, app: &AppSpec, provider: &Provider, method: &AuthMethod) -> bool {
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

/// Checks that the app has the secrets that its client authentication needs.
fn proves(app: &AppSpec, oauth: &OAuth, secrets: &[&str]) -> Result<(), VaultError> {
    let given = |name: &str| secrets.contains(&name);
    let usual = match secrets.is_empty() {
        true => ClientAuthText::None,
        false => oauth.client_auth,
    };
    let needed: &[&'static str] = match app.settings.tokens.client_auth.unwrap_or(usual) {
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
                "`{missing}` is missing: the client authenticates with it; or set client_auth"
            );
            Err(refused(missing, what))
        }
    }
}

/// The app with the scopes and settings of a template of its provider where it has none itself.
///
/// # Errors
/// When its provider has no such template, or the template has settings that apps do not have.
pub fn with_template(
    mut app: AppSpec,
    catalogue: &Catalogue,
    id: &str,
) -> Result<AppSpec, VaultError> {
    let provider = catalogue.get(&app.provider);
    let provider = provider.ok_or_else(|| VaultError::UnknownProvider(app.provider.clone()))?;
    let known = &provider.about.templates;
    let Some(template) = known.iter().find(|template| template.id == id) else {
        let known: Vec<_> = known.iter().map(|template| template.id.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let what = format!("provider `{}` has no template `{id}`; it has: {known}", provider.id);
        return Err(refused("template", what));
    };
    app.settings = app.settings.with_defaults(template_settings(template)?);
    if app.scopes.is_empty() {
        app.scopes.clone_from(&template.scopes);
    }
    Ok(app)
}

/// The settings of a template.
///
/// # Errors
/// When a setting is unknown or out of bounds.
pub fn template_settings(template: &Template) -> Result<AppSettings, VaultError> {
    serde_json::from_value(template.settings.clone())
        .map_err(|error| refused("template", format!("template `{}`: {error}", template.id)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_template_of_the_catalogue_has_a_unique_id_scopes_and_valid_settings() {
        let mut seen = BTreeSet::new();
        for provider in Catalogue::built_in().all() {
            for template in &provider.about.templates {
                assert!(seen.insert(template.id.clone()), "{}", template.id);
                template_settings(template)
                    .unwrap_or_else(|error| panic!("{}: {error}", template.id));
                assert!(!template.scopes.is_empty(), "{}", template.id);
            }
        }
        assert!(seen.contains("google_workspace") && seen.contains("slack"));
    }
}
