//! Names and encodings that all signatures of AWS have.

use std::borrow::Cow;
use std::time::Duration;

use data_encoding::HEXLOWER;
use http::header::{self, HeaderName};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest, Sha256};

use crate::inject::names::DependentParameters;

/// SHA-256 of the body, or a word that says how it is signed.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html>
pub(super) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

pub(super) const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

pub(super) const DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// Fields that each signature writes; what the agent sent there is removed before.
pub const FIELDS: [HeaderName; 4] = [header::AUTHORIZATION, DATE, SECURITY_TOKEN, REGION_SET];

/// Parameters of a presigned URL.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
pub const PARAMETERS: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Region-Set",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Parameters of a presigned URL of Signature Version 2, which boto3 still makes for S3: such a request is signed in its
/// fields instead. Other APIs have parameters with the names of the last two.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#RESTAuthenticationQueryStringAuth>
pub const VERSION_2: DependentParameters = DependentParameters {
    on: "AWSAccessKeyId",
    names: &["AWSAccessKeyId", "Expires", "Signature"],
};

/// The names of S3 in signatures. S3 Tables, S3 Vectors and S3 Files are signed as other services.
/// <https://github.com/boto/botocore/blob/develop/botocore/handlers.py> (`S3_SIGNING_NAMES`)
const S3: [&str; 4] = ["s3", "s3express", "s3-object-lambda", "s3-outposts"];

/// Whether requests to the service are signed as S3 requires.
pub(super) fn is_s3(service: &str) -> bool {
    S3.contains(&service)
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

/// Characters of a path that are not encoded.
pub(super) const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

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

pub(super) const ALGORITHM: &str = "AWS4-ECDSA-P256-SHA256";

/// The regions, as names and patterns between commas.
pub(super) const REGION_SET: HeaderName = HeaderName::from_static("x-amz-region-set");
