//! OAuth 1.0a (RFC 5849): requests that are signed with the secrets of a client and of a token that the owner has. The
//! parameters go into `Authorization`; those that the agent sent in any place are removed and not signed.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::error::SignError;
use super::hmac::HmacAlgorithm;
use super::message::{MessageValues, RequestParts};

/// RFC 5849 §3.6.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parameters of the protocol; those of the agent are removed from queries.
pub const PARAMETERS: [&str; 8] = [
    "oauth_consumer_key",
    "oauth_nonce",
    "oauth_signature",
    "oauth_signature_method",
    "oauth_timestamp",
    "oauth_token",
    "oauth_version",
    "oauth_body_hash",
];

/// How requests are signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OAuth1Scheme {
    pub algorithm: HmacAlgorithm,
    /// Whether a field `realm` goes first.
    pub has_realm: bool,
}

impl OAuth1Scheme {
    /// Whether the body of this request is part of the signature: a form (RFC 5849 §3.4.1.3.1).
    pub fn needs_body(fields: &http::HeaderMap) -> bool {
        let kind = fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|text| text.split(';').next()).unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
    }

    /// The value of `Authorization`.
    ///
    /// # Errors
    /// When a field is missing.
    pub fn sign(&self, values: &MessageValues<'_>) -> Result<String, SignError> {
        self.sign_with(values, None)
    }

    /// The same with another parameter of the protocol, such as `oauth_callback` (RFC 5849 §2).
    ///
    /// # Errors
    /// When a field is missing.
    pub fn sign_with(
        &self,
        values: &MessageValues<'_>,
        more: Option<(&str, &str)>,
    ) -> Result<String, SignError> {
        let request = values.request.ok_or(SignError::Unsignable)?;
        let field = |name: &str| {
            let value = values.fields.get(name).ok_or(SignError::FieldMissing)?;
            value.expose_text().ok_or(SignError::Unsignable)
        };
        let seconds = values.now.as_second().to_string();
        let mut own = vec![
            ("oauth_consumer_key", field("consumer_key")?),
            ("oauth_nonce", values.nonce),
            ("oauth_signature_method", self.method()),
            ("oauth_timestamp", &seconds),
            ("oauth_version", "1.0"),
        ];
        if values.fields.contains_key("token") {
            own.push(("oauth_token", field("token")?));
        }
        own.extend(more);
        let token_secret =
            if values.fields.contains_key("token_secret") { field("token_secret")? } else { "" };
        // RFC 5849 §3.4.2.
        let key = Zeroizing::new(format!(
            "{}&{}",
            encoded(field("consumer_secret")?),
            encoded(token_secret)
        ));
        let base = base_string(&request, &own);
        let signature = STANDARD.encode(self.algorithm.sign(key.as_bytes(), base.as_bytes()));
        own.push(("oauth_signature", &signature));
        let pairs = own.iter().map(|(name, value)| format!("{name}=\"{}\"", encoded(value)));
        let mut pairs: Vec<String> = pairs.collect();
        if self.has_realm {
            pairs.insert(0, format!("realm=\"{}\"", field("realm")?.replace(['"', '\\'], "")));
        }
        Ok(format!("OAuth {}", pairs.join(", ")))
    }

    fn method(&self) -> &'static str {
        match self.algorithm {
            HmacAlgorithm::Sha1 => "HMAC-SHA1",
            HmacAlgorithm::Sha256 => "HMAC-SHA256",
            HmacAlgorithm::Sha384 => "HMAC-SHA384",
            HmacAlgorithm::Sha512 => "HMAC-SHA512",
        }
    }
}

/// RFC 5849 §3.4.1.
fn base_string(request: &RequestParts<'_>, own: &[(&str, &str)]) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let mut pairs: Vec<(String, String)> =
        own.iter().map(|(name, value)| (encoded(name), encoded(value))).collect();
    pairs.extend(parsed(query.as_bytes()));
    if OAuth1Scheme::needs_body(request.headers) {
        pairs.extend(parsed(request.body));
    }
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let authority = request.authority.to_ascii_lowercase();
    let url = format!("https://{authority}{path}");
    let method = request.method.to_ascii_uppercase();
    format!("{method}&{}&{}", encoded(&url), encoded(&pairs.join("&")))
}

/// The pairs of a query or form, decoded and encoded again.
fn parsed(form: &[u8]) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(form).map(|(name, value)| (encoded(&name), encoded(&value)))
}

fn encoded(text: &str) -> String {
    Cow::from(utf8_percent_encode(text, UNRESERVED)).into_owned()
}
