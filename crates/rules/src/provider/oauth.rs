//! [`OAuth`]: how tokens of a service are got, renewed and taken back, checked; and what is peculiar
//! to the service, as data. What asks for tokens is `grant/`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::FormError;
pub use super::words::{
    ClientAuthText, ExpiresText, GrantText, PkceText, RefreshText, ResponseModeText, RevokeText,
    TokenBodyText,
};

/// RFC 3986 §2.3, and `:` and `.`, which hosts with ports have.
const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// How tokens of one auth method are got.
#[derive(Clone, Debug)]
pub struct OAuth {
    /// How the grant is got.
    pub grant: GrantText,
    /// Who the authorization server says it is, compared as it stands: RFC 8414 §3.3, RFC 9207.
    pub issuer: Option<UrlTemplate>,
    /// Where the person consents.
    pub authorize: Option<UrlTemplate>,
    /// Where tokens are minted.
    pub token: Option<UrlTemplate>,
    /// Where they are renewed, when not at `token`.
    pub renew: Option<UrlTemplate>,
    /// Device authorization, RFC 8628.
    pub device: Option<UrlTemplate>,
    /// Where a grant is taken back; [`Quirks::revoke_via`] says how.
    pub revoke: Option<UrlTemplate>,
    /// Dynamic registration, RFC 7591.
    pub register: Option<UrlTemplate>,
    /// Where an access token tells whose account it is (OpenID Connect Core §5.3), or alike.
    pub userinfo: Option<UrlTemplate>,
    /// How the browser comes back.
    pub response_mode: ResponseModeText,
    /// Asked for when neither app nor connection names any.
    pub scopes: Vec<String>,
    /// Between scopes.
    pub scope_separator: String,
    /// How the client authenticates, unless its app says otherwise.
    pub client_auth: ClientAuthText,
    /// Encoding of token requests.
    pub token_body: TokenBodyText,
    /// Added to the authorization URL.
    pub authorize_params: BTreeMap<String, String>,
    /// Added to token requests.
    pub token_params: BTreeMap<String, String>,
    /// Added to (or replacing those of) renewals.
    pub renew_params: BTreeMap<String, String>,
    /// Parameters under other names: ours → theirs.
    pub renames: BTreeMap<String, String>,
    /// Fields of token requests.
    pub extra_headers: BTreeMap<String, String>,
    /// The `grant_type` sent, when not the standard's.
    pub grant_type: Option<String>,
    /// RFC 7636.
    pub pkce: PkceText,
    /// What becomes of a refresh token when it is used.
    pub refresh: RefreshText,
    /// Life of an access token whose answer does not tell; never instead of what it tells.
    pub access_ttl: Option<Duration>,
    /// Typical life of a refresh token; shown.
    pub refresh_ttl: Option<Duration>,
    /// Dotted paths of the access token in the answer, tried in order; never empty.
    pub token_path: Vec<String>,
    /// Dotted path of the expiry, when not `expires_in`.
    pub expires_path: Option<String>,
    /// How the expiry is written.
    pub expires_format: ExpiresText,
    /// Host variables taken from the token's answer: variable → dotted path.
    pub capture: BTreeMap<String, String>,
    /// Host variables taken from the callback: variable → parameter.
    pub callback_capture: BTreeMap<String, String>,
    /// The assertion of `jwt_bearer` and alike.
    pub jwt: Option<Jwt>,
    /// The provider whose apps serve this way too; `None`: only its own.
    pub apps_of: Option<String>,
    /// What is peculiar to the service.
    pub says: Quirks,
}

/// A signed assertion: header and claims, templates over fields and variables.
#[derive(Clone, Debug, Default)]
pub struct Jwt {
    /// Signature algorithm, `RS256` unless said otherwise.
    pub alg: Option<String>,
    /// How the key is derived from the fields.
    pub key: Option<String>,
    /// Key id, a template.
    pub kid: Option<String>,
    /// Issuer, a template.
    pub iss: Option<String>,
    /// Audience, a template.
    pub aud: Option<String>,
    /// Subject, a template; the field `subject` when absent.
    pub sub: Option<String>,
    /// The scopes stand in the assertion, and not beside it.
    pub scope_claim: bool,
    /// Life of an assertion.
    pub ttl: Option<Duration>,
    /// Further claims, in words.
    pub claims: Option<String>,
}

/// What is peculiar to a service, as data. The vendor's link stands beside each in the YAML.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    /// Codes of token endpoints, beside the common ones: the grant is finished.
    pub permanent: Vec<String>,
    /// Codes of token endpoints, beside the common ones: the app is refused.
    pub rejected: Vec<String>,
    /// Codes of token endpoints, beside the common ones: it passes.
    pub temporary: Vec<String>,
    /// The API's answer to an expired token, when it is not 401.
    pub expired: Option<Expired>,
    /// Requests that may change something are not sent again after a 401.
    pub keeps_unsafe: bool,
    /// How a grant is taken back.
    pub revoke_via: RevokeText,
    /// Where the owner takes access away by hand.
    pub access_page: Option<String>,
    /// Dotted paths, tried in order, of whose account it is: in the token's answer, among captured
    /// parameters, in the answer of `userinfo`.
    pub account: Vec<String>,
    /// Renew at least this often: refresh tokens that are not used die.
    pub keep_alive: Option<Duration>,
    /// Renewals repeat the scopes.
    pub renew_scopes: bool,
}

/// An answer of the API that means 401.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expired {
    /// Its status.
    pub status: u16,
    /// Its members by dotted path, and what each may be.
    pub members: Vec<(String, Vec<Value>)>,
}

/// An https URL with `{variables}` in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UrlTemplate(String);

impl UrlTemplate {
    /// Takes a text whose variables and form were checked.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// An app's own endpoint, which has no variables.
    pub fn literal(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of its variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        variables(&self.0)
    }

    /// The URL, its variables percent-encoded where they need it.
    ///
    /// # Errors
    /// When a variable has no value.
    pub fn fill(&self, values: &BTreeMap<String, String>) -> Result<String, FormError> {
        fill(&self.0, values, &encoded)
    }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl OAuth {
    /// Parameters with their variables filled in; the caller encodes them.
    ///
    /// # Errors
    /// When a variable has no value.
    pub fn params(
        params: &BTreeMap<String, String>,
        values: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, FormError> {
        let filled = |(name, value): (&String, &String)| {
            Ok((name.clone(), fill(value, values, &str::to_owned)?))
        };
        params.iter().map(filled).collect()
    }

    /// Where tokens are renewed.
    pub fn renew(&self) -> Option<&UrlTemplate> {
        self.renew.as_ref().or(self.token.as_ref())
    }
}

impl Expired {
    /// Whether this answer means that the token has expired.
    pub fn is(&self, status: u16, body: &[u8]) -> bool {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return false };
        let has = |(path, wanted): &(String, Vec<Value>)| {
            let found = path.split('.').try_fold(&body, |at, name| at.get(name));
            found.is_some_and(|found| wanted.contains(found))
        };
        self.status == status && self.members.iter().all(has)
    }
}

/// The names in the braces of a template.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, UNRESERVED).to_string()
}

fn fill(
    template: &str,
    values: &BTreeMap<String, String>,
    write: &dyn Fn(&str) -> String,
) -> Result<String, FormError> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        let Some((name, after)) = tail.split_once('}') else { break };
        let missing =
            || FormError::Missing { name: name.to_owned(), label: name.replace('_', " ") };
        text.push_str(before);
        text.push_str(&write(values.get(name).ok_or_else(missing)?));
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}
