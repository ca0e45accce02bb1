//! A request that is signed for AWS: what its signature covers, its parts before, and what signing adds. [`SignedPath`]
//! is the path that a signature covers, which S3 derives from the object key in place of the path on the wire;
//! [`AwsPayload`] is how the body is signed, by `x-amz-content-sha256`. `aws_credential_actions.tsv` has the actions
//! whose answers contain credentials.

use std::borrow::Cow;
use std::sync::LazyLock;

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignatureLocation, SigningSettings,
    UriPathNormalizationMode,
};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use percent_encoding::{percent_decode_str, percent_encode};

use super::aws_chunks::ChunkSigner;
use super::aws_names::{CONTENT_SHA256, PATH, is_s3, sha256_hex};
use super::aws_signature::{Regions, SignaturePlace};
use super::error::SignError;
use crate::aws_host::is_of_aws;
use keyward_base::pattern::{DecodedPath, LetterCase, PathPattern};

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const CHUNKS_AND_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const ECDSA_CHUNKS: &str = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD";
const ECDSA_CHUNKS_AND_TRAILER: &str = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_CHUNKS: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

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

/// How the path on the wire becomes the one that the signature covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SignedPath {
    /// As it is on the wire; the signer encodes it once more.
    Sent,
    /// Decoded, and encoded as S3 encodes keys of objects.
    Recoded,
    /// The same, with `+` as a space. The S3 of AWS reads it so; compatible services do not.
    /// <https://github.com/aws/aws-sdk-net/pull/4473>
    RecodedWithSpaces,
}

impl SignedPath {
    /// That of requests to a service at a host.
    pub(super) fn of(service: &str, host: &str) -> Self {
        match (is_s3(service), is_of_aws(host)) {
            (false, _) => Self::Sent,
            (true, false) => Self::Recoded,
            (true, true) => Self::RecodedWithSpaces,
        }
    }

    /// The path and query that are signed for those on the wire.
    pub(super) fn target(self, sent: &str) -> Cow<'_, str> {
        let (path, query) = sent.split_at(sent.find('?').unwrap_or(sent.len()));
        let path = match self {
            Self::Sent => return Cow::Borrowed(sent),
            Self::Recoded => Cow::Borrowed(path),
            Self::RecodedWithSpaces => Cow::Owned(path.replace('+', "%20")),
        };
        let key: Vec<u8> = percent_decode_str(&path).collect();
        format!("{}{query}", percent_encode(&key, PATH)).into()
    }
}

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
        if reads_body(service) {
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

/// An action whose answer contains credentials.
pub(super) struct CredentialAction {
    service: &'static str,
    pub(super) name: &'static str,
    route: Route,
}

/// Where requests name the action, beside `X-Amz-Target`, `?Action=` and the path of CBOR, which are read for all services.
enum Route {
    /// The parameter `Action` of the body, which has to be whole.
    Body,
    /// Nowhere else.
    None,
    /// Method and path, and a parameter if the path has several actions.
    Rest { method: &'static str, path: PathPattern, parameter: Option<&'static str> },
}

static ACTIONS: LazyLock<Vec<CredentialAction>> = LazyLock::new(|| {
    let lines = include_str!("aws_credential_actions.tsv").lines();
    let rows = lines.filter(|line| !line.starts_with('#'));
    rows.map(|row| CredentialAction::read(row).expect("the table is sound: a test reads it"))
        .collect()
});

impl CredentialAction {
    fn read(row: &'static str) -> Option<Self> {
        let mut columns = row.split('\t');
        let (service, name) = (columns.next()?, columns.next()?);
        let route = match columns.next()? {
            "query" => Route::Body,
            "-" => Route::None,
            route => {
                let (method, target) = route.split_once(' ')?;
                let (path, parameter) = target
                    .split_once('?')
                    .map_or((target, None), |(path, name)| (path, Some(name)));
                Route::Rest { method, path: PathPattern::parse(path).ok()?, parameter }
            }
        };
        Some(Self { service, name, route })
    }

    /// Whether the request is of the route, by its method, path and parameters.
    pub(super) fn has_route(
        &self,
        method: &str,
        path: &DecodedPath,
        has_parameter: impl Fn(&str) -> bool,
    ) -> bool {
        let Route::Rest { method: named, path: pattern, parameter } = &self.route else {
            return false;
        };
        named.eq_ignore_ascii_case(method)
            && pattern.may_match(path, LetterCase::Ignored)
            && parameter.is_none_or(has_parameter)
    }
}

/// The actions of a service, by its name in signatures or `s3-control`.
pub(super) fn actions_of<'a>(
    service: &'a str,
) -> impl Iterator<Item = &'static CredentialAction> + 'a {
    ACTIONS.iter().filter(move |action| action.service == service)
}

/// Whether the action of requests to `service` is in their bodies.
pub(super) fn reads_body(service: &str) -> bool {
    actions_of(service).any(|action| matches!(action.route, Route::Body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_signs_the_path_that_it_encodes_itself() {
        let aws = SignedPath::of("s3", "bkt.s3.amazonaws.com");
        let compatible = SignedPath::of("s3", "minio.corp.example");
        let cases = [
            ("/", "/"),
            ("/a%20b/%C3%A4?x=%7e&y=a+b", "/a%20b/%C3%A4?x=%7e&y=a+b"),
            ("/year=2024/f(1)@x:y,~z.txt", "/year%3D2024/f%281%29%40x%3Ay%2C~z.txt"),
            ("/%e4%2f%7Ea%2Bb", "/%E4/~a%2Bb"),
            ("//a/../b%252F/", "//a/../b%252F/"),
        ];
        for (sent, signed) in cases {
            assert_eq!(aws.target(sent), signed, "{sent}");
            assert_eq!(compatible.target(sent), signed, "{sent}");
            assert_eq!(SignedPath::of("s3tables", "s3.amazonaws.com").target(sent), sent);
        }
        assert_eq!(aws.target("/a+b?c+d"), "/a%20b?c+d");
        assert_eq!(compatible.target("/a+b?c+d"), "/a%2Bb?c+d");
    }
}
