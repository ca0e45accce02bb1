//! [`CallbackQuery`]: the strictly parsed query of an OAuth callback. Nothing of it is trusted yet.
//!
//! Callbacks by POST (OAuth 2.0 Form Post Response Mode), for providers whose file enables them. The POST comes from
//! the provider's site without our `SameSite=Lax` cookie, so it does not identify the browser. The form is
//! sealed and stored; the browser then navigates to our page with its cookie, where the form passes the same checks as
//! the query of a redirect.

use jiff::SignedDuration;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::Flows;
use super::error::CallbackRefusal;
use super::flow::{CookieDigest, Flow, FlowStage, FormPost, SealedText, random};
use keyward_base::id::{AppId, OrgId};
use keyward_model::Connection;
use keyward_rules::provider::oauth::ResponseModeText;
use keyward_state::directory::ConnectionRecord;

/// Most bytes of a callback's query.
pub(super) const QUERY_BYTES_MAX: usize = 8 * 1024;

/// JARM (JWT Secured Authorization Response Mode for OAuth 2.0 §2.3.1).
const SIGNED_RESPONSE: &str = "it is a signed response (JARM), which Keyward does not support: give the app the response \
     mode `query` at the provider";

/// The checked parameters, each given at most once.
#[derive(Default)]
pub(crate) struct CallbackQuery {
    pub(crate) state: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) iss: Option<String>,
    pub(crate) error: Option<String>,
    /// The token of OAuth 1.0a (RFC 5849 §2.2).
    pub(super) oauth_token: Option<String>,
    pub(super) oauth_verifier: Option<String>,
    /// All other parameters, which some providers use for hosts.
    pub(super) others: Vec<(String, String)>,
}

impl CallbackQuery {
    /// Parses a query.
    ///
    /// # Errors
    /// When it is too long, not UTF-8, or repeats a parameter.
    pub(crate) fn read(query: &str) -> Result<Self, CallbackRefusal> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(CallbackRefusal::Malformed("it is too long"));
        }
        let mut callback = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let slot = match name.as_str() {
                "state" => &mut callback.state,
                "code" => &mut callback.code,
                "iss" => &mut callback.iss,
                "error" => &mut callback.error,
                "oauth_token" => &mut callback.oauth_token,
                "oauth_verifier" => &mut callback.oauth_verifier,
                _ => {
                    callback.others.push((name, value));
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                return Err(CallbackRefusal::Malformed("it has a parameter twice"));
            }
        }
        Ok(callback)
    }

    /// The state.
    ///
    /// # Errors
    /// When there is none, with the cause if it is known.
    pub(super) fn required_state(&self) -> Result<&str, CallbackRefusal> {
        let missing = || match self.other("response") {
            Some(_) => CallbackRefusal::Malformed(SIGNED_RESPONSE),
            None => CallbackRefusal::NoState,
        };
        self.state.as_deref().ok_or_else(missing)
    }

    /// The value of another parameter; `None` if it is absent or repeated.
    pub(super) fn other(&self, name: &str) -> Option<&str> {
        let mut named = self.others.iter().filter(|(known, _)| known == name);
        let (_, value) = named.next()?;
        named.next().is_none().then_some(value)
    }
}

fn decoded(text: &str) -> Result<String, CallbackRefusal> {
    let spaced = text.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8();
    text.map(std::borrow::Cow::into_owned)
        .map_err(|_| CallbackRefusal::Malformed("it is not UTF-8"))
}

/// Most bytes of a stored form, as of a callback's query.
pub const FORM_BYTES_MAX: usize = QUERY_BYTES_MAX;

/// How long a stored form is valid; browsers follow the redirect at once.
const GOES_ON_WITHIN: SignedDuration = SignedDuration::from_mins(2);

impl Flows {
    /// Whether the provider of an app sends callbacks by POST.
    pub fn takes_posts(&self, org: &OrgId, app: &AppId) -> bool {
        let view = self.directory().view();
        let mut of_app = view.all::<Connection>(org).filter(|it| it.app_id() == Some(app));
        // A client that was registered again has no connection before its consent.
        let registered = view.app(org, app).filter(|app| app.facts.registered.is_some());
        of_app.any(|connection| self.is_posted_to(connection))
            || registered.is_some_and(|app| self.is_posted(org, &app.provider, app.auth.as_deref()))
    }

    fn is_posted_to(&self, connection: &ConnectionRecord) -> bool {
        self.is_posted(&connection.org, &connection.provider, Some(connection.method()))
    }

    fn is_posted(&self, org: &OrgId, provider: &str, auth: Option<&str>) -> bool {
        let catalogue = self.vault.catalogue(org);
        let auth = catalogue.get(provider).and_then(|provider| provider.auth(auth));
        let oauth = auth.and_then(|auth| auth.oauth.as_ref());
        oauth.is_some_and(|oauth| oauth.response_mode == ResponseModeText::FormPost)
    }

    /// Stores the form that a browser POSTed. Returns the secret with which the browser continues, once.
    /// Accepted only for an expected `state`, and once for each, so that strangers cannot fill the store.
    ///
    /// # Errors
    /// When the form is not an expected one.
    pub async fn keep_posted(
        &self,
        org: &OrgId,
        app: &AppId,
        form: &str,
    ) -> Result<Zeroizing<String>, CallbackRefusal> {
        let callback = CallbackQuery::read(form)?;
        let state = CookieDigest::of(callback.required_state()?);
        let (mut pointer, version) =
            self.states.get(org, state.as_str()).await?.ok_or(CallbackRefusal::NoFlow)?;
        let found = self.flows.get(org, pointer.flow.as_str()).await?;
        let (flow, _) =
            found.filter(|(flow, _)| self.is_asked(flow)).ok_or(CallbackRefusal::NoFlow)?;
        if flow.app != *app {
            return Err(CallbackRefusal::OtherApp);
        }
        let connection = self.directory().view().connection(org, &flow.connection).cloned();
        let connection = connection.ok_or(CallbackRefusal::Removed)?;
        if pointer.posted || !self.is_posted_to(&connection) {
            return Err(CallbackRefusal::NoFlow);
        }
        pointer.posted = true;
        self.states.put(org, state.as_str(), &pointer, Some(version)).await?;
        let handle = random();
        let until = self.clock.now().saturating_add(GOES_ON_WITHIN).unwrap_or(flow.expires);
        let expires = until.min(flow.expires);
        let posted = FormPost { app: app.clone(), form: SealedText::new(form), expires };
        self.posted.put(org, CookieDigest::of(&handle).as_str(), &posted, None).await?;
        Ok(handle)
    }

    /// Takes the stored form of a browser, once.
    ///
    /// # Errors
    /// When there is none, or it is of another app or too old.
    pub async fn take_posted(
        &self,
        org: &OrgId,
        app: &AppId,
        handle: &str,
    ) -> Result<Zeroizing<String>, CallbackRefusal> {
        let hash = CookieDigest::of(handle);
        let posted = self.posted.take(org, hash.as_str()).await?.ok_or(CallbackRefusal::NoFlow)?;
        if posted.app != *app {
            return Err(CallbackRefusal::OtherApp);
        }
        match self.clock.now() < posted.expires {
            true => Ok(Zeroizing::new(posted.form.text().to_owned())),
            false => Err(CallbackRefusal::NoFlow),
        }
    }

    fn is_asked(&self, flow: &Flow) -> bool {
        matches!(flow.stage, FlowStage::AtProvider(_)) && self.clock.now() < flow.expires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// oauth 2.1
    #[test]
    fn a_repeated_parameter_or_a_long_query_is_refused() {
        for twice in [
            "state=a&state=a",
            "code=a&state=s&code=b",
            "iss=a&iss=b",
            "error=a&%65rror=b",
            "oauth_token=a&state=s&oauth_token=a",
            "oauth_verifier=a&oauth%5Fverifier=b",
            "state=s&state",
            "state=%ff",
        ] {
            assert!(CallbackQuery::read(twice).is_err(), "{twice}");
        }
        assert!(CallbackQuery::read(&format!("x={}", "a".repeat(QUERY_BYTES_MAX))).is_err());
    }

    /// oauth 2.1
    #[test]
    fn repeated_other_parameters_are_ignored() {
        let read = CallbackQuery::read("code=a%2Bb&state=s+t&x=1&x=2&location=eu").ok().unwrap();
        assert_eq!((read.code.as_deref(), read.state.as_deref()), (Some("a+b"), Some("s t")));
        assert_eq!((read.other("x"), read.other("location")), (None, Some("eu")));
    }

    /// oauth 2.2
    #[test]
    fn a_callback_without_state_is_refused_with_the_likely_cause() {
        for (query, cause) in [
            ("code=a&installation_id=1", "begin the consent in Keyward"),
            ("error=access_denied", "begin the consent in Keyward"),
            ("response=e30.e30.x", "JARM"),
        ] {
            let read = CallbackQuery::read(query).ok().unwrap();
            let refusal = read.required_state().expect_err(query);
            assert!(refusal.to_string().contains(cause), "{query}: {refusal}");
        }
        assert_eq!(CallbackQuery::read("state=").ok().unwrap().required_state().ok(), Some(""));
    }
}
