//! Answers requests that verify the URL of a hook or transmit its secret. Each service has its own form, and one
//! function here.
//!
//! Most of these requests are not signed, so anyone can send one. The answer is therefore short printable text, as
//! `text/plain` that browsers must not render as a page.

use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use http::header::X_CONTENT_TYPE_OPTIONS;
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use serde_json::{Value, json};

use keyward_base::secret::Secret;

use crate::key::{is_equal, is_known};
use crate::request::HookRequest;

use super::challenge_form::TEXT;
use super::challenge_form::{ChallengeAction, ChallengeForm, is_token};
use crate::scheme::Scheme;
use crate::{Incoming, Rejection};

/// Longer than any service's challenge.
const ECHO_BYTES_MAX: usize = 2048;

const HOOK_SECRET: HeaderName = HeaderName::from_static("x-hook-secret");
const TWITCH_KIND: HeaderName = HeaderName::from_static("twitch-eventsub-message-type");

type Answered = Result<Option<ChallengeAction>, Rejection>;

/// The parts of a call.
struct ChallengeParts<'c> {
    scheme: &'c Scheme,
    request: &'c HookRequest<'c>,
    secrets: &'c [Secret],
    now: Timestamp,
}

impl Scheme {
    /// The answer to a request that only proves the URL or hands over the secret; `None`: it is an event. A challenge that
    /// the service signs is verified first.
    ///
    /// # Errors
    /// When it is a challenge, and its signature or verify token is wrong.
    pub fn challenge(
        &self,
        incoming: &Incoming<'_>,
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<Option<ChallengeAction>, Rejection> {
        answer(self, &HookRequest::new(incoming), secrets, now)
    }
}

fn answer(
    scheme: &Scheme,
    request: &HookRequest<'_>,
    secrets: &[Secret],
    now: Timestamp,
) -> Answered {
    let Some(form) = scheme.challenge else { return Ok(None) };
    let asked = ChallengeParts { scheme, request, secrets, now };
    match form {
        ChallengeForm::Asana => asked.asana(),
        ChallengeForm::Crc => asked.crc(),
        ChallengeForm::Discord => asked.discord(),
        ChallengeForm::Dropbox => asked.dropbox(),
        ChallengeForm::Head => {
            Ok((*request.incoming.method == Method::HEAD).then(ChallengeAction::empty))
        }
        ChallengeForm::Meta => asked.meta(),
        ChallengeForm::Msgraph => {
            asked.query("validationToken").map(|text| echo(&text)).transpose()
        }
        ChallengeForm::Notion => asked.notion(),
        ChallengeForm::Slack => asked.slack(),
        ChallengeForm::Twitch => asked.twitch(),
        ChallengeForm::Woocommerce => Ok(asked.is_ping().then(ChallengeAction::empty)),
        ChallengeForm::Zoom => asked.zoom(),
    }
}

impl ChallengeParts<'_> {
    /// <https://developers.asana.com/docs/webhooks-guide#the-webhook-handshake>
    fn asana(&self) -> Answered {
        let Some(text) = self.request.header(&HOOK_SECRET)? else { return Ok(None) };
        let secret = self.learned(text)?;
        let mut value = HeaderValue::from_str(text).map_err(|_| Rejection::ChallengeRefused)?;
        value.set_sensitive(true);
        let header = Some((HOOK_SECRET, value));
        let answer = ChallengeAction::Answer { content_type: TEXT, body: vec![], header };
        Ok(Some(ChallengeAction::Secret { secret, answer: Box::new(answer) }))
    }

    /// <https://developers.notion.com/reference/webhooks#step-2-verifying-the-subscription>
    fn notion(&self) -> Answered {
        let Some(text) = self.request.field("/verification_token") else { return Ok(None) };
        // An event is signed; its body may have a member of this name.
        if self.request.field("/id").is_some() {
            return Ok(None);
        }
        let secret = self.learned(&text)?;
        Ok(Some(ChallengeAction::Secret { secret, answer: Box::new(ChallengeAction::empty()) }))
    }

    /// Accepts a secret that the service transmits without a signature. Anyone can send one, so only the first is
    /// accepted. The same secret is accepted again, because the answer may have been lost.
    fn learned(&self, text: &str) -> Result<Secret, Rejection> {
        if !is_token(text.as_bytes()) {
            return Err(Rejection::ChallengeRefused);
        }
        match self.secrets.is_empty() || is_known(self.secrets, text) {
            true => Ok(Secret::from(text.to_owned())),
            false => Err(Rejection::SecretKnown),
        }
    }

    /// <https://www.dropbox.com/developers/reference/webhooks#documentation>
    fn dropbox(&self) -> Answered {
        self.get("challenge").map(|text| echo(&text)).transpose()
    }

    /// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests>
    fn meta(&self) -> Answered {
        if self.get("hub.mode").as_deref() != Some("subscribe") {
            return Ok(None);
        }
        let (Some(token), Some(text)) = (self.get("hub.verify_token"), self.get("hub.challenge"))
        else {
            return Err(Rejection::ChallengeRefused);
        };
        let mut keys = self.scheme.usable_keys(self.secrets).peekable();
        keys.peek().ok_or(Rejection::NoSecret)?;
        let tokens = keys.filter_map(|key| key.verify_token());
        let is_right =
            tokens.fold(false, |right, it| right | is_equal(it.as_bytes(), token.as_bytes()));
        match is_right {
            true => echo(&text).map(Some),
            false => Err(Rejection::ChallengeRefused),
        }
    }

    /// <https://docs.x.com/x-api/webhooks/quickstart>
    fn crc(&self) -> Answered {
        let Some(token) = self.get("crc_token") else { return Ok(None) };
        let mac = mac(self.scheme, self.secrets, &token)?;
        let token = format!("sha256={}", BASE64.encode(mac.as_ref()));
        Ok(Some(ChallengeAction::json(&json!({ "response_token": token }))))
    }

    /// <https://docs.slack.dev/reference/events/url_verification>
    fn slack(&self) -> Answered {
        if self.request.field("/type").as_deref() != Some("url_verification") {
            return Ok(None);
        }
        self.verify()?;
        self.echo_challenge()
    }

    /// <https://dev.twitch.tv/docs/eventsub/handling-webhook-events/#responding-to-a-challenge-request>
    fn twitch(&self) -> Answered {
        if self.request.header(&TWITCH_KIND)? != Some("webhook_callback_verification") {
            return Ok(None);
        }
        self.verify()?;
        self.echo_challenge()
    }

    /// The ping of an interactions endpoint has type 1, that of a webhook events URL type 0. There, type 1 is an event.
    ///
    /// <https://discord.com/developers/docs/interactions/overview#setting-up-an-endpoint>
    /// <https://discord.com/developers/docs/events/webhook-events#acknowledging-ping-requests>
    fn discord(&self) -> Answered {
        let Some(body) = self.request.json().filter(|body| body.get("event").is_none()) else {
            return Ok(None);
        };
        let answer = match body.get("type").and_then(Value::as_u64) {
            Some(0) => ChallengeAction::Acknowledge,
            Some(1) => ChallengeAction::json(&json!({ "type": 1 })),
            _ => return Ok(None),
        };
        self.verify()?;
        Ok(Some(answer))
    }

    /// A form, while events are JSON; `deliver_ping` of
    /// <https://github.com/woocommerce/woocommerce/blob/trunk/plugins/woocommerce/includes/class-wc-webhook.php>
    fn is_ping(&self) -> bool {
        let number = self.request.incoming.body.strip_prefix(b"webhook_id=").unwrap_or_default();
        !number.is_empty() && number.iter().all(u8::is_ascii_digit)
    }

    /// <https://developers.zoom.us/docs/api/webhooks/#validate-your-webhook-endpoint>
    fn zoom(&self) -> Answered {
        if self.request.field("/event").as_deref() != Some("endpoint.url_validation") {
            return Ok(None);
        }
        self.verify()?;
        let token = self.request.field("/payload/plainToken").ok_or(Rejection::ChallengeRefused)?;
        // Of several secrets, Zoom expects the one that it signed with.
        let signs = |secret: &&Secret| {
            let secret = std::slice::from_ref(*secret);
            self.scheme.verify_signature(self.request, secret, self.now).is_ok()
        };
        let secret = self.secrets.iter().find(signs).ok_or(Rejection::NoSecret)?;
        let mac = mac(self.scheme, std::slice::from_ref(secret), &token)?;
        let encrypted = HEXLOWER.encode(mac.as_ref());
        Ok(Some(ChallengeAction::json(
            &json!({ "plainToken": token, "encryptedToken": encrypted }),
        )))
    }

    fn verify(&self) -> Result<(), Rejection> {
        self.scheme.verify_signature(self.request, self.secrets, self.now).map(drop)
    }

    fn echo_challenge(&self) -> Answered {
        let text = self.request.field("/challenge").ok_or(Rejection::ChallengeRefused)?;
        echo(&text).map(Some)
    }

    /// A parameter of a GET request.
    fn get(&self, name: &str) -> Option<String> {
        (*self.request.incoming.method == Method::GET).then(|| self.query(name)).flatten()
    }

    fn query(&self, name: &str) -> Option<String> {
        self.request.query(name).map(|text| text.into_owned())
    }
}

/// An answer that repeats a text.
fn echo(text: &str) -> Result<ChallengeAction, Rejection> {
    let is_plain = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if !is_plain || !(1..=ECHO_BYTES_MAX).contains(&text.len()) {
        return Err(Rejection::ChallengeRefused);
    }
    let header = Some((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    Ok(ChallengeAction::Answer { content_type: TEXT, body: text.as_bytes().to_vec(), header })
}

/// The MAC of a token by the current secret.
fn mac(scheme: &Scheme, secrets: &[Secret], token: &str) -> Result<hmac::Tag, Rejection> {
    if !is_token(token.as_bytes()) {
        return Err(Rejection::ChallengeRefused);
    }
    let mac = scheme.usable_keys(secrets).next().and_then(|key| key.mac(token.as_bytes()));
    mac.ok_or(Rejection::NoSecret)
}
