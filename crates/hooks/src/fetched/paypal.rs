//! Webhooks of PayPal. <https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverificationmethod>
//!
//! The signature covers the id of the webhook, which the hook names, and the CRC-32 of the body. CRC-32 is no cryptographic hash: an
//! attacker between PayPal and the hook could make another body with the same one. TLS to the hook prevents that.

use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use http::HeaderName;
use jiff::{SignedDuration, Timestamp};

use super::certificate::Signature;
use super::key_place::{CLOCK_SKEW, HookMessage, KeyPlace};
use crate::request::{HookRequest, base64};
use crate::verify::check_time;
use crate::{Rejection, VerifiedRequest};

/// PayPal sends a webhook again for up to three days.
pub(super) const WINDOW: SignedDuration = SignedDuration::from_hours(3 * 24);

pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("paypal-transmission-sig");
const ALGORITHM: HeaderName = HeaderName::from_static("paypal-auth-algo");
const CERTIFICATE: HeaderName = HeaderName::from_static("paypal-cert-url");
const ID: HeaderName = HeaderName::from_static("paypal-transmission-id");
const TIME: HeaderName = HeaderName::from_static("paypal-transmission-time");

/// Where PayPal publishes its certificates.
const PLACES: [&str; 4] = [
    "https://api.paypal.com/v1/notifications/certs/",
    "https://api.sandbox.paypal.com/v1/notifications/certs/",
    "https://api-m.paypal.com/v1/notifications/certs/",
    "https://api-m.sandbox.paypal.com/v1/notifications/certs/",
];

/// The form of the ids of webhooks and certificates.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn header<'r>(request: &'r HookRequest<'_>, name: &HeaderName) -> Result<&'r str, Rejection> {
    request.header(name)?.ok_or(Rejection::HeaderMissing)
}

pub(super) fn key_place(
    request: &HookRequest<'_>,
    accepted: &[&str],
) -> Result<KeyPlace, Rejection> {
    request.header(&SIGNATURE)?.ok_or(Rejection::SignatureMissing)?;
    if accepted.is_empty() {
        return Err(Rejection::NoSecret);
    }
    let url = header(request, &CERTIFICATE)?;
    let name = PLACES.iter().find_map(|place| url.strip_prefix(place));
    KeyPlace::public(url, name.is_some_and(is_id))
}

pub(super) fn read(
    pem: &[u8],
    request: &HookRequest<'_>,
    accepted: &[&str],
    now: Timestamp,
) -> Result<HookMessage, Rejection> {
    let signature = request.header(&SIGNATURE)?.ok_or(Rejection::SignatureMissing)?;
    let signature = base64(signature).map_err(|_| Rejection::SignatureMalformed)?;
    if header(request, &ALGORITHM)? != "SHA256withRSA" {
        return Err(Rejection::SignatureMalformed);
    }
    let (id, time) = (header(request, &ID)?, header(request, &TIME)?);
    let crc = crc32fast::hash(request.incoming.body);
    let is_name = |name: &str| name == "paypal.com" || name.ends_with(".paypal.com");
    let mut result = Err(Rejection::NoSecret);
    for webhook in accepted {
        let signed = format!("{id}|{time}|{webhook}|{crc}");
        let message = signed.as_bytes();
        let algorithm = &RSA_PKCS1_2048_8192_SHA256;
        let signature = Signature { algorithm, message, bytes: &signature };
        result = signature.verify(pem, is_name, now);
        if result.is_ok() {
            break;
        }
    }
    result?;
    let sent: Timestamp = time.parse().map_err(|_| Rejection::TimeMalformed)?;
    check_time(sent, now, WINDOW, CLOCK_SKEW)?;
    Ok(HookMessage::Event(VerifiedRequest::signed(id, id.as_bytes(), Some(sent))))
}
