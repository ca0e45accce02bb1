//! How a service verifies the URL of a hook, what Keyward answers, and how it expects that its events are answered
//! ([`EventAnswer`]).

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

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

/// How a service proves a URL.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChallengeForm {
    /// A POST with a secret in `X-Hook-Secret`, which the answer repeats.
    Asana,
    /// A GET with a token, of which the answer has the MAC.
    Crc,
    /// A signed body without an event: of type 1, to which the answer has type 1, or of type 0.
    Discord,
    /// A GET with a text, which is the answer.
    Dropbox,
    /// A HEAD request.
    Head,
    /// A GET with a verify token that the person entered, and a text, which is the answer.
    Meta,
    /// A POST with a text in the query, which is the answer.
    Msgraph,
    /// A POST with the secret in the body.
    Notion,
    /// A signed body with a text, which is the answer.
    Slack,
    /// A signed body with a text, which is the answer; a header names its kind.
    Twitch,
    /// A POST of the webhook's number, without a signature.
    Woocommerce,
    /// A signed body with a token, of which the answer has the MAC.
    Zoom,
}

impl ChallengeForm {
    /// Whether Keyward may have made the MAC of this body itself, in answer to a challenge. Challenges of X are not
    /// signed, so anyone can let Keyward sign a token; a token is therefore never an event.
    pub(crate) fn may_have_signed(self, body: &[u8]) -> bool {
        self == Self::Crc && is_token(body)
    }
}

impl ChallengeAction {
    pub(super) fn empty() -> Self {
        Self::Answer { content_type: TEXT, body: vec![], header: None }
    }

    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::Answer { content_type: JSON, body: value.to_string().into_bytes(), header: None }
    }
}

/// Whether a text can be a random token, which no event is: an event is JSON.
pub(super) fn is_token(text: &[u8]) -> bool {
    let is_of_token = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~+/=:".contains(b);
    (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.iter().all(is_of_token)
}

/// Longer than any service's token or secret.
const TOKEN_BYTES_MAX: usize = 256;

pub(super) const TEXT: &str = "text/plain";

const JSON: &str = "application/json";

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
