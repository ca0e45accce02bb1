//! [`RequestSigner`]: signs a request with the fields of a connection, by a scheme of its provider.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use http::header::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::error::SignError;
use super::hmac::HmacScheme;
use super::jwt::JwtTemplate;
use super::message::{MessageValues, RequestParts, SignedMessage};
use super::oauth1::OAuth1Scheme;
use crate::inject::body::{BodyKind, form_without};
use crate::inject::names;
use crate::inject::placement::{Location, Place, Scoped};
use keyward_base::host::Target;
use keyward_base::pattern::DecodedPath;
use keyward_base::secret::Secret;

/// How requests of a provider are signed.
#[derive(Clone, Debug, PartialEq)]
pub enum SigningScheme {
    /// An HMAC of a text.
    Hmac(HmacScheme),
    /// A token for each request.
    Jwt(JwtTemplate),
    /// OAuth 1.0a.
    OAuth1(OAuth1Scheme),
}

/// The name that placements of tokens have for the signature.
const TOKEN: &str = "access_token";

/// Signs requests of one connection.
pub struct RequestSigner {
    scheme: Arc<SigningScheme>,
    /// Fields of the owner and variables.
    fields: BTreeMap<String, Secret>,
    /// All placements of the connection.
    placements: Vec<Scoped<Vec<Place>>>,
}

/// A place that a signature writes.
#[derive(Debug)]
struct SignedPlace<'a> {
    at: &'a Location,
    value: SignedMessage,
}

/// A request without signature: what the upstream will receive.
#[derive(Debug)]
pub struct UnsignedRequest<'a> {
    pub method: &'a str,
    /// Host and port, as in `Host`.
    pub authority: &'a str,
    /// Path and query, as on the wire.
    pub target: &'a str,
    /// The fields; the signature is added to them.
    pub fields: &'a mut HeaderMap,
    /// The body, if [`RequestSigner::needs_body`].
    pub body: &'a [u8],
    /// The time of the signature.
    pub now: Timestamp,
}

/// What a signature adds beside fields.
#[derive(Debug, Default)]
pub struct SignedParts {
    /// The new path and query, if the query has changed.
    pub target: Option<String>,
    /// The token of this request: who has it can use it until it expires.
    pub token: Option<Secret>,
}

impl SigningScheme {
    /// Whether a placement's template is written by the signature, and not before.
    pub fn writes(&self, place: &Place) -> bool {
        let is_token = matches!(self, Self::Jwt(_)) && place.value.fields().any(|it| it == TOKEN);
        is_token || SignedMessage::of(&place.value).is_computed()
    }
}

impl RequestSigner {
    /// A signer with these fields and variables.
    pub fn new(
        scheme: Arc<SigningScheme>,
        fields: BTreeMap<String, Secret>,
        placements: Vec<Scoped<Vec<Place>>>,
    ) -> Self {
        Self { scheme, fields, placements }
    }

    /// The places of a request to this target and path.
    pub fn places(&self, target: &Target, path: &DecodedPath) -> &[Place] {
        let scoped = self.placements.iter().find(|scoped| scoped.matches(target, path));
        scoped.map_or(&[], |scoped| &scoped.what)
    }

    /// Whether the body must be read before the request is signed.
    pub fn needs_body(&self, places: &[Place], fields: &HeaderMap) -> bool {
        if !self.signs(places) {
            return false;
        }
        match &*self.scheme {
            SigningScheme::Hmac(scheme) => scheme.message.needs_body(),
            SigningScheme::Jwt(token) => token.needs_body(),
            SigningScheme::OAuth1(_) => OAuth1Scheme::needs_body(fields),
        }
    }

    /// Whether the signature writes any of the places. Public parts of an API have none.
    fn signs(&self, places: &[Place]) -> bool {
        places.iter().any(|place| self.scheme.writes(place))
    }

    /// A form without the parameters that the signature writes into the query: a service refuses a parameter that is in
    /// both. `None` if the body is no form, or has none of them.
    pub fn form_without_agents_signature(
        &self,
        places: &[Place],
        fields: &HeaderMap,
        body: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let written = places.iter().filter(|place| self.scheme.writes(place));
        let names = written.filter_map(|place| match &place.at {
            Location::Query(name) => Some(&**name),
            _ => None,
        });
        let is_form = matches!(BodyKind::of(fields), Ok(BodyKind::Form));
        if is_form { form_without(body, &names.collect::<Vec<_>>()) } else { None }
    }

    /// Signs a request, and writes the parts of the signature to `places`: first parts that it may cover, such as a
    /// time, then the signature itself.
    ///
    /// # Errors
    /// When a field is missing or cannot be sent.
    pub fn sign(
        &self,
        places: &[Place],
        request: UnsignedRequest<'_>,
    ) -> Result<SignedParts, SignError> {
        if !self.signs(places) {
            return Ok(SignedParts::default());
        }
        let nonce = nonce()?;
        let UnsignedRequest { method, authority, target, fields, body, now } = request;
        let mut target = Cow::Borrowed(target);
        let places = places.iter().filter(|place| self.scheme.writes(place));
        let places = places.map(|place| {
            let value = SignedMessage::of(&place.value);
            let is_token = matches!(&*self.scheme, SigningScheme::Jwt(_));
            let value = if is_token { value.naming(TOKEN) } else { value };
            SignedPlace { at: &place.at, value }
        });
        let (after, before): (Vec<_>, Vec<_>) =
            places.partition(|place| place.value.names_signature());
        for place in &before {
            let parts = RequestParts { method, authority, target: &target, headers: fields, body };
            let values = self.values(Some(parts), now, &nonce, "");
            let value = place.value.text(&values)?;
            place.write(&value, fields, &mut target)?;
        }
        let parts = RequestParts { method, authority, target: &target, headers: fields, body };
        let values = self.values(Some(parts), now, &nonce, "");
        let signature = match &*self.scheme {
            SigningScheme::Hmac(scheme) => Secret::from(scheme.sign(&values)?),
            SigningScheme::Jwt(token) => token.sign(&values)?,
            SigningScheme::OAuth1(scheme) => Secret::from(scheme.sign(&values)?),
        };
        let text = signature.expose_text().ok_or(SignError::Unsignable)?;
        for place in &after {
            let parts = RequestParts { method, authority, target: &target, headers: fields, body };
            let values = self.values(Some(parts), now, &nonce, text);
            let value = place.value.text(&values)?;
            place.write(&value, fields, &mut target)?;
        }
        let target = match target {
            Cow::Borrowed(_) => None,
            Cow::Owned(target) => Some(target),
        };
        let is_token = matches!(&*self.scheme, SigningScheme::Jwt(_));
        Ok(SignedParts { target, token: is_token.then_some(signature) })
    }

    fn values<'a>(
        &'a self,
        request: Option<RequestParts<'a>>,
        now: Timestamp,
        nonce: &'a str,
        signature: &'a str,
    ) -> MessageValues<'a> {
        MessageValues { fields: &self.fields, request, now, nonce, signature }
    }
}

impl SignedPlace<'_> {
    fn write(
        &self,
        value: &Secret,
        fields: &mut HeaderMap,
        target: &mut Cow<'_, str>,
    ) -> Result<(), SignError> {
        match self.at {
            Location::Header(name) => {
                let value = HeaderValue::from_bytes(value.expose());
                let mut value = value.map_err(|_| SignError::Unsignable)?;
                value.set_sensitive(true);
                fields.insert(name.clone(), value);
            }
            Location::Query(name) => {
                let value = value.expose_text().ok_or(SignError::Unsignable)?;
                let target = target.to_mut();
                target.push(if target.contains('?') { '&' } else { '?' });
                target.extend(names::pair(name, value));
            }
            // The checks of provider files allow no others.
            _ => return Err(SignError::Unsignable),
        }
        Ok(())
    }
}

impl fmt::Debug for RequestSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSigner").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// 128 random bits in hexadecimal digits.
///
/// # Errors
/// When the system has no randomness.
pub fn nonce() -> Result<String, SignError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| SignError::Random)?;
    Ok(HEXLOWER.encode(&bytes))
}

#[cfg(test)]
mod tests;
