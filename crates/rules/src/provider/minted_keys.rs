//! The parts of the schema for credentials that Keyward makes: login requests, signed tokens and signatures of requests.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use crate::inject::sign::hmac::{HmacAlgorithm, SignatureEncoding};
use crate::inject::sign::jwt::KeyEncoding;

/// A request with templates in header fields and body, and variables in its URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestText {
    /// The method; POST by default.
    pub method: Option<String>,
    /// The URL, `https://…`.
    pub url: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A JSON body.
    pub json: Option<Value>,
    pub form: Option<BTreeMap<String, String>>,
    /// Basic authentication: a template of `user:password`.
    pub basic: Option<String>,
    /// The field that contains the bearer token.
    pub bearer: Option<String>,
}

/// A self-signed token, or an assertion for a token endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtText {
    /// The signature algorithm.
    pub alg: Option<String>,
    /// Self-signed: the field of the key; by default the only secret field.
    pub key: Option<String>,
    /// Self-signed with a shared secret: how the field encodes it.
    pub key_encoding: Option<KeyEncoding>,
    /// Self-signed: what separates the key's id from the key, where the owner has both in one text.
    pub id_ends_at: Option<char>,
    /// The key id, a template.
    pub kid: Option<String>,
    /// The issuer, a template.
    pub iss: Option<String>,
    /// The audience, a template.
    pub aud: Option<String>,
    /// The subject, a template; in assertions by default the field `subject`.
    pub sub: Option<String>,
    /// Assertions: whether the scopes are a claim instead of a parameter.
    pub scope_claim: bool,
    /// Lifetime of a token.
    pub ttl: Option<String>,
    /// Self-signed: further members of the header, templates.
    pub header: BTreeMap<String, String>,
    /// Self-signed: further claims, with templates in their texts.
    pub claims: BTreeMap<String, Value>,
}

/// The fields of a method that are used in TLS handshakes with its hosts; all in PEM.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFields {
    /// The field of the client certificate.
    pub certificate: Option<String>,
    /// The field of its private key.
    pub key: Option<String>,
    /// The field of the CA that signs the certificates of the hosts.
    pub ca: Option<String>,
}

/// What signs requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureText {
    /// The hash function of the HMAC.
    #[serde(default)]
    pub hash: HmacAlgorithm,
    /// HMAC: the text that is signed, a template.
    pub message: Option<String>,
    /// HMAC: the field of the key; by default the only required secret field.
    pub key: Option<String>,
    /// HMAC: how the field encodes the key.
    #[serde(default)]
    pub key_encoding: KeyEncoding,
    /// HMAC: how the signature is written.
    #[serde(default)]
    pub encoding: SignatureEncoding,
}

impl TlsFields {
    /// Whether the field is one of these.
    pub fn names(&self, field: &str) -> bool {
        let names = [&self.certificate, &self.key, &self.ca];
        names.into_iter().any(|name| name.as_deref() == Some(field))
    }
}
