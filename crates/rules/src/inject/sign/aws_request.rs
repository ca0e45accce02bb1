//! A request that is signed for AWS: what its signature covers, its parts before, and what signing adds.

use std::borrow::Cow;

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignatureLocation, SigningSettings,
    UriPathNormalizationMode,
};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::aws_chunks::ChunkSigner;
use super::aws_names::is_s3;
use super::aws_path::SignedPath;
use super::aws_payload::AwsPayload;
use super::aws_signature::{Regions, SignaturePlace};
use super::error::SignError;

/// What a request's signature covers.
#[derive(Debug)]
pub struct AwsRequest {
    pub(super) regions: Regions,
    pub(super) service: Box<str>,
    /// The fields that the agent signed; empty if it signed nothing.
    pub(super) signed: Vec<HeaderName>,
    pub(super) place: SignaturePlace,
    pub(super) path: SignedPath,
    pub(super) payload: AwsPayload,
}

/// A request without signature: what the upstream will receive.
#[derive(Debug)]
pub struct Unsigned<'a> {
    pub method: &'a str,
    /// Host and port, as in `Host`.
    pub authority: &'a str,
    /// Path and query, as on the wire.
    pub path: &'a str,
    /// The fields; the signature is added to them.
    pub fields: &'a mut HeaderMap,
    /// The body, if [`AwsRequest::needs_body`].
    pub body: Option<&'a [u8]>,
    /// The time of the signature.
    pub now: Timestamp,
}

/// What is left to do after a request was signed.
#[derive(Debug, Default)]
pub struct SignedAwsRequest {
    /// The new path and query, if the signature is in the query.
    pub path: Option<String>,
    /// Signs the chunks of the body.
    pub chunks: Option<ChunkSigner>,
}

impl AwsRequest {
    /// Whether the body must be read before the request is signed.
    pub fn needs_body(&self) -> bool {
        self.payload == AwsPayload::Whole
    }

    /// If chunks are signed by Version 4A: whether a trailer follows them.
    pub(super) const fn asymmetric_trailer(&self) -> Option<bool> {
        match self.payload {
            AwsPayload::AsymmetricChunks { trailer } => Some(trailer),
            _ => None,
        }
    }

    pub(super) fn settings(&self) -> SigningSettings {
        let mut settings = SigningSettings::default();
        // What is covered is chosen before.
        settings.excluded_headers = None;
        if self.is_s3() {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        match self.place {
            SignaturePlace::Header if self.declares_payload() => {
                settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            }
            SignaturePlace::Header => {}
            SignaturePlace::Query { expires, .. } => {
                settings.signature_location = SignatureLocation::QueryParams;
                settings.expires_in = Some(expires);
            }
        }
        settings
    }

    pub(super) fn is_s3(&self) -> bool {
        is_s3(&self.service)
    }

    pub(super) fn declares_payload(&self) -> bool {
        self.is_s3() || self.payload != AwsPayload::Whole
    }

    /// The value that is signed for the body.
    pub(super) fn payload(&self, body: Option<&[u8]>) -> Cow<'_, str> {
        self.payload.value(body)
    }

    /// Names and values of the fields that are signed, beside those that the signature adds.
    pub(super) fn covered(
        &self,
        fields: &HeaderMap,
        authority: &str,
    ) -> Result<Vec<(HeaderName, Box<str>)>, SignError> {
        let is_header = matches!(self.place, SignaturePlace::Header);
        let is_wanted = |name: &HeaderName| match name.as_str() {
            "host" => false,
            "x-amz-content-sha256" => !is_header && self.signed.contains(name),
            text if is_header && text.starts_with("x-amz-") => true,
            _ if self.signed.is_empty() => *name == header::CONTENT_TYPE,
            _ => self.signed.contains(name),
        };
        let mut covered = vec![(header::HOST, authority.into())];
        for name in fields.keys().filter(|name| is_wanted(name)) {
            let values: Result<Vec<&str>, _> =
                fields.get_all(name).iter().map(HeaderValue::to_str).collect();
            let joined = values.map_err(|_| SignError::Unsignable)?.join(",");
            covered.push((name.clone(), joined.into()));
        }
        Ok(covered)
    }
}
