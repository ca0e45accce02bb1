//! [`Offers`]: which providers and auth methods can be used in a connect session, the choice of one, and the
//! existing connection that the session reconnects, if any.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::ApiError;
use crate::state::Admin;
use crate::wire::{AuthView, ProviderView};
use keyward_base::id::OrgId;
use keyward_model::{ConnectSession, ConnectSessionSpec, Connection, Record, Reference};
use keyward_rules::provider::oauth::GrantText;
use keyward_rules::provider::pasted::{self, KeyShapes, ValueMismatch};
use keyward_rules::provider::{AuthMethod, Catalogue, CatalogueEntry, Field, Provider};
use keyward_state::directory::AppRecord;

/// What can be connected.
pub(super) struct Offers {
    catalogue: Arc<Catalogue>,
    pub(super) all: Vec<ConnectOffer>,
}

/// One way to connect an account at a provider.
#[derive(Clone, Debug)]
pub struct ConnectOffer {
    pub provider: Arc<Provider>,
    /// The id of the auth method.
    auth: String,
    /// The scopes that a consent asks for.
    pub scopes: Vec<String>,
}

/// What a person has chosen.
#[derive(Clone, Debug)]
pub(super) struct ConnectChoice {
    pub(super) offer: ConnectOffer,
    pub(super) variables: BTreeMap<String, String>,
}

impl ConnectOffer {
    pub fn auth(&self) -> &AuthMethod {
        self.provider.auth(Some(&self.auth)).expect("the method is one of the provider's")
    }

    /// Whether a person consents at the provider; otherwise they fill in a form.
    pub fn consents(&self) -> bool {
        self.auth().is_consented_to()
    }
}

impl Offers {
    pub(super) fn of(admin: &Admin, session: &Record<ConnectSession>) -> Self {
        Self::of_spec(admin, &session.org, &session.spec)
    }

    fn of_spec(admin: &Admin, org: &OrgId, spec: &ConnectSessionSpec) -> Self {
        let catalogue = admin.deps().vault.catalogue(org);
        if let Some(connection) = target(admin, org, spec) {
            let provider = catalogue.get(&connection.provider);
            let method = |provider: &Arc<Provider>| {
                let auth = provider.auth(connection.auth.as_deref())?;
                let view = admin.deps().directory.view();
                let app = connection.app_id().and_then(|app| view.app(org, app));
                let mut scopes = match connection.scopes.is_empty() {
                    true => scopes_of(auth, app.map(|app| &**app)),
                    false => connection.scopes.clone(),
                };
                let more = spec.scopes.iter().filter(|more| !scopes.contains(more));
                let more: Vec<_> = more.cloned().collect();
                scopes.extend(more);
                let (provider, id) = (provider.clone(), auth.id.clone());
                is_for_owners(auth).then_some(ConnectOffer { provider, auth: id, scopes })
            };
            let all = provider.and_then(method).into_iter().collect();
            return Self { catalogue, all };
        }
        let named = spec.providers.as_deref();
        let is_named = |entry: &CatalogueEntry<'_>| {
            named.is_none_or(|named| named.iter().any(|id| **id == **entry.id()))
        };
        let wanted = catalogue.entries().filter(is_named);
        let all = wanted.flat_map(|it| usable(admin, org, it.provider()));
        let asked = |offer: ConnectOffer| match spec.scopes.is_empty() {
            true => offer,
            false => ConnectOffer { scopes: spec.scopes.clone(), ..offer },
        };
        let all = all.map(asked).collect();
        Self { catalogue, all }
    }

    /// Checks that each named provider exists and can be connected.
    ///
    /// # Errors
    /// With the first one that cannot.
    pub(super) fn check(
        admin: &Admin,
        org: &OrgId,
        spec: &ConnectSessionSpec,
    ) -> Result<(), ApiError> {
        if spec.headless {
            Self::consent(admin, org, spec)?;
        }
        let catalogue = admin.deps().vault.catalogue(org);
        for id in spec.providers.iter().flatten() {
            let Some(provider) = catalogue.get(id) else {
                let known = catalogue.ids();
                let missing = ApiError::not_found_among("provider", id, known);
                return Err(missing.in_field("providers"));
            };
            if usable(admin, org, provider).next().is_none() {
                let message = format!("`{id}` cannot be connected by a link yet");
                let hint = format!(
                    "it needs one app, an OAuth client that you register there: keyward app add {id}"
                );
                return Err(ApiError::field("providers", message).hint(hint));
            }
        }
        Ok(())
    }

    /// The consent of a headless connect session.
    ///
    /// # Errors
    /// When there is none, or the variables do not fit.
    pub(super) fn consent(
        admin: &Admin,
        org: &OrgId,
        spec: &ConnectSessionSpec,
    ) -> Result<ConnectChoice, ApiError> {
        let offers = Self::of_spec(admin, org, spec);
        let named =
            |offer: &&ConnectOffer| spec.auth.as_ref().is_none_or(|auth| *auth == offer.auth);
        let offer = offers.all.iter().filter(|offer| offer.consents()).find(named);
        let field = if spec.auth.is_some() { "auth" } else { "headless" };
        let missing = || {
            ApiError::field(field, "needs an auth method with a consent in the browser")
                .hint("a key is connected with `POST …/complete`, or by a link with pages")
        };
        let offer = offer.cloned().ok_or_else(missing)?;
        if spec.connection.is_none() {
            let checked = offer.provider.check_before_consent(offer.auth(), &spec.variables);
            checked.map_err(|error| ApiError::field("variables", error.to_string()))?;
        }
        Ok(ConnectChoice { offer, variables: spec.variables.clone() })
    }

    /// One per provider.
    pub(super) fn providers(&self) -> Vec<&Arc<Provider>> {
        let mut all: Vec<_> = self.all.iter().map(|offer| &offer.provider).collect();
        all.dedup_by(|one, other| one.id == other.id);
        all
    }

    /// The ways to connect an account at a provider.
    pub(super) fn at(&self, provider: &str) -> Vec<&ConnectOffer> {
        self.all.iter().filter(|offer| *offer.provider.id == *provider).collect()
    }

    /// As the API shows providers, with the methods that can be used.
    pub(super) fn views(&self) -> Vec<ProviderView> {
        let view = |provider: &Arc<Provider>| {
            let auth =
                self.at(&provider.id).into_iter().map(|offer| AuthView::of(provider, offer.auth()));
            ProviderView { auth: auth.collect(), ..ProviderView::from(&**provider) }
        };
        self.providers().into_iter().map(view).collect()
    }

    /// The offer of these names. Without names it is the only provider, and its first method.
    ///
    /// # Errors
    /// When it is not offered.
    pub(super) fn chosen(
        &self,
        provider: Option<&str>,
        auth: Option<&str>,
    ) -> Result<ConnectOffer, ApiError> {
        let provider = match (provider, self.providers().as_slice()) {
            (Some(id), _) => id,
            (None, [only]) => &only.id,
            (None, _) => return Err(ApiError::field("provider", "is missing: there are several")),
        };
        let offers = self.at(provider);
        if offers.is_empty() {
            return Err(ApiError::field("provider", "is not one of this connect session"));
        }
        let named = |offer: &&&ConnectOffer| auth.is_none_or(|auth| offer.auth == auth);
        let found = offers.iter().find(named).copied().cloned();
        found.ok_or_else(|| ApiError::field("auth", "is not one that can be used here"))
    }

    /// Whether a text that is not asked for as a secret is a key of a provider.
    pub(super) fn is_key(&self, text: &str) -> bool {
        let fields = self.catalogue.all().flat_map(|one| &one.auth).flat_map(|auth| &auth.fields);
        let prefixes = fields.filter(|field| field.secret).flat_map(|field| &field.prefixes);
        pasted::is_key(text.trim(), prefixes.map(String::as_str))
    }

    /// Judges the value of a secret field as the command line does.
    ///
    /// # Errors
    /// When it looks like something else.
    pub(super) fn judge(
        &self,
        offer: &ConnectOffer,
        field: &Field,
        value: &str,
    ) -> Result<(), ValueMismatch> {
        let (provider, auth) = (&*offer.provider, offer.auth());
        let wanted = KeyShapes::of(provider, auth, field);
        pasted::judge_in(&self.catalogue, value, &wanted).map(|_| ())
    }
}

/// Whether all fields can be typed: references are for admins, and paths on the agents' machine are of no visitor.
fn is_for_owners(auth: &AuthMethod) -> bool {
    auth.file.is_none() && !auth.fields.iter().any(|field| field.from_source)
}

/// The methods of a provider that a person can use in a browser: a form, or a consent for which there is one app.
/// Device codes are for terminals.
fn usable<'a>(
    admin: &'a Admin,
    org: &'a OrgId,
    provider: &'a Arc<Provider>,
) -> impl Iterator<Item = ConnectOffer> + 'a {
    let is_usable = |auth: &&AuthMethod| {
        let has_app = || {
            let app = admin.deps().flows.find_app(org, &provider.id, Some(&auth.id), None);
            matches!(app, Ok(Some(_)))
        };
        let in_browser = || {
            let grant = auth.oauth.as_ref().map(|oauth| oauth.grant);
            !auth.is_consented_to() || grant == Some(GrantText::AuthorizationCode)
        };
        is_for_owners(auth) && in_browser() && (!auth.needs_app() || has_app())
    };
    let usable = provider.auth.iter().filter(is_usable);
    usable.map(|auth| {
        let find = || admin.deps().flows.find_app(org, &provider.id, Some(&auth.id), None);
        let app = auth.is_consented_to().then(find).and_then(|app| app.ok().flatten());
        let scopes = scopes_of(auth, app.as_deref());
        ConnectOffer { provider: provider.clone(), auth: auth.id.clone(), scopes }
    })
}

/// The scopes that a method asks for if a connection names none.
fn scopes_of(auth: &AuthMethod, app: Option<&AppRecord>) -> Vec<String> {
    let Some(oauth) = auth.oauth.as_deref() else { return Vec::new() };
    app.map_or_else(|| oauth.scopes.clone(), |app| app.override_oauth(oauth).scopes)
}

/// The connection that a connect session connects again.
pub(super) fn target(
    admin: &Admin,
    org: &OrgId,
    spec: &ConnectSessionSpec,
) -> Option<Arc<Record<Connection>>> {
    let id = spec.connection.as_ref().and_then(Reference::id)?;
    admin.deps().directory.view().connection(org, id).cloned()
}
