//! AWS Signature Version 4A (`AWS4-ECDSA-P256-SHA256`), which is valid in a set of regions: for multi-region access points
//! of S3 and global endpoints of EventBridge. The feature of `aws-sigv4` that has it needs 17 further crates, among them a
//! second library of elliptic curves; here aws-lc signs, and the canonical requests are those of AWS's published suite.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::borrow::Cow;

use aws_credential_types::Credentials;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use data_encoding::HEXLOWER;
use http::header::{self, HeaderName, HeaderValue};
use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;
use zeroize::Zeroizing;

use super::aws_chunks::{ChunkKey, ChunkSigner};
use super::aws_names::{ALGORITHM, REGION_SET};
use super::aws_names::{
    CONTENT_SHA256, DATE, PATH, SECURITY_TOKEN, UNRESERVED, sha256_hex, stamp, with_parameters,
};
use super::aws_request::{AwsRequest, SignedAwsRequest, Unsigned};
use super::aws_signature::SignaturePlace;
use super::error::SignError;

/// The order of P-256 less two (FIPS 186-5, appendix A.2.2): candidates of keys are not above it.
const ORDER_LESS_TWO: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
    0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x4f,
];

/// An `ECPrivateKey` of P-256 (RFC 5915) around the 32 bytes of the key, without the public key.
const DER: (&[u8], &[u8]) = (
    &[0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20],
    &[0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
);

/// Signs a request for these regions.
///
/// # Errors
/// When a field cannot be signed.
pub(super) fn sign(
    keys: &Credentials,
    plan: &AwsRequest,
    regions: &str,
    request: Unsigned<'_>,
) -> Result<SignedAwsRequest, SignError> {
    let time = match plan.place {
        SignaturePlace::Header => request.now,
        SignaturePlace::Query { date, .. } => date,
    };
    let payload = plan.payload(request.body);
    let scope = format!("{}/{}/aws4_request", time.strftime("%Y%m%d"), plan.service);
    let credential = format!("{}/{scope}", keys.access_key_id());
    let mut covered = plan.covered(request.fields, request.authority)?;
    let own = match plan.place {
        SignaturePlace::Header => own_fields(keys, plan, regions, &payload, time),
        SignaturePlace::Query { .. } => Vec::new(),
    };
    covered.extend(own.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    covered.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    let names: Vec<&str> = covered.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let parameters = own_parameters(keys, plan, regions, &credential, &names);
    let target = with_parameters(request.path, &parameters);
    let canonical = Canonical {
        method: request.method,
        target: &plan.path.target(&target),
        is_encoded_once: plan.is_s3(),
        covered: &covered,
        names: &names,
        payload: &payload,
    };
    let hash = sha256_hex(canonical.text().as_bytes());
    let text = format!("{ALGORITHM}\n{}\n{scope}\n{hash}", stamp(time));
    let signature = signature(keys, text.as_bytes())?;
    if let SignaturePlace::Query { .. } = plan.place {
        let path = with_parameters(&target, &[("X-Amz-Signature", signature.into())]);
        return Ok(SignedAwsRequest { path: Some(path), chunks: None });
    }
    let value = format!(
        "{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    );
    for (name, value) in own.into_iter().chain([(header::AUTHORIZATION, value)]) {
        let mut value = HeaderValue::from_str(&value).map_err(|_| SignError::Unsignable)?;
        value.set_sensitive([header::AUTHORIZATION, SECURITY_TOKEN].contains(&name));
        request.fields.insert(name, value);
    }
    let chunks = plan.asymmetric_trailer().map(|trailer| -> Result<_, SignError> {
        let key = ChunkKey::Ecdsa(Box::new(key_pair(keys)?));
        Ok(ChunkSigner::new(key, stamp(time), scope, signature, trailer))
    });
    Ok(SignedAwsRequest { path: None, chunks: chunks.transpose()? })
}

/// The fields that a signature in `Authorization` adds and covers.
fn own_fields(
    keys: &Credentials,
    plan: &AwsRequest,
    regions: &str,
    payload: &str,
    time: Timestamp,
) -> Vec<(HeaderName, String)> {
    let mut own = vec![(DATE, stamp(time)), (REGION_SET, regions.to_owned())];
    if plan.declares_payload() {
        own.push((CONTENT_SHA256, payload.to_owned()));
    }
    own.extend(keys.session_token().map(|token| (SECURITY_TOKEN, token.to_owned())));
    own
}

/// The parameters that a presigned URL has beside its signature.
fn own_parameters(
    keys: &Credentials,
    plan: &AwsRequest,
    regions: &str,
    credential: &str,
    names: &str,
) -> Vec<(&'static str, Cow<'static, str>)> {
    let SignaturePlace::Query { date, expires } = &plan.place else { return Vec::new() };
    let mut parameters = vec![
        ("X-Amz-Algorithm", Cow::Borrowed(ALGORITHM)),
        ("X-Amz-Credential", credential.to_owned().into()),
        ("X-Amz-Date", stamp(*date).into()),
        ("X-Amz-Expires", expires.as_secs().to_string().into()),
        ("X-Amz-Region-Set", regions.to_owned().into()),
        ("X-Amz-SignedHeaders", names.to_owned().into()),
    ];
    let token = keys.session_token();
    parameters.extend(token.map(|token| ("X-Amz-Security-Token", token.to_owned().into())));
    parameters
}

/// What the signature covers.
struct Canonical<'a> {
    method: &'a str,
    /// Path and query, without the signature: those of [`SignedPath`](super::aws_request::SignedPath).
    target: &'a str,
    /// Whether the path is encoded as it is signed, as for S3.
    is_encoded_once: bool,
    /// In order of the names.
    covered: &'a [(HeaderName, Box<str>)],
    /// The names, between semicolons.
    names: &'a str,
    payload: &'a str,
}

impl Canonical<'_> {
    fn text(&self) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let path = match self.is_encoded_once {
            true => path.to_owned(),
            false => utf8_percent_encode(&without_dots(path), PATH).to_string(),
        };
        let encoded = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let mut pairs: Vec<_> =
            pairs.map(|(name, value)| (encoded(&name), encoded(&value))).collect();
        pairs.sort();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let lines = self.covered.iter().map(|(name, value)| {
            let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
            format!("{name}:{}\n", words.join(" "))
        });
        let lines: String = lines.collect();
        let Self { method, names, payload, .. } = self;
        format!("{method}\n{path}\n{}\n{lines}\n{names}\n{payload}", pairs.join("&"))
    }
}

/// A path without empty segments and those of dots (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let is_folder = !kept.is_empty() && ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    format!("/{}{}", kept.join("/"), if is_folder { "/" } else { "" })
}

/// The signature of `text`, in hexadecimal digits. It is another one each time.
fn signature(keys: &Credentials, text: &[u8]) -> Result<String, SignError> {
    let made = key_pair(keys)?.sign(&SystemRandom::new(), text).map_err(|_| SignError::Random)?;
    Ok(HEXLOWER.encode(made.as_ref()))
}

fn key_pair(keys: &Credentials) -> Result<EcdsaKeyPair, SignError> {
    let (before, after) = DER;
    let scalar = scalar(keys.access_key_id(), keys.secret_access_key())?;
    let der = Zeroizing::new([before, &*scalar, after].concat());
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der);
    pair.map_err(|_| SignError::Unsignable)
}

/// The private key that belongs to an access key: `K = HMAC-SHA256("AWS4A" ‖ secret, 1 ‖ label ‖ 0 ‖ id ‖ counter ‖ 256)`
/// (NIST SP 800-108, counter mode), and one is added to the first `K` that is not above the order less two.
fn scalar(id: &str, secret: &str) -> Result<Zeroizing<[u8; 32]>, SignError> {
    let key = Zeroizing::new([b"AWS4A", secret.as_bytes()].concat());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    for counter in 1..=u8::MAX {
        let mut context = hmac::Context::with_key(&key);
        context.update(&1_u32.to_be_bytes());
        context.update(ALGORITHM.as_bytes());
        context.update(&[0]);
        context.update(id.as_bytes());
        context.update(&[counter]);
        context.update(&256_u32.to_be_bytes());
        let mut candidate = Zeroizing::new([0; 32]);
        candidate.copy_from_slice(context.sign().as_ref());
        if *candidate <= ORDER_LESS_TWO {
            // It cannot overflow: the order is below 2^256.
            for byte in candidate.iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
            return Ok(candidate);
        }
    }
    Err(SignError::Unsignable)
}
