//! [`ChallengeRule`]: how a service verifies the URL of a hook or hands over its secret, and what Keyward answers; data of
//! `schemes.yaml`. [`EventAnswer`]: how the service expects that its events are answered.

use std::collections::HashMap;
use std::str::FromStr;

use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value};

use crate::Rejection;
use crate::request::HookRequest;
use keyward_base::secret::Secret;

/// What to do with a request that is no event.
#[derive(Debug)]
pub enum ChallengeAction {
    /// Answer 200 with this.
    Answer {
        /// The `content-type`.
        content_type: &'static str,
        body: Vec<u8>,
        /// A further header.
        header: Option<(HeaderName, HeaderValue)>,
    },
    /// Answer 204 without a body.
    Acknowledge,
    /// Store this secret unless another one is known, then answer.
    Secret {
        /// The secret with which the service will sign.
        secret: Secret,
        /// An [`ChallengeAction::Answer`].
        answer: Box<ChallengeAction>,
    },
    /// A URL that must be fetched to confirm; its host was checked.
    Confirm {
        /// A URL of the service.
        url: String,
    },
}

/// One kind of challenge: the requests that are one, and their answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChallengeRule {
    /// The method; any if it is absent.
    #[serde(default, deserialize_with = "method")]
    pub(crate) method: Option<Method>,
    /// Places that have this text; any text if it is absent, and a number for `#`.
    #[serde(default)]
    pub(crate) when: HashMap<ChallengePlace, Option<String>>,
    /// Places that have no text.
    #[serde(default)]
    pub(crate) without: Vec<ChallengePlace>,
    /// Whether the service signs it.
    #[serde(default)]
    pub(crate) signed: bool,
    /// The place of the token that a person entered at the service; see [`Scheme::verify_token`](crate::Scheme::verify_token).
    pub(crate) verify_token: Option<ChallengePlace>,
    /// The place of a text that is the answer.
    pub(crate) echo: Option<ChallengePlace>,
    /// The place of a token for `json`.
    pub(crate) token: Option<ChallengePlace>,
    /// A JSON object that is the answer. In its texts `{token}` stands for the token, and `{mac-hex}` and `{mac-base64}` for
    /// its MAC by the secret.
    pub(crate) json: Option<Map<String, Value>>,
    /// The place of the secret that the service hands over. One from a header is repeated in that of the answer; another one
    /// is entered at the service by a person.
    pub(crate) learn: Option<ChallengePlace>,
    /// Whether the answer is 204. Without any of these, it is 200 and has no body.
    #[serde(default)]
    pub(crate) no_content: bool,
}

/// A part of a request: `header:NAME`, `query:NAME`, `body:/POINTER` of JSON, or `form:NAME` of a body with this one field.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(try_from = "String")]
pub(crate) enum ChallengePlace {
    Header(HeaderName),
    Query(String),
    Body(String),
    Form(String),
}

/// In `when`: any number.
const NUMBER: &str = "#";
/// In `json`: the token, and its MAC.
pub(crate) const TOKEN: &str = "{token}";
pub(crate) const MAC_HEX: &str = "{mac-hex}";
pub(crate) const MAC_BASE64: &str = "{mac-base64}";

impl ChallengeRule {
    /// Whether a request is a challenge of this kind.
    ///
    /// # Errors
    /// When a header that decides it cannot be read.
    pub(crate) fn covers(&self, request: &HookRequest<'_>) -> Result<bool, Rejection> {
        if self.method.as_ref().is_some_and(|method| method != request.incoming.method) {
            return Ok(false);
        }
        for (place, wanted) in &self.when {
            let Some(text) = place.read(request)? else { return Ok(false) };
            match wanted.as_deref() {
                Some(NUMBER) if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) => {}
                Some(wanted) if text != wanted || wanted == NUMBER => return Ok(false),
                _ => {}
            }
        }
        for place in &self.without {
            if place.read(request)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether its answer has the MAC of a token.
    pub(crate) fn answers_with_mac(&self) -> bool {
        let has_mac = |text: &str| text.contains(MAC_HEX) || text.contains(MAC_BASE64);
        self.json.iter().flat_map(Map::values).any(|value| value.as_str().is_some_and(has_mac))
    }

    /// Whether Keyward may have made the MAC of this body itself, in answer to a challenge. Anyone can let Keyward sign the
    /// token of a challenge that is not signed; a token is therefore never an event.
    pub(crate) fn may_have_signed(&self, body: &[u8]) -> bool {
        !self.signed && self.answers_with_mac() && is_token(body)
    }

    /// Checks that it has one answer, and a token where the answer needs one.
    pub(crate) fn check(&self) -> Result<(), String> {
        let answers =
            [self.echo.is_some(), self.json.is_some(), self.learn.is_some(), self.no_content];
        if answers.into_iter().filter(|given| *given).count() > 1 {
            return Err("`echo`, `json`, `learn` and `no_content` exclude each other".to_owned());
        }
        match self.answers_with_mac() && self.token.is_none() {
            true => Err("`json` with a MAC needs a `token`".to_owned()),
            false => Ok(()),
        }
    }
}

impl ChallengePlace {
    /// The text there.
    pub(crate) fn read(&self, request: &HookRequest<'_>) -> Result<Option<String>, Rejection> {
        Ok(match self {
            Self::Header(name) => request.header(name)?.map(str::to_owned),
            Self::Query(name) => request.query(name).map(|text| text.into_owned()),
            Self::Body(pointer) => request.field(pointer).map(|text| text.into_owned()),
            Self::Form(name) => {
                let mut fields = form_urlencoded::parse(request.incoming.body);
                match (fields.next(), fields.next()) {
                    (Some((key, value)), None) if key == *name => Some(value.into_owned()),
                    _ => None,
                }
            }
        })
    }
}

impl TryFrom<String> for ChallengePlace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or_default();
        match kind {
            "header" => HeaderName::from_str(name).map(Self::Header).map_err(|it| it.to_string()),
            "query" => Ok(Self::Query(name.to_owned())),
            "body" if name.starts_with('/') => Ok(Self::Body(name.to_owned())),
            "form" => Ok(Self::Form(name.to_owned())),
            _ => Err(format!(
                "`{text}` is no place: write header:NAME, query:NAME, body:/POINTER or form:NAME"
            )),
        }
    }
}

fn method<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Method>, D::Error> {
    String::deserialize(from)?.parse().map(Some).map_err(D::Error::custom)
}

/// Whether a text can be a random token, which no event is: an event is JSON.
pub(super) fn is_token(text: &[u8]) -> bool {
    let is_of_token = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~+/=:".contains(b);
    (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.iter().all(is_of_token)
}

/// Longer than any service's token or secret.
const TOKEN_BYTES_MAX: usize = 256;

/// The form of the answer to an accepted event. Services that expect no body get none with a refusal either.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum EventAnswer {
    /// 200 with the id of the event, for services that ignore the body.
    #[default]
    Json,
    /// 200 without a body.
    Empty,
    /// 204.
    NoContent,
}
