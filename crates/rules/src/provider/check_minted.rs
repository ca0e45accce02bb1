//! Checks the credentials that Keyward makes from the owner's fields: login requests of sessions, self-signed tokens, and
//! signatures of requests.

use std::sync::Arc;
use std::time::Duration;

use super::document::{Problems, key_of};
use super::field::Field;
use super::keys::{JwtText, RequestText, SignatureText, TlsFields};
use super::kinds::AuthKind;
use super::own_hosts::OwnHosts;
use super::schema::AuthText;
use super::session::{RequestTemplate, SessionRequests, unknown_names};
use crate::inject::json_template::JsonTemplate;
use crate::inject::sign::hmac::{HmacAlgorithm, HmacScheme};
use crate::inject::sign::jwt::{FINGERPRINT, JwtTemplate};
use crate::inject::sign::message::SignedMessage;
use crate::inject::sign::oauth1::OAuth1Scheme;
use crate::inject::sign::request_signer::SigningScheme;

/// Lifetime of a token whose file names none.
const JWT_LIFE: Duration = Duration::from_secs(300);

/// The parts of an auth method that make credentials from the owner's fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Minting {
    pub(super) session: Option<Arc<SessionRequests>>,
    /// Tokens that are valid for many requests.
    pub(super) token: Option<Arc<JwtTemplate>>,
    /// What signs each request.
    pub(super) scheme: Option<Arc<SigningScheme>>,
    /// What is used in TLS handshakes.
    pub(super) tls: Option<TlsFields>,
}

/// Checks the keys of kinds whose credential is made here.
pub(super) fn minting(
    text: &AuthText,
    fields: &[Field],
    path: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) -> Minting {
    let mut names: Vec<&str> = fields.iter().map(|field| &*field.name).collect();
    names.extend(own.variables.iter().map(|variable| &*variable.name));
    let check = MintingCheck { text, fields, names, path };
    let mut found = Minting::default();
    match text.kind {
        AuthKind::Session => found.session = check.session(problems).map(Arc::new),
        AuthKind::SignedJwt => match check.token(problems) {
            Some(token) if token.is_per_request() => {
                found.scheme = Some(Arc::new(SigningScheme::Jwt(token)));
            }
            token => found.token = token.map(Arc::new),
        },
        AuthKind::Hmac => {
            found.scheme = check.hmac(problems).map(|it| Arc::new(SigningScheme::Hmac(it)))
        }
        AuthKind::Oauth1 => {
            let algorithm = text.signature.as_ref().map_or(HmacAlgorithm::Sha1, |it| it.hash);
            let has_realm = check.names.contains(&"realm");
            found.scheme =
                Some(Arc::new(SigningScheme::OAuth1(OAuth1Scheme { algorithm, has_realm })));
        }
        _ => {}
    }
    found.tls = check.tls(problems);
    found
}

struct MintingCheck<'a> {
    text: &'a AuthText,
    fields: &'a [Field],
    /// Fields and variables.
    names: Vec<&'a str>,
    path: &'a str,
}

impl MintingCheck<'_> {
    fn tls(&self, problems: &mut Problems<'_>) -> Option<TlsFields> {
        let at = key_of(self.path, "tls");
        let usual = |name: &str| Some(name.to_owned());
        let names = match &self.text.tls {
            None if self.text.kind != AuthKind::Mtls => return None,
            None => TlsFields {
                certificate: usual("client_cert"),
                key: usual("client_key"),
                ca: usual("ca").filter(|ca| self.fields.iter().any(|field| field.name == *ca)),
            },
            Some(names) => names.clone(),
        };
        let TlsFields { certificate, key, ca } = &names;
        let is_unknown = |name: &&String| !self.fields.iter().any(|field| field.name == **name);
        if let Some(name) = [certificate, key, ca].into_iter().flatten().find(is_unknown) {
            let message = format!("`{name}` is not a field of this method");
            problems.add(&at, message, "declare it under `fields`");
            return None;
        }
        if certificate.is_some() != key.is_some() || certificate.is_none() && ca.is_none() {
            let remedy = "name `certificate` and `key`, or `ca`, or all three";
            problems.add(&at, "a certificate and its key go together", remedy);
        }
        Some(names)
    }

    fn session(&self, problems: &mut Problems<'_>) -> Option<SessionRequests> {
        let Some(login) = &self.text.login else {
            let remedy = "describe the request under `login`";
            problems.add(self.path, "kind `session` has no login", remedy);
            return None;
        };
        let renewal = self.text.renewal.as_ref();
        Some(SessionRequests {
            login: self.request("login", login, &[], problems)?,
            renewal: renewal.and_then(|it| {
                self.request("renewal", it, &["refresh_token", "access_token"], problems)
            }),
        })
    }

    fn request(
        &self,
        key: &str,
        text: &RequestText,
        tokens: &[&str],
        problems: &mut Problems<'_>,
    ) -> Option<RequestTemplate> {
        let names = [&self.names, tokens].concat();
        RequestTemplate::checked(text, &names, &key_of(self.path, key), problems)
    }

    fn token(&self, problems: &mut Problems<'_>) -> Option<JwtTemplate> {
        let (none, at) = (JwtText::default(), key_of(self.path, "jwt"));
        let text = self.text.jwt.as_ref().unwrap_or(&none);
        let algorithm = match text.alg.as_deref().map(str::parse) {
            None => None,
            Some(Ok(algorithm)) => Some(algorithm),
            Some(Err(_)) => {
                let remedy = "write ES256, ES384, RS256, PS256, EdDSA, HS256 or a longer one";
                problems.add(&key_of(&at, "alg"), "this is not an algorithm of tokens", remedy);
                return None;
            }
        };
        let mut header = Vec::new();
        for (name, value) in &text.header {
            let at = key_of(&key_of(&at, "header"), name);
            header.extend(self.message(value, &at, problems).map(|it| (name.clone(), it)));
        }
        let kid = text.kid.as_deref();
        Some(JwtTemplate {
            algorithm,
            key: self.key(text.key.as_deref(), &at, problems)?.into(),
            encoding: text.key_encoding.unwrap_or_default(),
            id_ends_at: text.id_ends_at,
            key_id: kid.and_then(|kid| self.message(kid, &key_of(&at, "kid"), problems)),
            header,
            claims: self.claims(text, &at, problems)?,
            life: text.ttl.unwrap_or(JWT_LIFE),
        })
    }

    /// `iss`, `aud`, `sub` and the further claims.
    fn claims(
        &self,
        text: &JwtText,
        at: &str,
        problems: &mut Problems<'_>,
    ) -> Option<JsonTemplate> {
        let named = [("iss", &text.iss), ("aud", &text.aud), ("sub", &text.sub)];
        let named = named.into_iter().filter_map(|(name, claim)| Some((name, claim.as_ref()?)));
        let mut claims: serde_json::Map<String, serde_json::Value> =
            named.map(|(name, claim)| (name.to_owned(), claim.as_str().into())).collect();
        for (name, claim) in &text.claims {
            claims.insert(name.clone(), serde_json::to_value(claim).unwrap_or_default());
        }
        match JsonTemplate::parse(&claims.into()) {
            Ok(claims) => {
                for message in claims.messages() {
                    self.known(message, &key_of(at, "claims"), problems);
                }
                Some(claims)
            }
            Err(claim) => {
                let remedy = "write fields as `{name}`";
                problems.add(at, format_args!("`{claim}` is not a template"), remedy);
                None
            }
        }
    }

    fn hmac(&self, problems: &mut Problems<'_>) -> Option<HmacScheme> {
        let at = key_of(self.path, "signature");
        let text: Option<&SignatureText> = self.text.signature.as_ref();
        let Some((text, message)) = text.and_then(|text| Some((text, text.message.as_ref()?)))
        else {
            let remedy = "write what is signed under `signature`, as `message`";
            problems.add(&at, "kind `hmac` has no text to sign", remedy);
            return None;
        };
        let message = self.message(message, &key_of(&at, "message"), problems)?;
        if message.names_signature() {
            let remedy = "name it in placements only";
            problems.add(&key_of(&at, "message"), "a signature does not sign itself", remedy);
        }
        Some(HmacScheme {
            algorithm: text.hash,
            key: self.key(text.key.as_deref(), &at, problems)?.into(),
            key_encoding: text.key_encoding,
            message,
            encoding: text.encoding,
        })
    }

    /// The field of the key: the named one, or the only required secret.
    fn key(&self, named: Option<&str>, at: &str, problems: &mut Problems<'_>) -> Option<String> {
        let found = match named {
            Some(name) => self.fields.iter().find(|field| field.name == name),
            None => Field::only_secret(self.fields),
        };
        match found {
            Some(field) => Some(field.name.clone()),
            None => {
                let remedy = "name a field of this method as `key`";
                problems.add(at, "it is not clear which field is the key", remedy);
                None
            }
        }
    }

    fn message(&self, text: &str, at: &str, problems: &mut Problems<'_>) -> Option<SignedMessage> {
        let Some(message) = SignedMessage::parse(text) else {
            problems.add(
                at,
                format_args!("`{text}` is not a template"),
                "write fields as `{name}`",
            );
            return None;
        };
        self.known(&message, at, problems);
        Some(message)
    }

    fn known(&self, message: &SignedMessage, at: &str, problems: &mut Problems<'_>) {
        let known = [&self.names[..], &[FINGERPRINT]].concat();
        unknown_names(message.fields(), &known, at, problems);
    }
}

#[cfg(test)]
mod tests;
