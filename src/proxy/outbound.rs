//! [`Outbound`]: a request that may be sent. Its construction is a security property:
//! strip, clear, write, take authority from the permit, in that order.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};
use http_body::Body;

use super::admit;
use super::body::RequestBody;
use super::error::Refusal;
use super::inbound::Inbound;
use super::pool::Key;
use super::retry::Tries;
use super::session::Session;
use super::trailers::Sieve;
use super::upgrade;
use super::{Gateway, written};
use crate::base::host::{Scheme, Target};
use crate::base::pattern::DecodedPath;
use crate::base::settings::{Settings, Wait};
use crate::inject::credential::{Credential, Write};
use crate::inject::scrub::{Needles, ask};
use crate::inject::strip;
use crate::inject::write::{self, Head, WriteError};
use crate::policy::Permit;

/// The only thing that `upstream` sends. Made from a permit and, where that wants one, a credential.
#[derive(Debug)]
pub struct Outbound {
    /// The request, in origin form.
    pub request: Box<Request<RequestBody>>,
    /// Which idle streams it may use.
    pub key: Key,
    /// Whether cleartext is allowed, given an address on the private list.
    pub plaintext: Plaintext,
    /// The agent's side of a WebSocket handshake.
    pub upgrade: Option<(upgrade::Agents, Arc<Session>)>,
    /// Whether the request may be sent again when an idle stream turns out to be dead.
    pub repeatable: bool,
    /// Whether the agent speaks HTTP/2, and the request is one that HTTP/2 has.
    pub http2: bool,
    /// What must not be in the answer.
    pub needles: Option<Arc<Needles>>,
    /// The time to the head of the answer; `None`: the general limit.
    pub timeout: Option<Duration>,
    /// The attempts that it is one of, where there may be several.
    pub tries: Option<Arc<Tries>>,
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
    /// When the credential does not fit the request, or the body that it goes into does not come.
    pub async fn prepare(
        gateway: &Gateway,
        mut inbound: Box<Inbound>,
        permit: Permit,
        credential: Option<&Arc<Credential>>,
    ) -> Result<Self, Refusal> {
        if !inbound.body.is_end_stream() {
            inbound.body.sifts(Sieve::of(&permit, credential));
        }
        let credential = credential.map(|credential| &**credential);
        let target = permit.target().clone();
        let (org, session) = (inbound.org().clone(), inbound.session());
        let upgrade = inbound.take_upgrade();
        let settings = permit.settings().map(|settings| &**settings);
        let writes = writes(credential, &target, inbound.asked().path)?;
        let given = Given { credential, writes, settings };
        let uri = prepare_head(&mut inbound, &target, &given, upgrade.is_some())?;
        if written::is_wanted(writes) {
            // On the heap: few requests are kept whole.
            Box::pin(written::write(gateway, &mut inbound, writes)).await?;
        }
        let Inbound { mut head, body, .. } = *inbound;
        let repeatable = head.method.is_idempotent() && body.is_end_stream();
        let http2 = head.version == Version::HTTP_2 && upgrade.is_none();
        head.uri = uri;
        head.version = Version::HTTP_11;
        Ok(Self {
            request: Box::new(Request::from_parts(head, body)),
            key: Key { org, target, session: credential.is_none().then_some(session) },
            plaintext: plaintext(&permit, credential),
            upgrade,
            repeatable,
            http2,
            needles: credential.map(|c| c.needles.clone()).filter(|needles| !needles.is_empty()),
            timeout: settings.and_then(|settings| settings.timeout).map(Wait::duration),
            tries: None,
        })
    }

    /// One of several attempts, with what is left of the time for all.
    pub fn within(self, tries: Option<&Arc<Tries>>) -> Self {
        match tries {
            None => self,
            Some(tries) => Self { timeout: Some(tries.left()), tries: Some(tries.clone()), ..self },
        }
    }
}

fn plaintext(permit: &Permit, credential: Option<&Credential>) -> Plaintext {
    match (credential, permit.plaintext()) {
        (None, _) => Plaintext::Harmless,
        (Some(_), true) => Plaintext::PrivateOnly,
        (Some(_), false) => Plaintext::Never,
    }
}

/// What goes into a request.
struct Given<'a> {
    credential: Option<&'a Credential>,
    /// Those of its writes that are for this target and path.
    writes: &'a [Write],
    settings: Option<&'a Settings>,
}

/// The four steps, but for the body. Answers the URI that goes out.
fn prepare_head(
    inbound: &mut Inbound,
    target: &Target,
    given: &Given<'_>,
    websocket: bool,
) -> Result<Uri, Refusal> {
    let Parts { headers: fields, uri, .. } = &mut inbound.head;
    // 1. What never passes a proxy. `TE: trailers` is for us to say again: we do pass trailers.
    let trailers = wants_trailers(fields);
    strip::hop_by_hop(fields);
    strip::steering(fields);
    if let Some(settings) = given.settings {
        admit::write_fields(fields, settings);
    }
    // 2. What would stand where the credential goes, and every placeholder.
    let query = strip_query(uri.query(), given.credential);
    if let Some(credential) = given.credential {
        strip::cleared(fields, &credential.clears);
        ask::for_what_can_be_scanned(fields);
        if credential.renews.is_some_and(|renews| renews.expired_status.is_some()) {
            // Its body is looked into for what means 401.
            fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
    }
    strip::placeholder_fields(fields);
    // 3. The credential.
    let mut head = Head { fields, path: path_of(uri).into(), query };
    write::credential(&mut head, given.writes)?;
    let uri = origin_form(uri, &head.path, head.query.as_deref())?;
    // 4. Authority.
    authority(fields, target)?;
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
    path: &DecodedPath,
) -> Result<&'a [Write], WriteError> {
    let Some(credential) = credential else { return Ok(&[]) };
    let mut writes = credential.writes.iter();
    let scoped = writes.find(|scoped| scoped.matches(target, path));
    scoped.map(|scoped| &*scoped.what).ok_or(WriteError::NoPlace)
}

/// One `Host`, the target's; left as it is where the agent wrote it so.
fn authority(fields: &mut HeaderMap, target: &Target) -> Result<(), Refusal> {
    let mut sent = fields.get_all(header::HOST).iter();
    if let (Some(host), None) = (sent.next(), sent.next())
        && target.is_written(host.as_bytes())
    {
        return Ok(());
    }
    let host = HeaderValue::try_from(target.authority())
        .map_err(|_| Refusal::Internal("a target is no field value"))?;
    fields.insert(header::HOST, host);
    Ok(())
}

fn path_of(uri: &Uri) -> &str {
    match uri.path() {
        "" => "/",
        path => path,
    }
}

fn strip_query<'a>(
    query: Option<&'a str>,
    credential: Option<&Credential>,
) -> Option<Cow<'a, str>> {
    let names = credential.map_or(&[][..], |credential| &credential.clears.queries);
    let query = query?;
    match strip::query(query, names) {
        None => Some(query.into()),
        Some(left) if left.is_empty() => None,
        Some(left) => Some(left.into()),
    }
}

fn wants_trailers(fields: &HeaderMap) -> bool {
    let tokens = fields.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    tokens.flat_map(|value| value.split(',')).any(|token| token.trim() == "trailers")
}

/// `path?query` as on the wire, without scheme and authority; `sent` where it is the same.
fn origin_form(sent: &Uri, path: &str, query: Option<&str>) -> Result<Uri, Refusal> {
    if sent.path() == path
        && sent.query() == query
        && let Some(same) = sent.path_and_query()
    {
        return Ok(Uri::from(same.clone()));
    }
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
