//! [`AwsPayload`]: how the body of a request to AWS is signed, by `x-amz-content-sha256`.

use std::borrow::Cow;

use http::header::HeaderMap;

use super::aws_credential_actions;
use super::aws_names::{CONTENT_SHA256, is_s3, sha256_hex};
use super::aws_signature::SignaturePlace;
use super::error::SignError;

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const CHUNKS_AND_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const ECDSA_CHUNKS: &str = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD";
const ECDSA_CHUNKS_AND_TRAILER: &str = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_CHUNKS: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// How the body is signed.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum AwsPayload {
    /// By this value of `x-amz-content-sha256`: the body's hash, or a word for none.
    Declared(Box<str>),
    /// By its hash, which nothing declares.
    Whole,
    /// Each chunk carries a signature, and so does a trailer.
    Chunks { trailer: bool },
    /// The same by Version 4A.
    AsymmetricChunks { trailer: bool },
}

impl AwsPayload {
    /// What the request's fields say.
    ///
    /// # Errors
    /// When they say it in a way that is not known.
    pub(super) fn of(
        fields: &HeaderMap,
        service: &str,
        place: &SignaturePlace,
    ) -> Result<Self, SignError> {
        if aws_credential_actions::reads_body(service) {
            return Ok(Self::Whole);
        }
        let declared = fields.get(&CONTENT_SHA256).and_then(|value| value.to_str().ok());
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let in_header = matches!(place, SignaturePlace::Header);
        match declared {
            None if is_unsigned_by_default(service, in_header) => {
                Ok(Self::Declared(UNSIGNED.into()))
            }
            None => Ok(Self::Whole),
            Some(CHUNKS) if in_header => Ok(Self::Chunks { trailer: false }),
            Some(CHUNKS_AND_TRAILER) if in_header => Ok(Self::Chunks { trailer: true }),
            Some(ECDSA_CHUNKS) if in_header => Ok(Self::AsymmetricChunks { trailer: false }),
            Some(ECDSA_CHUNKS_AND_TRAILER) if in_header => {
                Ok(Self::AsymmetricChunks { trailer: true })
            }
            Some(text) if is_hash(text) || [UNSIGNED, UNSIGNED_CHUNKS].contains(&text) => {
                Ok(Self::Declared(text.into()))
            }
            Some("STREAMING-AWS4-HMAC-SHA256-EVENTS") => {
                Err(SignError::Algorithm("an event stream's signature"))
            }
            Some(_) => Err(SignError::Unreadable("`x-amz-content-sha256` is not known")),
        }
    }

    /// The value that is signed for the body.
    pub(super) fn value(&self, body: Option<&[u8]>) -> Cow<'_, str> {
        match self {
            Self::Declared(text) => Cow::Borrowed(text),
            Self::Chunks { trailer: false } => Cow::Borrowed(CHUNKS),
            Self::Chunks { trailer: true } => Cow::Borrowed(CHUNKS_AND_TRAILER),
            Self::AsymmetricChunks { trailer: false } => Cow::Borrowed(ECDSA_CHUNKS),
            Self::AsymmetricChunks { trailer: true } => Cow::Borrowed(ECDSA_CHUNKS_AND_TRAILER),
            Self::Whole => Cow::Owned(sha256_hex(body.unwrap_or_default())),
        }
    }
}

/// Whether a body that nothing declares is not signed: that of a presigned URL of S3, and of requests to its buckets. The
/// control API of `s3-outposts` requires the hash in a header field, as other services do; its buckets accept it.
fn is_unsigned_by_default(service: &str, in_header: bool) -> bool {
    match in_header {
        true => ["s3", "s3express"].contains(&service),
        false => is_s3(service),
    }
}
