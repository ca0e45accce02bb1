//! Reads the signature that an agent made with its placeholders: in `Authorization`, or in the query of a presigned
//! URL.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;

use super::SignError;
use super::aws_sigv4::EXPIRES_MAX;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const ASYMMETRIC: &str = "AWS4-ECDSA-P256-SHA256";

/// The most fields that a signature names.
const FIELDS_MAX: usize = 100;

/// The parts of a signature that are used again.
#[derive(Debug)]
pub(super) struct AgentSignature {
    pub(super) region: Box<str>,
    pub(super) service: Box<str>,
    pub(super) signed: Vec<HeaderName>,
    pub(super) place: Place,
}

/// Where the signature is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// In `Authorization`.
    Header,
    /// In the query, valid for a time from a date.
    Query { date: Timestamp, expires: Duration },
}

impl AgentSignature {
    /// The signature of a request, if it has one.
    pub(super) fn find(fields: &HeaderMap, query: Option<&str>) -> Result<Option<Self>, SignError> {
        if let Some(found) = Self::in_query(query.unwrap_or_default())? {
            return Ok(Some(found));
        }
        let value = fields.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match value.and_then(|value| value.split_once(' ')) {
            Some((ALGORITHM, parts)) => Self::in_field(parts).map(Some),
            Some((ASYMMETRIC, _)) => Err(SignError::Algorithm(ASYMMETRIC)),
            _ => Ok(None),
        }
    }

    fn in_field(parts: &str) -> Result<Self, SignError> {
        let (mut scope, mut signed) = (None, None);
        for part in parts.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", credential)) => scope = Some(scope_in(credential)?),
                Some(("SignedHeaders", names)) => signed = Some(names_in(names)),
                _ => {}
            }
        }
        let (region, service) = scope.ok_or(SignError::Unreadable("it has no `Credential`"))?;
        let signed = signed.ok_or(SignError::Unreadable("it has no `SignedHeaders`"))?;
        Ok(Self { region, service, signed, place: Place::Header })
    }

    fn in_query(query: &str) -> Result<Option<Self>, SignError> {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(other, _)| *other == name)?;
            Some(percent_decode_str(value).decode_utf8_lossy())
        };
        match value("X-Amz-Algorithm").as_deref() {
            None => return Ok(None),
            Some(ALGORITHM) => {}
            Some(ASYMMETRIC) => return Err(SignError::Algorithm(ASYMMETRIC)),
            Some(_) => return Err(SignError::Unreadable("`X-Amz-Algorithm` is not known")),
        }
        let missing = |what| move || SignError::Unreadable(what);
        let credential = value("X-Amz-Credential").ok_or_else(missing("no `X-Amz-Credential`"))?;
        let names = value("X-Amz-SignedHeaders").ok_or_else(missing("no `X-Amz-SignedHeaders`"))?;
        let date = value("X-Amz-Date").and_then(|date| date_of(&date));
        let expires = value("X-Amz-Expires").and_then(|seconds| seconds.parse().ok());
        let date = date.ok_or_else(missing("`X-Amz-Date` is no date"))?;
        let expires = expires.map(Duration::from_secs).filter(|time| *time <= EXPIRES_MAX);
        let expires = expires.ok_or_else(missing("`X-Amz-Expires` is not 0 to 604800"))?;
        let (region, service) = scope_in(&credential)?;
        let place = Place::Query { date, expires };
        Ok(Some(Self { region, service, signed: names_in(&names), place }))
    }
}

/// Region and service of `KEY/DATE/REGION/SERVICE/aws4_request`.
fn scope_in(credential: &str) -> Result<(Box<str>, Box<str>), SignError> {
    let mut parts = credential.rsplitn(5, '/');
    let is_word = |text: &&str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match (parts.next(), parts.next().filter(is_word), parts.next().filter(is_word)) {
        (Some("aws4_request"), Some(service), Some(region)) => Ok((region.into(), service.into())),
        _ => Err(SignError::Unreadable("its scope is not KEY/DATE/REGION/SERVICE/aws4_request")),
    }
}

fn names_in(list: &str) -> Vec<HeaderName> {
    let names = list.split(';').take(FIELDS_MAX);
    names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok()).collect()
}

fn date_of(text: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}
