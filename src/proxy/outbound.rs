//! [`Outbound`]: a request that may be sent. Its construction is a security property:
//! strip, clear, write, take authority from the permit, in that order.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};
use http_body::Body;
use hyper::upgrade::OnUpgrade;

use super::body::RequestBody;
use super::error::Refusal;
use super::inbound::Inbound;
use super::pool::Key;
use super::session::Session;
use crate::base::host::{Scheme, Target};
use crate::inject::credential::{Credential, Write};
use crate::inject::scrub::{Needles, ask};
use crate::inject::strip;
use crate::inject::write::{self, Head, WriteError};
use crate::policy::Permit;

/// The only thing that `upstream` sends. Made from a permit and, where that wants one, a credential.
#[derive(Debug)]
pub struct Outbound {
    /// The request, in origin form.
    pub request: Request<RequestBody>,
    /// Which idle streams it may use.
    pub key: Key,
    /// Whether cleartext is allowed, given an address on the private list.
    pub plaintext: Plaintext,
    /// The agent's side of a WebSocket handshake.
    pub upgrade: Option<(OnUpgrade, Arc<Session>)>,
    /// Whether the request may be sent again when an idle stream turns out to be dead.
    pub repeatable: bool,
    /// Whether the agent speaks HTTP/2, and the request is one that HTTP/2 has.
    pub http2: bool,
    /// What must not be in the answer.
    pub needles: Option<Arc<Needles>>,
}

/// Whether the request may go over cleartext.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plaintext {
    /// No credential of ours is in it.
    Harmless,
    /// A rule allows it, to addresses on the explicit private list only.
    PrivateOnly,
    /// Never.
    Never,
}

impl Outbound {
    /// Strips, clears, writes, and takes authority and `Host` from the permit.
    ///
    /// # Errors
    /// When the credential does not fit the request.
    pub fn prepare(
        mut inbound: Inbound,
        permit: Permit,
        credential: Option<&Credential>,
    ) -> Result<Self, Refusal> {
        let target = permit.target().clone();
        let (org, session) = (inbound.org().clone(), inbound.session());
        let upgrade = inbound.take_upgrade();
        let uri = prepare_head(&mut inbound, &target, credential, upgrade.is_some())?;
        let Inbound { mut head, body, .. } = inbound;
        let repeatable = head.method.is_idempotent() && body.is_end_stream();
        let http2 = head.version == Version::HTTP_2 && upgrade.is_none();
        head.uri = uri;
        head.version = Version::HTTP_11;
        Ok(Self {
            request: Request::from_parts(head, body),
            key: Key { org, target, session: credential.is_none().then_some(session) },
            plaintext: plaintext(&permit, credential),
            upgrade,
            repeatable,
            http2,
            needles: credential.map(|c| c.needles.clone()).filter(|needles| !needles.is_empty()),
        })
    }
}

fn plaintext(permit: &Permit, credential: Option<&Credential>) -> Plaintext {
    match (credential, permit.plaintext()) {
        (None, _) => Plaintext::Harmless,
        (Some(_), true) => Plaintext::PrivateOnly,
        (Some(_), false) => Plaintext::Never,
    }
}

/// The four steps. Answers the URI that goes out.
fn prepare_head(
    inbound: &mut Inbound,
    target: &Target,
    credential: Option<&Credential>,
    websocket: bool,
) -> Result<Uri, Refusal> {
    let decoded = inbound.decoded().clone();
    let fields = &mut inbound.head.headers;
    // 1. What never passes a proxy. `TE: trailers` is for us to say again: we do pass trailers.
    let trailers = wants_trailers(fields);
    strip::hop_by_hop(fields);
    strip::steering(fields);
    // 2. What would stand where the credential goes, and every placeholder.
    let uri = &inbound.head.uri;
    let (path, query) = (path_of(uri), uri.query());
    let query = strip_query(query, credential);
    if let Some(credential) = credential {
        strip::cleared(fields, &credential.clears);
        ask::for_what_can_be_scanned(fields);
    }
    strip::placeholder_fields(fields);
    // 3. The credential.
    let mut head = Head { fields, path, query };
    write::credential(&mut head, writes(credential, target, &decoded)?)?;
    let uri = origin_form(&head.path, head.query.as_deref())?;
    // 4. Authority.
    let host = HeaderValue::try_from(target.authority())
        .map_err(|_| Refusal::Internal("a target is no field value"))?;
    fields.insert(header::HOST, host);
    if websocket {
        fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    } else if trailers {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
        fields.insert(header::CONNECTION, HeaderValue::from_static("TE"));
    }
    Ok(uri)
}

fn writes<'a>(
    credential: Option<&'a Credential>,
    target: &Target,
    path: &crate::base::pattern::DecodedPath,
) -> Result<&'a [Write], WriteError> {
    let Some(credential) = credential else { return Ok(&[]) };
    let scoped = credential.writes.iter().find(|scoped| scoped.matches(target, path));
    scoped.map(|scoped| &*scoped.what).ok_or(WriteError::NoPlace)
}

fn path_of(uri: &Uri) -> String {
    match uri.path() {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

fn strip_query(query: Option<&str>, credential: Option<&Credential>) -> Option<String> {
    let names = credential.map_or(&[][..], |credential| &credential.clears.queries);
    let query = query?;
    match strip::query(query, names) {
        None => Some(query.to_owned()),
        Some(left) if left.is_empty() => None,
        Some(left) => Some(left),
    }
}

fn wants_trailers(fields: &HeaderMap) -> bool {
    let tokens = fields.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    tokens.flat_map(|value| value.split(',')).any(|token| token.trim() == "trailers")
}

/// `path?query` as on the wire, without scheme and authority.
fn origin_form(path: &str, query: Option<&str>) -> Result<Uri, Refusal> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path = PathAndQuery::try_from(text)
        .map_err(|_| Refusal::BadRequest("the request target holds a byte that no URI has"))?;
    Ok(Uri::from(path))
}

impl Plaintext {
    /// Whether the request may go to `target`, over an address that is on the private list or not.
    pub fn allows(self, scheme: Scheme, private: bool) -> bool {
        match (scheme, self) {
            (Scheme::Https, _) | (Scheme::Http, Self::Harmless) => true,
            (Scheme::Http, Self::PrivateOnly) => private,
            (Scheme::Http, Self::Never) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_over_cleartext_only_by_rule_and_to_the_private_list() {
        for private in [false, true] {
            assert!(!Plaintext::Never.allows(Scheme::Http, private));
            assert_eq!(Plaintext::PrivateOnly.allows(Scheme::Http, private), private);
            assert!(Plaintext::Never.allows(Scheme::Https, private));
            assert!(Plaintext::Harmless.allows(Scheme::Http, private));
        }
    }
}
