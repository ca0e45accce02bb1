//! Messages of AWS SNS to HTTPS endpoints.
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>
//!
//! Any customer of AWS can create a topic, whose messages have valid signatures. So the hook names its topic.

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use jiff::{SignedDuration, Timestamp};

use super::certificate::Signature;
use super::key_place::{CLOCK_SKEW, HookMessage, KeyPlace};
use crate::request::{HookRequest, base64};
use crate::verify::check_time;
use crate::{ChallengeAction, Rejection, VerifiedRequest};

/// SNS sends a message again for up to an hour.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html>
pub(super) const WINDOW: SignedDuration = SignedDuration::from_mins(65);

/// The members that a notification's signature covers, in this order.
const NOTIFICATION: &[&str] = &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"];

/// The same of the other messages.
const CONFIRMATION: &[&str] =
    &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Topic<'t> {
    region: &'t str,
    /// Of China, whose hosts have other names.
    is_of_china: bool,
}

impl<'t> Topic<'t> {
    pub(super) fn parse(arn: &'t str) -> Option<Self> {
        let [_arn @ "arn", partition, _sns @ "sns", region, account, name] =
            arn.split(':').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let is_of_china = match partition {
            "aws" | "aws-us-gov" => false,
            "aws-cn" => true,
            _ => return None,
        };
        let is_region = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_sound = !region.is_empty()
            && region.bytes().all(is_region)
            && account.bytes().all(|b| b.is_ascii_digit())
            && !name.is_empty();
        is_sound.then_some(Self { region, is_of_china })
    }

    /// The host that sends its messages.
    fn host(self) -> String {
        let suffix = if self.is_of_china { ".cn" } else { "" };
        format!("sns.{}.amazonaws.com{suffix}", self.region)
    }

    /// Whether a certificate of SNS for the topic's region has the name.
    fn is_name(self, name: &str) -> bool {
        name == self.host()
            || name == "sns.amazonaws.com"
            || name == format!("sns-{}.amazonaws.com", self.region)
    }
}

/// The topic of a message that the hook accepts.
fn topic<'r>(request: &'r HookRequest<'_>, accepted: &[&'r str]) -> Result<Topic<'r>, Rejection> {
    if request.field("/Signature").is_none() {
        return Err(Rejection::SignatureMissing);
    }
    let named = request.field("/TopicArn").ok_or(Rejection::BodyStrange)?;
    if accepted.is_empty() {
        return Err(Rejection::NoSecret);
    }
    let arn = accepted.iter().find(|arn| **arn == named).ok_or(Rejection::OtherReceiver)?;
    Topic::parse(arn).ok_or(Rejection::NoSecret)
}

pub(super) fn key_place(
    request: &HookRequest<'_>,
    accepted: &[&str],
) -> Result<KeyPlace, Rejection> {
    let topic = topic(request, accepted)?;
    let url = request.field("/SigningCertURL").ok_or(Rejection::SignatureMissing)?;
    let file = url.strip_prefix(&format!("https://{}/", topic.host()));
    let file = file.and_then(|file| file.strip_prefix("SimpleNotificationService-"));
    let name = file.and_then(|file| file.strip_suffix(".pem")).ok_or(Rejection::KeyElsewhere)?;
    let is_id = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
    KeyPlace::public(&url, is_id)
}

pub(super) fn read(
    pem: &[u8],
    request: &HookRequest<'_>,
    accepted: &[&str],
    now: Timestamp,
) -> Result<HookMessage, Rejection> {
    let topic = topic(request, accepted)?;
    let field = |name: &str| request.field(&format!("/{name}"));
    let algorithm: &'static dyn VerificationAlgorithm = match field("SignatureVersion").as_deref() {
        Some("1") => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Some("2") => &RSA_PKCS1_2048_8192_SHA256,
        _ => return Err(Rejection::SignatureMissing),
    };
    let kind = field("Type").ok_or(Rejection::BodyStrange)?;
    let members = match &*kind {
        "Notification" => NOTIFICATION,
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => CONFIRMATION,
        _ => return Err(Rejection::BodyStrange),
    };
    let mut signed = String::new();
    for name in members {
        match field(name) {
            Some(value) => signed.extend([*name, "\n", &*value, "\n"]),
            None if *name == "Subject" => {}
            None => return Err(Rejection::BodyStrange),
        }
    }
    let signature = field("Signature").ok_or(Rejection::SignatureMissing)?;
    let signature = base64(&signature).map_err(|_| Rejection::SignatureMalformed)?;
    let signature = Signature { algorithm, message: signed.as_bytes(), bytes: &signature };
    signature.verify(pem, |name| topic.is_name(name), now)?;
    let sent = field("Timestamp").and_then(|text| text.parse().ok());
    let sent: Timestamp = sent.ok_or(Rejection::TimeMalformed)?;
    check_time(sent, now, WINDOW, CLOCK_SKEW)?;
    if kind == "SubscriptionConfirmation" {
        let url = field("SubscribeURL").ok_or(Rejection::ChallengeRefused)?;
        let query = url.strip_prefix(&format!("https://{}/?", topic.host()));
        let confirms = query.is_some_and(|query| query.contains("Action=ConfirmSubscription"));
        return match confirms {
            true => Ok(HookMessage::Challenge(ChallengeAction::Confirm { url: url.into_owned() })),
            false => Err(Rejection::ChallengeRefused),
        };
    }
    let id = field("MessageId").ok_or(Rejection::BodyStrange)?;
    Ok(HookMessage::Event(VerifiedRequest::signed(&id, signed.as_bytes(), Some(sent))))
}
