//! [`Remedies`]: the instructions for a person whose connection cannot be used. Refusals of the proxy, tests, lists,
//! `doctor`, plugins, webhooks and the log all use this text; no other module has its own.
//!
//! A remedy keeps the connection's id, bindings and placeholders. Only the remedy for a connection that left
//! the configuration file may suggest its removal.

use super::records::{AppRecord, ConnectionRecord};
use super::view::View;
use keyward_model::{BrokenReason, ConnectionState, ManagedBy, Renewal};
use keyward_rules::provider::keys::ClientAuthText;
use keyward_rules::provider::{
    AuthMethod, Catalogue, Confidence, Provider, error_codes, error_notes,
};

/// The problem that a remedy is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RemedyCause<'a> {
    /// The connection cannot be used, as its state says.
    Use,
    /// It is broken; its state may be updated only later.
    Broken {
        reason: BrokenReason,
        /// The provider's own code, or one of ours.
        detail: Option<&'a str>,
    },
    /// Its credential is refused, lost, or near its end.
    Credential,
    /// The credential lacks these scopes.
    Scopes(&'a [String]),
    /// Its token has expired, and requests do not refresh it.
    Token,
}

/// A connection, with the data that its remedies depend on.
#[derive(Clone, Copy, Debug)]
pub struct Remedies<'a> {
    connection: &'a ConnectionRecord,
    app: Option<&'a AppRecord>,
    provider: Option<&'a Provider>,
    auth: Option<&'a AuthMethod>,
}

impl<'a> Remedies<'a> {
    /// For a connection. `app`: the app of its tokens.
    pub fn new(
        connection: &'a ConnectionRecord,
        app: Option<&'a AppRecord>,
        catalogue: &'a Catalogue,
    ) -> Self {
        let provider = catalogue.get(&connection.provider).map(AsRef::as_ref);
        let auth = provider.and_then(|provider| provider.auth(connection.auth.as_deref()));
        Self { connection, app, provider, auth }
    }

    /// For a connection, with its app in `view`.
    pub fn in_view(
        connection: &'a ConnectionRecord,
        catalogue: &'a Catalogue,
        view: &'a View,
    ) -> Self {
        let app = connection.app_id().and_then(|id| view.app(&connection.org, id));
        Self::new(connection, app.map(AsRef::as_ref), catalogue)
    }

    /// How the credential is replaced. Without an app no consent is possible, so tokens are imported again.
    pub fn renewal(&self) -> Renewal {
        match self.auth {
            Some(auth) if auth.is_consented_to() && self.connection.app.is_some() => {
                Renewal::Consent
            }
            Some(auth) if auth.oauth.is_some() && !auth.fields.iter().any(|it| it.secret) => {
                Renewal::App
            }
            _ => Renewal::Secret,
        }
    }

    /// The instruction for a person, in a phrase without a full stop; `None` if no action is needed.
    pub fn remedy(&self, cause: RemedyCause<'_>) -> Option<String> {
        match (cause, &self.connection.facts.state) {
            (RemedyCause::Use, state) => self.for_state(state),
            // A draft must be completed before anything else.
            (_, ConnectionState::Draft { .. }) => Some(self.for_draft()),
            (RemedyCause::Broken { reason, detail }, _) => Some(self.for_verdict(reason, detail)),
            (RemedyCause::Credential, _) => Some(self.for_credential()),
            (RemedyCause::Scopes(scopes), _) => Some(self.for_scopes(scopes)),
            (RemedyCause::Token, _) => Some(self.refreshing()),
        }
    }

    fn for_state(&self, state: &ConnectionState) -> Option<String> {
        match state {
            ConnectionState::Draft { .. } => Some(self.for_draft()),
            _ if !self.is_fit() => Some(self.for_provider()),
            ConnectionState::Active | ConnectionState::Testing => None,
            ConnectionState::Paused => Some(self.for_pause()),
            ConnectionState::Broken { reason, detail } => {
                Some(self.for_verdict(*reason, detail.as_deref()))
            }
        }
    }

    fn for_verdict(&self, reason: BrokenReason, detail: Option<&str>) -> String {
        let remedy = self.for_reason(reason, detail);
        // A code of the service itself follows the code of the standards.
        let meaning = detail.and_then(|code| code.rsplit(", ").find_map(error_notes::meaning));
        match meaning {
            Some(meaning) => format!("{meaning}; {remedy}"),
            None => remedy,
        }
    }

    fn for_reason(&self, reason: BrokenReason, detail: Option<&str>) -> String {
        match reason {
            BrokenReason::ClientRejected if says(detail, "endpoint") => self.for_endpoint(),
            BrokenReason::ClientRejected if says(detail, "token_type") => self.refreshing(),
            BrokenReason::ClientRejected => self.for_client(detail),
            BrokenReason::TestFailed | BrokenReason::Rejected => self.for_rejected(),
            BrokenReason::Revoked
            | BrokenReason::Expired
            | BrokenReason::NoRefreshToken
            | BrokenReason::AnswerLost => self.for_credential(),
            BrokenReason::StoreKeyMissing => format!(
                "give `master_key` the key that `keyward key list` shows as missing, then restart the gateway; \
                 without that key, {}",
                self.for_credential()
            ),
        }
    }

    /// Whether the connection still fits its provider.
    fn is_fit(&self) -> bool {
        let (Some(provider), Some(auth)) = (self.provider, self.auth) else { return false };
        provider.instantiate(auth, &self.connection.host_variables()).is_ok()
    }

    fn for_provider(&self) -> String {
        let provider = &self.connection.provider;
        format!(
            "its provider `{provider}` does not fit it any more: correct that in the configuration \
             file, then: `keyward reload`"
        )
    }

    fn for_draft(&self) -> String {
        let name = &self.connection.name;
        match (self.renewal(), self.connection.managed_by) {
            (Renewal::Consent, _) => {
                format!("finish connecting it: `keyward connection reconnect {name}`")
            }
            (_, ManagedBy::Store) => {
                format!("finish connecting it: `keyward connection add --resume {name}`")
            }
            (_, ManagedBy::File) => {
                "give its `fields` in the configuration file, then: `keyward reload`".to_owned()
            }
        }
    }

    fn for_pause(&self) -> String {
        let name = &self.connection.name;
        match self.connection.managed_by {
            ManagedBy::File if !self.connection.facts.held => format!(
                "put it back under `connections:` of the configuration file, or remove it: `keyward \
                 connection remove {name}`"
            ),
            _ => format!("resume it: `keyward connection resume {name}`"),
        }
    }

    fn for_credential(&self) -> String {
        match (self.renewal(), self.connection.managed_by, self.key_url()) {
            (Renewal::Secret, ManagedBy::Store, Some(url)) if self.source().is_none() => {
                format!("get a new secret at {url}, then: {}", self.rotating())
            }
            _ => self.replacing(),
        }
    }

    /// A test or requests show that the secret is rejected. A reload that finds the same secret in the file changes nothing, so
    /// a secret that the provider accepts again is tested.
    fn for_rejected(&self) -> String {
        let (replacing, name) = (self.for_credential(), &self.connection.name);
        match (self.renewal(), self.connection.managed_by) {
            (Renewal::Secret, ManagedBy::File) if self.source().is_none() => format!(
                "{replacing}; if the present one is right, test it: `keyward connection test {name}`"
            ),
            _ => replacing,
        }
    }

    /// The provider refuses the client itself: the app, or the key that replaces one.
    fn for_client(&self, detail: Option<&str>) -> String {
        if let Some(code) = detail.filter(|code| self.may_pass(code)) {
            let other = self.app.map_or_else(|| self.for_credential(), checked);
            return format!(
                "once the cause of `{code}` is gone, {}; else {other}",
                self.refreshing()
            );
        }
        let Some(app) = self.app else { return self.for_own_client() };
        // A client that Keyward registered is registered again with the next consent.
        match self.renewal() {
            Renewal::Consent if app.facts.registered.is_some() => self.for_credential(),
            Renewal::App => self.replacing(),
            Renewal::Secret | Renewal::Consent => {
                let (checked, again, replacing) =
                    (checked(app), self.refreshing(), self.replacing());
                let other = self.other_client_auth(app, detail).unwrap_or_default();
                format!(
                    "{checked}; if they are right, {other}{again}; if that does not help, {replacing}"
                )
            }
        }
    }

    /// The other ways to send the client's secret: `invalid_client` is also the code for an unsupported one (RFC 6749
    /// §5.2). The way of a verified provider is right. For a signed assertion, the clock that dates it.
    fn other_client_auth(&self, app: &AppRecord, detail: Option<&str>) -> Option<String> {
        use ClientAuthText::{Basic, BasicRaw, Body, ClientSecretJwt, PrivateKeyJwt};
        let is_verified =
            self.provider.is_some_and(|it| it.about.confidence == Some(Confidence::High));
        let way = app.client_auth(self.auth?.oauth.as_ref()?.client_auth);
        let is_dated = matches!(way, ClientSecretJwt | PrivateKeyJwt);
        if !says(detail, "client_auth") || is_verified && !is_dated {
            return None;
        }
        let (one, two) = match way {
            _ if is_dated => return Some("correct the clock of this machine, or ".to_owned()),
            Basic => ("body", "basic_raw"),
            BasicRaw => ("body", "basic"),
            Body => ("basic", "basic_raw"),
            _ => return None,
        };
        Some(match app.managed_by {
            ManagedBy::Store => format!(
                "send them as the provider expects (`keyward app set {} --client-auth {one}` or `{two}`), or ",
                app.name
            ),
            ManagedBy::File => format!(
                "send them as the provider expects (`client_auth: {one}` or `{two}` in its settings), or "
            ),
        })
    }

    /// Whether the server refuses a request whose key may be right, for a clock, a right or a consent that is missing.
    fn may_pass(&self, code: &str) -> bool {
        let is_minted = self.auth.is_some_and(|auth| auth.has_tokens() && !auth.is_consented_to());
        is_minted && !error_codes::says(code, "key")
    }

    /// The remedy for a rejected client without an app: the connection authenticates with a key or imported
    /// tokens.
    fn for_own_client(&self) -> String {
        let replacing = self.for_credential();
        let asks = self.auth.is_some_and(AuthMethod::has_tokens);
        match self.renewal() {
            Renewal::Secret if asks => {
                format!("{replacing}; if the present one is right, {}", self.refreshing())
            }
            Renewal::Secret | Renewal::Consent | Renewal::App => replacing,
        }
    }

    fn for_endpoint(&self) -> String {
        let again = self.refreshing();
        format!("correct the issuer or the token endpoint of its provider or app, then {again}")
    }

    fn refreshing(&self) -> String {
        format!("refresh it: `keyward connection refresh {}`", self.connection.name)
    }

    fn for_scopes(&self, scopes: &[String]) -> String {
        let name = &self.connection.name;
        match self.renewal() {
            Renewal::Consent => {
                let options: String = scopes.iter().map(|it| format!(" --scope {it}")).collect();
                format!("consent to more: `keyward connection reconnect {name}{options}`")
            }
            Renewal::App | Renewal::Secret => self.for_credential(),
        }
    }

    /// The step that puts another credential in force.
    fn replacing(&self) -> String {
        let name = &self.connection.name;
        if let (Renewal::Secret, Some(source)) = (self.renewal(), self.source()) {
            let place = self.key_url().map(|url| format!(" from {url}")).unwrap_or_default();
            return format!(
                "put a new secret{place} into source `{source}`, then test it: `keyward connection test {name}`"
            );
        }
        match (self.renewal(), self.connection.managed_by) {
            (Renewal::Consent, _) => {
                format!("consent again: `keyward connection reconnect {name}`")
            }
            (Renewal::App, _) => {
                let again = self.refreshing();
                match self.app {
                    Some(app) => format!("{}; if they are right, {again}", checked(app)),
                    None => format!("check its app: `keyward app list`; if it is right, {again}"),
                }
            }
            (Renewal::Secret, ManagedBy::Store) => {
                format!("give it a new secret: {}", self.rotating())
            }
            (Renewal::Secret, ManagedBy::File) => {
                let place = self.key_url().map(|url| format!(" from {url}")).unwrap_or_default();
                format!(
                    "put a new secret{place} where the configuration file reads it, then: `keyward \
                     reload` (for a variable, restart the gateway)"
                )
            }
        }
    }

    /// The secret source with the values of its fields.
    fn source(&self) -> Option<&str> {
        self.connection.references.values().next().map(|field| field.from.as_str())
    }

    fn rotating(&self) -> String {
        format!("`keyward connection rotate {}{}`", self.connection.name, self.field())
    }

    /// The page where the owner gets a secret; `None` for OAuth, whose tokens are not shown there.
    fn key_url(&self) -> Option<&str> {
        let is_given = self.auth.is_some_and(|auth| !auth.is_consented_to());
        self.provider.filter(|_| is_given)?.about.key_url.as_deref()
    }

    /// The option for the secret field. `rotate` prompts for required fields, so only an optional one is
    /// named.
    fn field(&self) -> String {
        let fields = self.auth.map_or(&[][..], |auth| &auth.fields);
        match fields.iter().all(|field| field.optional) {
            true => {
                let first = fields.iter().find(|field| field.secret);
                first.map(|field| format!(" --secret-stdin {}", field.name)).unwrap_or_default()
            }
            false => String::new(),
        }
    }
}

/// Whether the table says this of the code.
fn says(code: Option<&str>, word: &str) -> bool {
    code.is_some_and(|code| error_codes::says(code, word))
}

/// The first step after the rejection of a client.
fn checked(app: &AppRecord) -> String {
    let name = &app.name;
    let (what, option) = match has_key_alone(app) {
        true => ("private key", "--secret-file private_key=PATH"),
        false => ("secret", "--secret-stdin client_secret"),
    };
    match (app.managed_by, app.facts.paused) {
        (ManagedBy::Store, _) => format!(
            "check the client id and {what} of app `{name}`: `keyward app set {name} {option}`"
        ),
        (ManagedBy::File, false) => format!(
            "check the client id and {what} of app `{name}` in the configuration file, then: \
             `keyward reload`"
        ),
        (ManagedBy::File, true) => {
            format!(
                "put app `{name}` back under `apps:` of the configuration file, then: `keyward reload`"
            )
        }
    }
}

/// Whether the app has a private key, and no client secret.
fn has_key_alone(app: &AppRecord) -> bool {
    let given = app.facts.secrets.iter().chain(app.references.keys());
    let has = |wanted: &str| given.clone().any(|name| name == wanted);
    has("private_key") && !has("client_secret")
}

#[cfg(test)]
mod tests;
