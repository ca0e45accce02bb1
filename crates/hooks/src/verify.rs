//! The verification of a request: signature, time, id. [`Way::verify`] is the spine.
//!
//! The id of the request is used only if the signature covers it. Otherwise an attacker could replay a signed body
//! under a new id, so the id is the hash of the signed bytes. The cost: two events with the same bytes count as one. A
//! time is used only if it is signed.

use std::borrow::Cow;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use http::HeaderName;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use keyward_base::secret::Secret;

use crate::Rejection;
use crate::key::{KeyForm, SignatureAlgorithm, VerificationKey};
use crate::request::{Encoding, HookRequest, SignatureLayout, scalar};
use crate::template::{SignedTemplate, TemplateValues};

/// More notifications than a service sends in one request.
const ITEMS_MAX: usize = 1000;

/// Longer ids are replaced by a hash.
const ID_BYTES_MAX: usize = 128;

/// More digits overflow, or are of no unit.
const TIME_DIGITS_MAX: usize = 16;

/// A request whose signature was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedRequest {
    /// Identifies the event; repeated requests have the same. At most 128 visible ASCII characters. A hash of the signed
    /// bytes where the service signs no id.
    pub id: String,
    /// The time that the service signed.
    pub sent: Option<Timestamp>,
}

impl VerifiedRequest {
    /// Uses the id of the service if it is valid, else the hash of the signed bytes.
    pub(crate) fn signed(id: &str, signed: &[u8], sent: Option<Timestamp>) -> Self {
        let id = match is_id(id) {
            true => id.to_owned(),
            false => {
                let mut hash = Hash::new();
                hash.add(signed);
                hash.finish(None)
            }
        };
        Self { id, sent }
    }
}

/// One way in which a service signs. A scheme has several where the service has replaced one.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) key: KeyForm,
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) signature: ValuePlace,
    pub(crate) layout: SignatureLayout,
    pub(crate) encoding: Encoding,
    pub(crate) signed: SignedTemplate,
    /// A pointer to a list of which each item has a signature.
    pub(crate) items: Option<String>,
    pub(crate) time: Option<Time>,
    pub(crate) id: Option<ValuePlace>,
}

/// The location of a value in the request.
#[derive(Debug)]
pub(crate) enum ValuePlace {
    Headers(Vec<HeaderName>),
    /// In the pairs of the signature's header.
    Pair(String),
    /// A pointer in the JSON body, or in an item.
    Body(String),
}

/// The time that a service signs.
#[derive(Debug)]
pub(crate) struct Time {
    pub(crate) place: ValuePlace,
    pub(crate) unit: TimeUnit,
    /// How much it may differ from ours, to either side.
    pub(crate) window: SignedDuration,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TimeUnit {
    Seconds,
    Milliseconds,
    Rfc3339,
}

/// The claims of a request, not verified yet.
struct Claimed<'r> {
    signatures: Vec<Vec<u8>>,
    time: Option<Cow<'r, str>>,
    id: Option<Cow<'r, str>>,
}

/// The id of the service, or the hash that replaces it; and the time.
type Signed = (Result<String, Hash>, Option<Timestamp>);

/// Verifies a request by any of the ways. With `repeats`, different events may have the same bytes.
pub(crate) fn any(
    ways: &[Way],
    repeats: bool,
    request: &HookRequest<'_>,
    secrets: &[Secret],
    now: Timestamp,
) -> Result<VerifiedRequest, Rejection> {
    let mut rejection = Rejection::SignatureMissing;
    for way in ways {
        match way.verify(request, secrets, now) {
            Ok((id, sent)) => {
                let id = id.unwrap_or_else(|hash| hash.finish(repeats.then_some(now)));
                return Ok(VerifiedRequest { id, sent });
            }
            Err(other) if weight(other) > weight(rejection) => rejection = other,
            Err(_) => {}
        }
    }
    Err(rejection)
}

/// Checks a signed time: how old it may be, and how far ahead of ours.
pub(crate) fn check_time(
    sent: Timestamp,
    now: Timestamp,
    age_max: SignedDuration,
    ahead_max: SignedDuration,
) -> Result<(), Rejection> {
    let age = now.duration_since(sent);
    if age > age_max {
        return Err(Rejection::TooOld);
    }
    if age < -ahead_max {
        return Err(Rejection::FromTheFuture);
    }
    Ok(())
}

/// Orders rejections by progress: if all ways fail, the one that came furthest is reported.
fn weight(rejection: Rejection) -> u8 {
    match rejection {
        Rejection::SignatureMissing => 0,
        Rejection::NoSecret => 1,
        _ => 2,
    }
}

impl Way {
    fn verify(
        &self,
        request: &HookRequest<'_>,
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<Signed, Rejection> {
        let mut hash = Hash::new();
        let (mut sent, mut id) = (None, None);
        for item in self.items(request)? {
            let claimed = self.claimed(request, item)?;
            let keys = self.keys(secrets)?;
            sent = self.sent(&claimed)?;
            hash.add(&self.signed(request, item, &claimed, &keys)?);
            id = claimed.id.filter(|id| is_id(id)).map(Cow::into_owned);
        }
        // After the signature check, because the time of a forged request means nothing.
        if let (Some(time), Some(sent)) = (&self.time, sent) {
            check_time(sent, now, time.window, time.window)?;
        }
        Ok((id.ok_or(hash), sent))
    }

    /// The parts of the body that have signatures: the items of a list, or the whole.
    fn items<'v>(&self, request: &'v HookRequest<'_>) -> Result<Vec<Option<&'v Value>>, Rejection> {
        let Some(pointer) = &self.items else { return Ok(vec![request_item(self, request)]) };
        let list = request.json().and_then(|body| body.pointer(pointer)).and_then(Value::as_array);
        let list = list.ok_or(Rejection::SignatureMissing)?;
        match list.len() {
            1..=ITEMS_MAX => Ok(list.iter().map(Some).collect()),
            _ => Err(Rejection::BodyStrange),
        }
    }

    fn claimed<'v>(
        &self,
        request: &'v HookRequest<'_>,
        item: Option<&'v Value>,
    ) -> Result<Claimed<'v>, Rejection> {
        let values = match &self.signature {
            ValuePlace::Headers(names) => {
                let values = names.iter().map(|name| request.header(name));
                let values = values.collect::<Result<Vec<_>, _>>()?;
                values.into_iter().flatten().map(Cow::Borrowed).collect()
            }
            ValuePlace::Body(pointer) => {
                Vec::from_iter(item.and_then(|item| item.pointer(pointer)).and_then(scalar))
            }
            ValuePlace::Pair(_) => vec![],
        };
        let mut signatures = vec![];
        for value in &values {
            for text in self.layout.signatures(value)? {
                signatures.push(self.encoding.decode(text)?);
            }
        }
        if signatures.is_empty() {
            return Err(Rejection::SignatureMissing);
        }
        let find = |place: &ValuePlace| place.find(self, request, &values);
        let time = self.time.as_ref().map(|time| find(&time.place)).transpose()?.flatten();
        let id = self.id.as_ref().map(find).transpose()?.flatten();
        Ok(Claimed { signatures, time, id })
    }

    fn keys(&self, secrets: &[Secret]) -> Result<Vec<VerificationKey>, Rejection> {
        let read = |secret| VerificationKey::read(self.key, self.algorithm, secret).ok();
        let keys: Vec<VerificationKey> = secrets.iter().filter_map(read).collect();
        if keys.is_empty() { Err(Rejection::NoSecret) } else { Ok(keys) }
    }

    /// The bytes that one of the keys signed.
    fn signed<'v>(
        &self,
        request: &'v HookRequest<'_>,
        item: Option<&'v Value>,
        claimed: &Claimed<'_>,
        keys: &[VerificationKey],
    ) -> Result<Cow<'v, [u8]>, Rejection> {
        let (time, id) = (claimed.time.as_deref(), claimed.id.as_deref());
        for url in self.signed.urls(request.incoming.url) {
            let values = TemplateValues { request, item, url: &url, time, id };
            let message = match self.algorithm {
                SignatureAlgorithm::Equal => Cow::Borrowed(request.incoming.body),
                _ => Cow::Owned(self.signed.fill(&values)?),
            };
            let by = |key: &VerificationKey| {
                claimed.signatures.iter().any(|it| key.verifies(&message, it))
            };
            if keys.iter().any(by) {
                return Ok(message);
            }
        }
        Err(Rejection::SignatureWrong)
    }

    fn sent(&self, claimed: &Claimed<'_>) -> Result<Option<Timestamp>, Rejection> {
        let Some(time) = &self.time else { return Ok(None) };
        let read = claimed.time.as_deref().and_then(|text| time.unit.read(text));
        read.map(Some).ok_or(Rejection::TimeMalformed)
    }
}

/// The whole body, if it contains the signature.
fn request_item<'v>(way: &Way, request: &'v HookRequest<'_>) -> Option<&'v Value> {
    matches!(way.signature, ValuePlace::Body(_)).then(|| request.json()).flatten()
}

impl ValuePlace {
    /// The value; those of several headers are joined, and all are needed.
    fn find<'v>(
        &self,
        way: &Way,
        request: &'v HookRequest<'_>,
        values: &[Cow<'v, str>],
    ) -> Result<Option<Cow<'v, str>>, Rejection> {
        match self {
            Self::Headers(names) => {
                let texts = names.iter().map(|name| request.header(name));
                let texts: Option<Vec<&str>> = texts.collect::<Result<_, _>>()?;
                Ok(texts.map(|texts| match texts[..] {
                    [one] => Cow::Borrowed(one),
                    _ => Cow::Owned(texts.join(".")),
                }))
            }
            Self::Pair(name) => {
                let value = values.first().map(|value| way.layout.pair(value, name));
                Ok(value.transpose()?.flatten().map(|text| Cow::Owned(text.to_owned())))
            }
            Self::Body(pointer) => Ok(request.field(pointer)),
        }
    }
}

impl TimeUnit {
    fn read(self, text: &str) -> Option<Timestamp> {
        let number = || {
            let is_number =
                text.len() <= TIME_DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| text.parse::<i64>().ok()).flatten()
        };
        match self {
            Self::Seconds => Timestamp::from_second(number()?).ok(),
            Self::Milliseconds => Timestamp::from_millisecond(number()?).ok(),
            Self::Rfc3339 => text.parse().ok(),
        }
    }
}

/// Whether a text of a service can be an id as it is.
fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// SHA-256 of what was signed: each part with its length, as eight bytes, before it.
struct Hash(Context);

impl Hash {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    /// The id. `now` makes it unique, for services that send the same bytes for different events.
    pub(super) fn finish(mut self, now: Option<Timestamp>) -> String {
        if let Some(now) = now {
            self.0.update(&now.as_nanosecond().to_be_bytes());
        }
        format!("sha256:{}", HEXLOWER.encode(self.0.finish().as_ref()))
    }
}
