//! Reads the response of a token endpoint by its content: servers send JSON as `text/plain`, forms as JSON, errors
//! with status 200, and token lifetimes in every notation. Unusual but clear responses are accepted; what
//! could become a wrong credential is not.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use oauth2::basic::BasicTokenType;
use oauth2::{AccessToken, RefreshToken, Scope, TokenResponse};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Tokens;
use super::failure::{
    ActingParty, Correction, ErrorAnswer, ErrorCode, TokenFailure, classify, cleaned,
};
use super::reported_error::{self, ReportedError};
use keyward_base::secret::Secret;
use keyward_net::service_clocks::warning_of;
use keyward_rules::inject::template::VALUE_BYTES_MAX;
pub(super) use keyward_rules::provider::oauth::member as at;
use keyward_rules::provider::oauth::{ACCOUNT_HOSTS, ExpiresText, OAuth};

/// Upper bound of 10 years: a longer lifetime has a wrong unit.
const LIFE_SECONDS_MAX: f64 = 10.0 * 365.25 * 86_400.0;

/// Longest captured value.
const CAPTURED_BYTES_MAX: usize = 512;

/// The code for a token of another type. A later request would get the same type.
const NOT_BEARER: &str = "not_bearer";

/// The standard code for what `says.ended` of the provider's file describes.
const INVALID_GRANT: &str = "invalid_grant";

/// Token types that are sent as bearer tokens: Slack says `bot` and `user`.
const TOKEN_TYPES: &[&str] = &["bearer", "bot", "user"];

/// The refresh token of an answer whose access token cannot be used. It must be stored: the one that was sent may
/// have ended.
#[derive(Debug)]
pub struct NextRefreshToken {
    pub token: Secret,
    /// Whether the answer reports success. After an error, the refresh token that was sent may be valid instead.
    pub is_sure: bool,
}

/// A normalised response of a token endpoint for the `oauth2` crate: the members of RFC 6749 §5.1, and the
/// other data of [`ReplyContext`].
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Reply {
    #[serde(skip_serializing)]
    access_token: AccessToken,
    token_type: BasicTokenType,
    #[serde(skip_serializing)]
    refresh_token: Option<RefreshToken>,
    #[serde(rename = "scope")]
    scopes: Option<Vec<Scope>>,
    sent: Timestamp,
    expires: Option<Timestamp>,
    refresh_expires: Option<Timestamp>,
    captured: BTreeMap<String, String>,
    account: Option<String>,
    #[serde(skip_serializing)]
    id_token: Option<AccessToken>,
}

/// The context of a response.
pub(super) struct ReplyContext<'a> {
    pub(super) oauth: &'a OAuth,
    /// When the request was sent: `expires_in` is relative to this.
    pub(super) sent: Timestamp,
    /// How far the clock of the server is ahead of this machine's, for expiry times of its clock.
    pub(super) ahead: SignedDuration,
    pub(super) token_bytes_max: usize,
    /// Values of the request that must be masked in errors.
    pub(super) secrets: Vec<&'a Secret>,
    /// Whether it answers a token exchange, whose type may be `N_A` (RFC 8693 §2.2.1).
    pub(super) exchanged: bool,
}

impl ReplyContext<'_> {
    /// The tokens of a response to a grant type that the `oauth2` crate does not have.
    ///
    /// # Errors
    /// When it is an error, with any status, or not a response of a token endpoint.
    pub(super) fn tokens(&self, response: &Response<Bytes>) -> Result<Tokens, TokenFailure> {
        let reply: Result<Reply, _> = serde_json::from_value(self.token_reply(response)?);
        let unreadable = |_| TokenFailure::unreadable("the answer is not that of a token endpoint");
        reply.map(Tokens::from).map_err(unreadable)
    }

    /// A [`Reply`] as JSON.
    ///
    /// # Errors
    /// As [`Reading::tokens`].
    pub(super) fn token_reply(&self, response: &Response<Bytes>) -> Result<Value, TokenFailure> {
        let object = self.object(response)?;
        match response.status().is_success() {
            true => self.reply_of(&object).map_err(TokenFailure::after_success),
            false => Err(self.refused(response, None, reported_error::said(&object))),
        }
    }

    /// The object of a response without an error; the caller checks the status.
    ///
    /// # Errors
    /// As [`Reading::tokens`].
    pub(super) fn object(
        &self,
        response: &Response<Bytes>,
    ) -> Result<Map<String, Value>, TokenFailure> {
        let object = object(response.body());
        if let Some((code, said)) = object.as_ref().and_then(|it| self.error(it, response.status()))
        {
            return Err(self.refused(response, Some(code), said));
        }
        object.ok_or_else(|| match (self.refused(response, None, None), response.status()) {
            (failure, status) if status.is_success() => failure.after_success(),
            (failure, _) => failure,
        })
    }

    /// The error code of a response and its description.
    pub(super) fn error(
        &self,
        object: &Map<String, Value>,
        status: StatusCode,
    ) -> Option<(String, Option<String>)> {
        let says = &self.oauth.says;
        if says.ended.iter().any(|ended| ended.are_in(object)) {
            return Some((INVALID_GRANT.to_owned(), reported_error::said(object)));
        }
        let elsewhere = || match status.is_success() {
            true => None,
            false => ReportedError::elsewhere(object, says),
        };
        let error = ReportedError::of(object).or_else(elsewhere)?;
        Some((error.code(says).to_owned(), error.said))
    }

    /// The failure that a response without a token means.
    pub(super) fn refused(
        &self,
        response: &Response<Bytes>,
        code: Option<String>,
        said: Option<String>,
    ) -> TokenFailure {
        let secrets = || self.secrets.iter().copied();
        let code = code.map(|code| match cleaned(&code, secrets()) {
            Some(code) if !code.contains("***") => ErrorCode::clean(&code),
            _ => None,
        });
        let said = said.and_then(|said| cleaned(&said, secrets()));
        let code = code.map(|code| {
            code.unwrap_or_else(|| ErrorCode::of("error")).described_by(said.as_deref())
        });
        let clock = warning_of("the server", response.headers(), self.sent);
        let said = match (said, clock) {
            (Some(said), Some(clock)) => Some(format!("{said}; {clock}")),
            (said, clock) => said.or(clock),
        };
        let refused =
            ErrorAnswer { status: response.status(), headers: response.headers(), code, said };
        classify(refused, &self.oauth.says, self.sent)
    }

    fn reply_of(&self, object: &Map<String, Value>) -> Result<Value, TokenFailure> {
        let (access, beside) = self.access(object)?;
        self.check_type(object)?;
        let member = |name: &str| beside.get(name).or_else(|| object.get(name));
        let seconds = |name: &str| member(name).and_then(seconds).and_then(|life| self.after(life));
        let refresh = self.refresh_token(object, beside)?;
        let expires = self.told_expiry(object, member("expires_in"), access);
        let refresh_expires =
            ["refresh_token_expires_in", "x_refresh_token_expires_in", "refresh_expires_in"];
        // Invalid values are ignored: the consent does not need them.
        let id_token = member("id_token").and_then(Value::as_str);
        Ok(json!({
            "access_token": access,
            "token_type": "bearer",
            "refresh_token": refresh,
            "scope": member("scope").and_then(scope),
            "sent": self.sent,
            "expires": expires.or_else(|| self.assumed_expiry(refresh.is_some())),
            "refresh_expires": refresh_expires.iter().find_map(|name| seconds(name)),
            "captured": self.captured(object),
            "account": self.account(object),
            "id_token": id_token.and_then(|token| self.bounded(token, 0).ok()),
        }))
    }

    /// The access token, and the object that contains it.
    fn access<'v>(
        &self,
        object: &'v Map<String, Value>,
    ) -> Result<(&'v str, &'v Map<String, Value>), TokenFailure> {
        let found = self.oauth.token_path.iter().find_map(|path| {
            let (parent, name) = parent(object, path)?;
            let text = parent.get(name)?.as_str().filter(|text| !text.is_empty())?;
            Some((text, parent))
        });
        let (text, parent) =
            found.ok_or_else(|| TokenFailure::unreadable("the answer holds no access token"))?;
        // More than RFC 6750 §2.1 permits: any visible character can be sent in a field.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = "the access token holds characters that cannot be sent";
            return Err(TokenFailure::unreadable(what));
        }
        // A token that cannot be written with its prefix must not be taken: the refresh token before it may be spent.
        self.bounded(text, self.oauth.placed_bytes).map(|text| (text, parent))
    }

    /// The refresh token of an answer without a usable access token. The one that was sent may have ended with it.
    pub(super) fn next_refresh_token(
        &self,
        response: &Response<Bytes>,
    ) -> Option<NextRefreshToken> {
        let object = object(response.body())?;
        // Elsewhere, it would be that of another token.
        let (beside, _) = self.oauth.token_path.iter().find_map(|path| parent(&object, path))?;
        let text = self.refresh_token(&object, beside).ok().flatten()?;
        let is_success =
            response.status().is_success() && self.error(&object, response.status()).is_none();
        Some(NextRefreshToken { token: Secret::from(text.to_owned()), is_sure: is_success })
    }

    /// The refresh token beside the access token, else that of the whole answer.
    fn refresh_token<'v>(
        &self,
        object: &'v Map<String, Value>,
        beside: &'v Map<String, Value>,
    ) -> Result<Option<&'v str>, TokenFailure> {
        let member = |name: &str| beside.get(name).or_else(|| object.get(name));
        let theirs = self.oauth.renames.get("refresh_token").and_then(|name| member(name));
        match theirs.or_else(|| member("refresh_token")).and_then(Value::as_str) {
            None | Some("") => Ok(None),
            Some(text) => self.refresh(text).map(Some),
        }
    }

    /// RFC 6749 §A.17: visible characters and spaces.
    fn refresh<'v>(&self, text: &'v str) -> Result<&'v str, TokenFailure> {
        match text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            true => self.bounded(text, 0),
            false => Err(TokenFailure::unreadable("the refresh token holds control characters")),
        }
    }

    /// A token that is not too long, also with the text `beside` it where it is written.
    fn bounded<'v>(&self, text: &'v str, beside: usize) -> Result<&'v str, TokenFailure> {
        let is_written = beside == 0 || text.len() + beside <= VALUE_BYTES_MAX;
        match text.len() <= self.token_bytes_max && is_written {
            true => Ok(text),
            false => {
                Err(TokenFailure::unreadable("a token is longer than `oauth.token_bytes_max`"))
            }
        }
    }

    /// Rejects tokens that are bound to a key, or need an unsupported scheme.
    fn check_type(&self, object: &Map<String, Value>) -> Result<(), TokenFailure> {
        let is_known = match object.get("token_type") {
            None | Some(Value::Null) => true,
            Some(Value::String(name)) => {
                name.is_empty()
                    || TOKEN_TYPES.iter().any(|known| name.eq_ignore_ascii_case(known))
                    || self.exchanged && name.eq_ignore_ascii_case("n_a")
            }
            Some(_) => false,
        };
        match is_known {
            true => Ok(()),
            false => Err(TokenFailure::ours(
                ActingParty::Operator(Correction::Request),
                NOT_BEARER,
                "the token is not a bearer token, and Keyward supports no other (DPoP, MAC)",
            )),
        }
    }

    /// When it expires, if the server says so.
    fn told_expiry(
        &self,
        object: &Map<String, Value>,
        said: Option<&Value>,
        access: &str,
    ) -> Option<Timestamp> {
        let path = self.oauth.expires_path.as_deref();
        match (path, self.oauth.expires_format) {
            (None, ExpiresText::Seconds) => {
                said.and_then(seconds).and_then(|life| self.after(life))
            }
            (_, ExpiresText::JwtExp) => {
                jwt_expiry(access).and_then(|exp| self.moment(&exp, ExpiresText::Unix))
            }
            (path, format) => at(object, path.unwrap_or("expires_at"))
                .and_then(|value| self.moment(value, format)),
        }
    }

    /// When it expires, if the server does not say so. Not for a token that cannot be renewed: it may be valid
    /// for ever, and a wrong guess would end its connection. Such a token is used until the API rejects it.
    fn assumed_expiry(&self, has_refresh_token: bool) -> Option<Timestamp> {
        let is_renewable = has_refresh_token || self.oauth.renews_without_refresh_token();
        usual_expiry(self.oauth, self.sent).filter(|_| is_renewable)
    }

    fn moment(&self, value: &Value, format: ExpiresText) -> Option<Timestamp> {
        let moment = match format {
            ExpiresText::Seconds => return self.after(seconds(value)?),
            ExpiresText::DaysAndTime => return self.after(days_and_time(value.as_str()?)?),
            ExpiresText::Unix | ExpiresText::JwtExp => at_second(number(value)?)?,
            ExpiresText::Rfc3339 => value.as_str()?.parse().ok()?,
        };
        let moment = moment.checked_sub(self.ahead).ok()?;
        let life = moment.duration_since(self.sent).as_secs_f64();
        is_life(life).then_some(moment)
    }

    fn after(&self, seconds: f64) -> Option<Timestamp> {
        after(self.sent, seconds)
    }

    fn captured(&self, object: &Map<String, Value>) -> BTreeMap<String, String> {
        let captured = self.oauth.capture.iter().map(|(name, path)| (name.as_str(), path.as_str()));
        let is_captured = |name: &str| self.oauth.capture.values().any(|path| path == name);
        let hosts = ACCOUNT_HOSTS.into_iter().filter(|name| !is_captured(name));
        let all = captured.chain(hosts.map(|name| (name, name)));
        all.filter_map(|(name, path)| Some((name.to_owned(), word(at(object, path)?)?))).collect()
    }

    fn account(&self, object: &Map<String, Value>) -> Option<String> {
        self.oauth.says.account.iter().find_map(|path| word(at(object, path)?))
    }
}

impl From<Reply> for Tokens {
    /// Moves the texts into secrets, which are wiped.
    fn from(reply: Reply) -> Self {
        let scopes = |scopes: Vec<Scope>| scopes.into_iter().map(String::from).collect();
        Self {
            access: Secret::from(reply.access_token.into_secret()),
            refresh: reply.refresh_token.map(|token| Secret::from(token.into_secret())),
            sent: reply.sent,
            expires: reply.expires,
            refresh_expires: reply.refresh_expires,
            scope: reply.scopes.map(scopes),
            captured: reply.captured,
            account: reply.account,
            id_token: reply.id_token.map(|token| Secret::from(token.into_secret())),
            more: BTreeMap::new(),
        }
    }
}

impl TokenResponse for Reply {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires?.duration_since(self.sent).try_into().ok()
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        self.scopes.as_ref()
    }
}

/// The response as an object: JSON, else a form with a token or an error.
pub(super) fn object(body: &[u8]) -> Option<Map<String, Value>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    if body.first() == Some(&b'{') {
        // Some servers write descriptions in ISO 8859-1. Tokens are ASCII, which is checked where they are read.
        let lossy = || serde_json::from_str(&String::from_utf8_lossy(body)).ok();
        return serde_json::from_slice(body).ok().or_else(lossy);
    }
    if !begins_as_form(body) {
        return None;
    }
    let pairs = form_urlencoded::parse(body);
    let form: Map<String, Value> =
        pairs.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect();
    (form.contains_key("access_token") || form.contains_key("error")).then_some(form)
}

/// Whether the first name is one word. In a page or a text, a link such as `/login?a=b&error=invalid_grant` would
/// otherwise count as an error code.
fn begins_as_form(body: &[u8]) -> bool {
    let name = body.split(|byte| matches!(byte, b'=' | b'&')).next().unwrap_or_default();
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.iter().all(is_of_word)
}

/// The object that may have the member at a dotted path, and the name of that member.
fn parent<'v, 'p>(
    object: &'v Map<String, Value>,
    path: &'p str,
) -> Option<(&'v Map<String, Value>, &'p str)> {
    match path.rsplit_once('.') {
        None => Some((object, path)),
        Some((parents, name)) => Some((at(object, parents)?.as_object()?, name)),
    }
}

/// A lifetime in seconds, if it is plausible.
fn seconds(value: &Value) -> Option<f64> {
    number(value).filter(|seconds| is_life(*seconds))
}

/// The claim `exp` of a JWT, which is not verified: its server has sent it.
fn jwt_expiry(token: &str) -> Option<Value> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Map<String, Value>>(&claims).ok()?.remove("exp")
}

/// Seconds of `d:hh:mm:ss`.
fn days_and_time(text: &str) -> Option<f64> {
    let parts: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    let [days, hours, minutes, seconds] = parts?.try_into().ok()?;
    let life = [(days, 86_400.0), (hours, 3_600.0), (minutes, 60.0), (seconds, 1.0)];
    let life = life.into_iter().map(|(count, unit)| f64::from(count) * unit).sum();
    is_life(life).then_some(life)
}

fn is_life(seconds: f64) -> bool {
    seconds > 0.0 && seconds <= LIFE_SECONDS_MAX
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// When a token of the provider's usual lifetime expires.
pub(super) fn usual_expiry(oauth: &OAuth, sent: Timestamp) -> Option<Timestamp> {
    after(sent, oauth.access_ttl?.as_secs_f64())
}

fn after(sent: Timestamp, seconds: f64) -> Option<Timestamp> {
    sent.checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}

/// A time in seconds since 1970.
pub(super) fn at_second(seconds: f64) -> Option<Timestamp> {
    Timestamp::UNIX_EPOCH.checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}

/// Scopes in any notation, as a list. Only shown.
fn scope(value: &Value) -> Option<Vec<String>> {
    let split = |text: &str| {
        let words = text.split(|c: char| c == ',' || c.is_whitespace());
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    match value {
        Value::String(text) => Some(split(text)),
        Value::Array(items) => {
            Some(items.iter().filter_map(Value::as_str).flat_map(split).collect())
        }
        _ => None,
    }
}

/// A short visible text or a number.
pub(super) fn word(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let fits = (1..=CAPTURED_BYTES_MAX).contains(&text.len());
    (fits && text.chars().all(|c| !c.is_control())).then_some(text)
}

/// A number of seconds as a duration.
pub(super) fn duration(value: Option<&Value>) -> Option<Duration> {
    Duration::try_from_secs_f64(value.and_then(seconds)?).ok()
}

#[cfg(test)]
mod tests;
