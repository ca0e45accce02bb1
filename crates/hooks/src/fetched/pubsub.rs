//! Pushes of Google Pub/Sub, which prove themselves by an OpenID Connect token.
//! <https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions>
//!
//! Google signs such a token for every service account of every customer. So the hook names the account, and the token must be for
//! the hook. The token authenticates the whole request, because the body is not signed.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::jwt::{Jwk, UnverifiedToken};
use super::key_place::{CLOCK_SKEW, HookMessage, KeyPlace};
use crate::request::HookRequest;
use crate::{Rejection, VerifiedRequest};

/// <https://accounts.google.com/.well-known/openid-configuration>
const KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";

const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];

/// Pub/Sub sends a message again until it is acknowledged, by default for a week.
pub(super) const REPLAY_WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);

#[derive(Clone, Copy, Debug)]
pub(super) struct Pusher<'p> {
    email: &'p str,
    /// `None`: the URL of the hook.
    audience: Option<&'p str>,
}

#[derive(Deserialize)]
struct PubsubClaims {
    iss: String,
    aud: String,
    email: String,
    email_verified: bool,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct GoogleKeys {
    keys: Vec<serde_json::Value>,
}

impl<'p> Pusher<'p> {
    pub(super) fn parse(text: &'p str) -> Option<Self> {
        let mut words = text.split(' ');
        let (email, audience) = (words.next()?, words.next());
        let is_sound = email.contains('@') && audience != Some("") && words.next().is_none();
        is_sound.then_some(Self { email, audience })
    }
}

fn token<'r>(request: &'r HookRequest<'_>) -> Result<UnverifiedToken<'r>, Rejection> {
    let header = request.header(&http::header::AUTHORIZATION)?;
    let text = header.and_then(|text| text.strip_prefix("Bearer "));
    UnverifiedToken::parse(text.ok_or(Rejection::SignatureMissing)?, "RS256")
}

pub(super) fn key_place(
    request: &HookRequest<'_>,
    accepted: &[&str],
) -> Result<KeyPlace, Rejection> {
    token(request)?;
    match accepted.is_empty() {
        true => Err(Rejection::NoSecret),
        false => Ok(KeyPlace::Public(KEYS.to_owned())),
    }
}

pub(super) fn read(
    keys: &[u8],
    request: &HookRequest<'_>,
    accepted: &[&str],
    now: Timestamp,
) -> Result<HookMessage, Rejection> {
    let token = token(request)?;
    let keys: GoogleKeys = serde_json::from_slice(keys).map_err(|_| Rejection::KeyStrange)?;
    let mut keys = keys.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let key = keys.find(|key| key.kid == token.key).ok_or(Rejection::KeyUnknown)?;
    let claims: PubsubClaims = token.verified(&key)?;
    if now.as_second() > claims.exp {
        return Err(Rejection::TooOld);
    }
    let sent = Timestamp::from_second(claims.iat).map_err(|_| Rejection::TimeMalformed)?;
    if now.duration_since(sent) < -CLOCK_SKEW {
        return Err(Rejection::FromTheFuture);
    }
    let url = request.incoming.url;
    let without_query = url.split('?').next().unwrap_or(url);
    let is_meant = |pusher: Pusher<'_>| {
        let is_audience = match pusher.audience {
            Some(audience) => claims.aud == audience,
            None => claims.aud == url || claims.aud == without_query,
        };
        is_audience && claims.email == pusher.email
    };
    let is_meant = accepted.iter().filter_map(|text| Pusher::parse(text)).any(is_meant);
    if !is_meant || !claims.email_verified || !ISSUERS.contains(&claims.iss.as_str()) {
        return Err(Rejection::OtherReceiver);
    }
    let id = request.field("/message/messageId").ok_or(Rejection::BodyStrange)?;
    Ok(HookMessage::Event(VerifiedRequest::signed(&id, request.incoming.body, Some(sent))))
}
