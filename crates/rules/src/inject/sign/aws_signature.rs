//! Reads the signature that an agent made with its placeholders: in `Authorization`, or in the query of a presigned
//! URL.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use percent_encoding::percent_decode_str;

use super::aws_names;
use super::aws_names::EXPIRES_MAX;
use super::error::SignError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The most fields that a signature names.
const FIELDS_MAX: usize = 100;

/// The longest set of regions: AWS has fewer than 40.
const REGION_SET_BYTES_MAX: usize = 1024;

/// The parts of a signature that are used again.
#[derive(Debug)]
pub(super) struct AgentSignature {
    pub(super) regions: Regions,
    pub(super) service: Box<str>,
    pub(super) signed: Vec<HeaderName>,
    pub(super) place: SignaturePlace,
}

/// Where a signature is valid, which decides its algorithm.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Regions {
    /// In this region: Signature Version 4.
    One(Box<str>),
    /// In the regions of a list with patterns, such as `us-*,eu-west-1`: Signature Version 4A.
    Set(Box<str>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SignaturePlace {
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
            Some((ALGORITHM, parts)) => Self::in_field(parts, scope_in).map(Some),
            Some((aws_names::ALGORITHM, parts)) => {
                let set = fields.get(&aws_names::REGION_SET).and_then(|value| value.to_str().ok());
                Self::in_field(parts, |credential| scope_of_set(credential, set)).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn in_field(
        parts: &str,
        scope_in: impl Fn(&str) -> Result<Scope, SignError>,
    ) -> Result<Self, SignError> {
        let (mut scope, mut signed) = (None, None);
        for part in parts.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", credential)) => scope = Some(scope_in(credential)?),
                Some(("SignedHeaders", names)) => signed = Some(names_in(names)),
                _ => {}
            }
        }
        let Scope { regions, service } =
            scope.ok_or(SignError::Unreadable("it has no `Credential`"))?;
        let signed = signed.ok_or(SignError::Unreadable("it has no `SignedHeaders`"))?;
        Ok(Self { regions, service, signed, place: SignaturePlace::Header })
    }

    fn in_query(query: &str) -> Result<Option<Self>, SignError> {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(other, _)| *other == name)?;
            Some(percent_decode_str(value).decode_utf8_lossy())
        };
        let is_for_set = match value("X-Amz-Algorithm").as_deref() {
            None => return Ok(None),
            Some(ALGORITHM) => false,
            Some(aws_names::ALGORITHM) => true,
            Some(_) => return Err(SignError::Unreadable("`X-Amz-Algorithm` is not known")),
        };
        let missing = |what| move || SignError::Unreadable(what);
        let credential = value("X-Amz-Credential").ok_or_else(missing("no `X-Amz-Credential`"))?;
        let names = value("X-Amz-SignedHeaders").ok_or_else(missing("no `X-Amz-SignedHeaders`"))?;
        let date = value("X-Amz-Date").and_then(|date| date_of(&date));
        let expires = value("X-Amz-Expires").and_then(|seconds| seconds.parse().ok());
        let date = date.ok_or_else(missing("`X-Amz-Date` is no date"))?;
        let expires = expires.map(Duration::from_secs).filter(|time| *time <= EXPIRES_MAX);
        let expires = expires.ok_or_else(missing("`X-Amz-Expires` is not 0 to 604800"))?;
        let Scope { regions, service } = match is_for_set {
            true => scope_of_set(&credential, value("X-Amz-Region-Set").as_deref())?,
            false => scope_in(&credential)?,
        };
        let place = SignaturePlace::Query { date, expires };
        Ok(Some(Self { regions, service, signed: names_in(&names), place }))
    }
}

/// The regions and the service of a signature.
struct Scope {
    regions: Regions,
    service: Box<str>,
}

/// Region and service of `KEY/DATE/REGION/SERVICE/aws4_request`.
fn scope_in(credential: &str) -> Result<Scope, SignError> {
    let mut parts = credential.rsplitn(5, '/');
    match (parts.next(), parts.next().filter(is_word), parts.next().filter(is_word)) {
        (Some("aws4_request"), Some(service), Some(region)) => {
            Ok(Scope { regions: Regions::One(region.into()), service: service.into() })
        }
        _ => Err(SignError::Unreadable("its scope is not KEY/DATE/REGION/SERVICE/aws4_request")),
    }
}

/// The service of `KEY/DATE/SERVICE/aws4_request`, with the regions that stand beside it.
fn scope_of_set(credential: &str, set: Option<&str>) -> Result<Scope, SignError> {
    let mut parts = credential.rsplitn(4, '/');
    let (Some("aws4_request"), Some(service)) = (parts.next(), parts.next().filter(is_word)) else {
        return Err(SignError::Unreadable("its scope is not KEY/DATE/SERVICE/aws4_request"));
    };
    let is_set = |set: &&str| {
        (1..=REGION_SET_BYTES_MAX).contains(&set.len())
            && set.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'*' | b','))
    };
    let set = set.filter(is_set).ok_or(SignError::Unreadable("it has no `X-Amz-Region-Set`"))?;
    Ok(Scope { regions: Regions::Set(set.into()), service: service.into() })
}

fn is_word(text: &&str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn names_in(list: &str) -> Vec<HeaderName> {
    let names = list.split(';').take(FIELDS_MAX);
    names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok()).collect()
}

fn date_of(text: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}
