//! Answers requests that verify the URL of a hook or transmit its secret, by the rules of the scheme.
//!
//! Most of these requests are not signed, so anyone can send one. The answer is therefore short printable text, as
//! `text/plain` that browsers must not render as a page, or JSON whose members the rule names.

use std::slice;

use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use http::HeaderValue;
use http::header::X_CONTENT_TYPE_OPTIONS;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::challenge_rule::{ChallengePlace, ChallengeRule, MAC_BASE64, MAC_HEX, TOKEN, is_token};
use crate::key::{is_equal, is_known};
use crate::request::HookRequest;
use crate::scheme::Scheme;
use crate::{ChallengeAction, Incoming, Rejection};
use keyward_base::secret::Secret;

/// Longer than any service's challenge.
const ECHO_BYTES_MAX: usize = 2048;

const TEXT: &str = "text/plain";
const JSON: &str = "application/json";

/// A challenge of one kind.
struct Challenge<'c> {
    scheme: &'c Scheme,
    rule: &'c ChallengeRule,
    request: &'c HookRequest<'c>,
    secrets: &'c [Secret],
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
        let request = &HookRequest::new(incoming);
        for rule in &self.challenges {
            if rule.covers(request)? {
                let secrets = match rule.signed {
                    true => self.signer(request, secrets, now)?,
                    false => secrets,
                };
                return Challenge { scheme: self, rule, request, secrets }.answer().map(Some);
            }
        }
        Ok(None)
    }

    /// The one of several secrets with which the service has signed. It expects a MAC by the same one.
    fn signer<'s>(
        &self,
        request: &HookRequest<'_>,
        secrets: &'s [Secret],
        now: Timestamp,
    ) -> Result<&'s [Secret], Rejection> {
        self.verify_signature(request, secrets, now)?;
        let signs = |secret: &&Secret| {
            self.verify_signature(request, slice::from_ref(*secret), now).is_ok()
        };
        secrets.iter().find(signs).map(slice::from_ref).ok_or(Rejection::NoSecret)
    }
}

impl Challenge<'_> {
    fn answer(&self) -> Result<ChallengeAction, Rejection> {
        if let Some(place) = &self.rule.verify_token {
            self.check_verify_token(&self.text(place)?)?;
        }
        match self.rule {
            ChallengeRule { echo: Some(place), .. } => echo(&self.text(place)?),
            ChallengeRule { json: Some(members), .. } => self.json(members),
            ChallengeRule { learn: Some(place), .. } => self.learn(place),
            ChallengeRule { no_content: true, .. } => Ok(ChallengeAction::Acknowledge),
            _ => Ok(ChallengeAction::Answer { content_type: TEXT, body: vec![], header: None }),
        }
    }

    /// The text at a place that the answer needs.
    fn text(&self, place: &ChallengePlace) -> Result<String, Rejection> {
        place.read(self.request)?.ok_or(Rejection::ChallengeRefused)
    }

    fn check_verify_token(&self, token: &str) -> Result<(), Rejection> {
        let mut keys = self.scheme.usable_keys(self.secrets).peekable();
        keys.peek().ok_or(Rejection::NoSecret)?;
        let tokens = keys.filter_map(|key| key.verify_token());
        let is_right =
            tokens.fold(false, |right, it| right | is_equal(it.as_bytes(), token.as_bytes()));
        if is_right { Ok(()) } else { Err(Rejection::ChallengeRefused) }
    }

    fn json(&self, members: &Map<String, Value>) -> Result<ChallengeAction, Rejection> {
        let token = self.rule.token.as_ref().map(|place| self.text(place)).transpose()?;
        let token = token.unwrap_or_default();
        let mac = match self.rule.answers_with_mac() {
            true => self.mac(&token)?.as_ref().to_vec(),
            false => Vec::new(),
        };
        let filled = |text: &str| {
            let text = text.replace(MAC_HEX, &HEXLOWER.encode(&mac));
            text.replace(MAC_BASE64, &BASE64.encode(&mac)).replace(TOKEN, &token)
        };
        let filled = |value: &Value| match value {
            Value::String(text) => Value::String(filled(text)),
            other => other.clone(),
        };
        let members = members.iter().map(|(name, value)| (name.clone(), filled(value)));
        let body = Value::Object(members.collect()).to_string().into_bytes();
        Ok(ChallengeAction::Answer { content_type: JSON, body, header: None })
    }

    /// The MAC of a token by the current secret, or by that of the signature.
    fn mac(&self, token: &str) -> Result<hmac::Tag, Rejection> {
        if !is_token(token.as_bytes()) {
            return Err(Rejection::ChallengeRefused);
        }
        let key = self.scheme.usable_keys(self.secrets).next();
        key.and_then(|key| key.mac(token.as_bytes())).ok_or(Rejection::NoSecret)
    }

    /// Accepts a secret that the service transmits without a signature. Anyone can send one, so only the first is
    /// accepted. The same secret is accepted again, because the answer may have been lost.
    fn learn(&self, place: &ChallengePlace) -> Result<ChallengeAction, Rejection> {
        let text = self.text(place)?;
        if !is_token(text.as_bytes()) {
            return Err(Rejection::ChallengeRefused);
        }
        if !self.secrets.is_empty() && !is_known(self.secrets, &text) {
            return Err(Rejection::SecretKnown);
        }
        let header = match place {
            ChallengePlace::Header(name) => {
                let value = HeaderValue::from_str(&text);
                let mut value = value.map_err(|_| Rejection::ChallengeRefused)?;
                value.set_sensitive(true);
                Some((name.clone(), value))
            }
            _ => None,
        };
        let answer = ChallengeAction::Answer { content_type: TEXT, body: vec![], header };
        Ok(ChallengeAction::Secret { secret: Secret::from(text), answer: Box::new(answer) })
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
