//! AWS Signature Version 4, by the `aws-sigv4` crate; Version 4A is in `aws_ecdsa`. The scope, the signed fields and the way in which the body is
//! signed are those of the agent's own signature; keys and date are ours.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    self, PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest,
    SignatureLocation, SigningSettings, UriPathNormalizationMode,
};
use aws_sigv4::sign::v4;
use data_encoding::HEXLOWER;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::SignError;
use super::aws_action;
use super::aws_chunks::{ChunkKey, ChunkSigner};
use super::aws_ecdsa;
use super::aws_host::{multi_region_service, scope_of};
use super::aws_payload::Payload;
use super::aws_signature::{AgentSignature, Place, Regions};
use keyward_base::secret::Secret;

/// SHA-256 of the body, or a word that says how it is signed.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html>
pub(super) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
pub(super) const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
pub(super) const DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// Fields that each signature writes; what the agent sent there is removed before.
pub const FIELDS: [HeaderName; 4] =
    [header::AUTHORIZATION, DATE, SECURITY_TOKEN, aws_ecdsa::REGION_SET];

/// Parameters of a presigned URL, also of Signature Version 2, which boto3 still makes for S3: such a request is
/// signed in its fields instead.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#RESTAuthenticationQueryStringAuth>
pub const PARAMETERS: [&str; 11] = [
    "AWSAccessKeyId",
    "Expires",
    "Signature",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Region-Set",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Keys of an account, permanent or temporary.
#[derive(Debug)]
pub struct AwsKeys {
    /// The id, which each signature names.
    pub access_key_id: Secret,
    /// The key that signs.
    pub secret_access_key: Secret,
    /// Sent with the signatures of temporary keys.
    pub session_token: Option<Secret>,
    /// The region of requests that the agent does not sign.
    pub region: Option<Box<str>>,
    /// The service of requests that the agent does not sign.
    pub service: Option<Box<str>>,
}

/// What a request's signature covers.
#[derive(Debug)]
pub struct AwsRequest {
    regions: Regions,
    pub(super) service: Box<str>,
    /// The fields that the agent signed; empty if it signed nothing.
    signed: Vec<HeaderName>,
    pub(super) place: Place,
    payload: Payload,
}

/// A request without signature: what the upstream will receive.
#[derive(Debug)]
pub struct Unsigned<'a> {
    /// The method.
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
pub struct Signed {
    /// The new path and query, if the signature is in the query.
    pub path: Option<String>,
    /// Signs the chunks of the body.
    pub chunks: Option<ChunkSigner>,
}

impl AwsKeys {
    /// Reads the agent's signature in the head of a request to `host`.
    ///
    /// # Errors
    /// When it cannot be read, is of another algorithm, or nothing names region and service.
    pub fn read(
        &self,
        host: &str,
        fields: &HeaderMap,
        query: Option<&str>,
    ) -> Result<AwsRequest, SignError> {
        let agents = AgentSignature::find(fields, query)?;
        let AgentSignature { regions, service, signed, place } = match agents {
            Some(found) => found,
            None => self.unsigned(host)?,
        };
        let payload = Payload::of(fields, &service, &place)?;
        if matches!(
            (&regions, &payload),
            (Regions::Set(_), Payload::Chunks { .. })
                | (Regions::One(_), Payload::AsymmetricChunks { .. })
        ) {
            return Err(SignError::Unreadable("its chunks are signed by another version"));
        }
        Ok(AwsRequest { regions, service, signed, place, payload })
    }

    /// What is signed for an agent that does not sign: for what the connection names, or else the host.
    fn unsigned(&self, host: &str) -> Result<AgentSignature, SignError> {
        let (signed, place) = (Vec::new(), Place::Header);
        if let Some(service) = multi_region_service(host) {
            let (regions, service) = (Regions::Set("*".into()), service.into());
            return Ok(AgentSignature { regions, service, signed, place });
        }
        let named = scope_of(host);
        let region = self.region.as_deref().or(named.map(|(region, _)| region));
        let service = self.service.as_deref().or(named.map(|(_, service)| service));
        let (Some(region), Some(service)) = (region, service) else {
            return Err(SignError::NoScope);
        };
        let (regions, service) = (Regions::One(region.into()), service.into());
        Ok(AgentSignature { regions, service, signed, place })
    }

    /// Signs a request of an agent.
    ///
    /// # Errors
    /// When a field cannot be signed, or the answer would contain credentials.
    pub fn sign(&self, plan: &AwsRequest, request: Unsigned<'_>) -> Result<Signed, SignError> {
        aws_action::check(&plan.service, request.path, request.body)?;
        self.sign_own(plan, request)
    }

    /// Signs a request of Keyward itself, whose answer no agent gets.
    ///
    /// # Errors
    /// When a field cannot be signed.
    pub fn sign_own(&self, plan: &AwsRequest, request: Unsigned<'_>) -> Result<Signed, SignError> {
        match &plan.regions {
            Regions::One(region) => self.sign_in_region(plan, region, request),
            Regions::Set(regions) => aws_ecdsa::sign(&self.credentials()?, plan, regions, request),
        }
    }

    fn sign_in_region(
        &self,
        plan: &AwsRequest,
        region: &str,
        request: Unsigned<'_>,
    ) -> Result<Signed, SignError> {
        let time = SystemTime::from(match plan.place {
            Place::Header => request.now,
            Place::Query { date, .. } => date,
        });
        let payload = plan.payload.value(request.body);
        let uri = format!("https://{}{}", request.authority, request.path);
        let covered = plan.covered(request.fields, request.authority)?;
        let covered = covered.iter().map(|(name, value)| (name.as_str(), &**value));
        let body = SignableBody::Precomputed(payload.into_owned());
        let signable = SignableRequest::new(request.method, uri, covered, body);
        let identity = self.credentials()?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(&plan.service)
            .time(time)
            .settings(plan.settings())
            .build()
            .map_err(|_| SignError::Unsignable)?
            .into();
        let signed = http_request::sign(signable.map_err(|_| SignError::Unsignable)?, &params);
        let (instructions, signature) = signed.map_err(|_| SignError::Unsignable)?.into_parts();
        for (name, value) in instructions.headers() {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| SignError::Unsignable)?;
            let mut value = HeaderValue::from_str(value).map_err(|_| SignError::Unsignable)?;
            value.set_sensitive(name != CONTENT_SHA256 && name != DATE);
            request.fields.insert(name, value);
        }
        let path = (!instructions.params().is_empty())
            .then(|| with_parameters(request.path, instructions.params()));
        let chunks = match plan.payload {
            Payload::Chunks { trailer } => {
                let (key, scope) = self.chunk_key(region, &plan.service, time)?;
                let date = Timestamp::try_from(time).map_err(|_| SignError::Unsignable)?;
                Some(ChunkSigner::new(ChunkKey::Hmac(key), stamp(date), scope, signature, trailer))
            }
            _ => None,
        };
        Ok(Signed { path, chunks })
    }

    /// The key that signs chunks, and its scope.
    fn chunk_key(
        &self,
        region: &str,
        service: &str,
        time: SystemTime,
    ) -> Result<(Zeroizing<Vec<u8>>, String), SignError> {
        let secret = self.secret_access_key.expose_text().ok_or(SignError::Unsignable)?;
        let key = v4::generate_signing_key(secret, time, region, service);
        let time = Timestamp::try_from(time).map_err(|_| SignError::Unsignable)?;
        let scope = format!("{}/{region}/{service}/aws4_request", time.strftime("%Y%m%d"));
        Ok((Zeroizing::new(key.as_ref().to_vec()), scope))
    }

    pub(super) fn credentials(&self) -> Result<Credentials, SignError> {
        let text = |secret: &Secret| secret.expose_text().map(str::to_owned);
        let (id, key) = (text(&self.access_key_id), text(&self.secret_access_key));
        let (Some(id), Some(key)) = (id, key) else { return Err(SignError::Unsignable) };
        let token = match &self.session_token {
            Some(token) => Some(text(token).ok_or(SignError::Unsignable)?),
            None => None,
        };
        Ok(Credentials::new(id, key, token, None, "keyward"))
    }
}

impl AwsRequest {
    /// Whether the body must be read before the request is signed.
    pub fn needs_body(&self) -> bool {
        self.payload == Payload::Whole
    }

    /// If chunks are signed by Version 4A: whether a trailer follows them.
    pub(super) const fn asymmetric_trailer(&self) -> Option<bool> {
        match self.payload {
            Payload::AsymmetricChunks { trailer } => Some(trailer),
            _ => None,
        }
    }

    fn settings(&self) -> SigningSettings {
        let mut settings = SigningSettings::default();
        // What is covered is chosen before.
        settings.excluded_headers = None;
        if self.is_s3() {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        match self.place {
            Place::Header if self.declares_payload() => {
                settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            }
            Place::Header => {}
            Place::Query { expires, .. } => {
                settings.signature_location = SignatureLocation::QueryParams;
                settings.expires_in = Some(expires);
            }
        }
        settings
    }

    pub(super) fn is_s3(&self) -> bool {
        self.service.starts_with("s3")
    }

    pub(super) fn declares_payload(&self) -> bool {
        self.is_s3() || self.payload != Payload::Whole
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
        let is_header = matches!(self.place, Place::Header);
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

/// A time as signatures have it.
pub(super) fn stamp(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// SHA-256 in lower-case hexadecimal digits.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Characters that are not encoded: RFC 3986 §2.3.
pub(super) const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn with_parameters(path: &str, parameters: &[(&str, Cow<'static, str>)]) -> String {
    let mut path = path.to_owned();
    for (name, value) in parameters {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(name);
        path.push('=');
        path.extend(percent_encode(value.as_bytes(), UNRESERVED));
    }
    path
}

/// The longest validity of a presigned URL: seven days.
pub(super) const EXPIRES_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
