//! [`Outbound`]: a request that may be sent to the upstream. The order of its construction is a security property:
//! strip, clear, write the credential, set the authority from the permit.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};
use http_body::Body;

use super::retries::Retries;
use super::{body_injection, settings_fields};
use crate::body::request_body::RequestBody;
use crate::body::trailer_filter::TrailerFilter;
use crate::gateway::Gateway;
use crate::limits::budget::Share;
use crate::pool::http1::PoolKey;
use crate::refusal::Refusal;
use crate::request::agent_upgrade::AgentUpgrade;
use crate::request::inbound::Inbound;
use crate::session::Session;
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::DecodedPath;
use keyward_base::settings::{Settings, Wait};
use keyward_rules::inject::credential::{Credential, Write};
use keyward_rules::inject::scrub::{Needles, ask};
use keyward_rules::inject::strip;
use keyward_rules::inject::write::{self, Head, WriteError};
use keyward_rules::policy::Permit;

/// The only type that `upstream::send` sends. It is made from a permit and, if the permit wants one, a credential.
#[derive(Debug)]
pub struct Outbound {
    /// The request, in origin form.
    pub request: Box<Request<RequestBody>>,
    /// The key of the streams that it may use.
    pub key: PoolKey,
    /// Whether cleartext is allowed, given an address on the private list.
    pub plaintext: Plaintext,
    /// The agent's side of a WebSocket handshake.
    pub upgrade: Option<(AgentUpgrade, Arc<Session>)>,
    /// Whether the request may be sent again when a reused stream turns out to be dead.
    pub repeatable: bool,
    /// Whether the agent speaks HTTP/2 and the request can be sent over HTTP/2.
    pub http2: bool,
    /// What the answer must not contain.
    pub needles: Option<Arc<Needles>>,
    /// The timeout for the head of the answer; `None`: the general limit.
    pub timeout: Option<Duration>,
    /// The attempts that this is one of, if retries are allowed.
    pub attempts: Option<Arc<Retries>>,
}

/// Whether the request may go over cleartext.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plaintext {
    /// The request carries no credential.
    Harmless,
    /// A rule allows it, to addresses on the explicit private list only.
    PrivateOnly,
    Never,
}

impl Outbound {
    /// Strips, clears, writes the credential, and sets the authority and `Host` from the permit.
    ///
    /// # Errors
    /// When the credential does not fit the request, or the body for it does not arrive.
    pub async fn prepare(
        gateway: &Gateway,
        mut inbound: Box<Inbound>,
        permit: Permit,
        credential: Option<&Arc<Credential>>,
    ) -> Result<Self, Refusal> {
        if !inbound.body.is_end_stream() {
            inbound.body.filter_trailers(TrailerFilter::of(&permit, credential));
        }
        let credential = credential.map(|credential| &**credential);
        let target = permit.target().clone();
        let (org, session) = (inbound.org().clone(), inbound.session());
        let upgrade = inbound.take_upgrade();
        let settings = permit.settings().map(|settings| &**settings);
        let writes = writes(credential, &target, inbound.asked().path)?;
        let given = Injection { credential, writes, settings };
        let decoders = gateway.decoders.share(inbound.agent());
        let uri = prepare_head(&mut inbound, &target, (&given, &decoders), upgrade.is_some())?;
        if body_injection::is_wanted(writes) {
            // On the heap: few requests are kept whole.
            Box::pin(body_injection::write(gateway, &mut inbound, writes)).await?;
        }
        let repeatable = inbound.is_idempotent() && inbound.body.is_end_stream();
        let Inbound { mut head, body, .. } = *inbound;
        let http2 = head.version == Version::HTTP_2 && upgrade.is_none();
        head.uri = uri;
        head.version = Version::HTTP_11;
        Ok(Self {
            request: Box::new(Request::from_parts(head, body)),
            key: PoolKey { org, target, session: credential.is_none().then_some(session) },
            plaintext: plaintext(&permit, credential),
            upgrade,
            repeatable,
            http2,
            needles: credential.map(|c| c.needles.clone()).filter(|needles| !needles.is_empty()),
            timeout: settings.and_then(|settings| settings.timeout).map(Wait::duration),
            attempts: None,
        })
    }

    /// Marks the request as one of several attempts, with the time left for all of them.
    pub fn within(self, attempts: Option<&Arc<Retries>>) -> Self {
        match attempts {
            None => self,
            Some(attempts) => {
                Self { timeout: Some(attempts.left()), attempts: Some(attempts.clone()), ..self }
            }
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

/// What is written into a request.
struct Injection<'a> {
    credential: Option<&'a Credential>,
    /// The writes of the credential for this target and path.
    writes: &'a [Write],
    settings: Option<&'a Settings>,
}

/// The four steps for the head. Returns the URI to send. `decoders`: the memory budget for decoding the answer.
fn prepare_head(
    inbound: &mut Inbound,
    target: &Target,
    (given, decoders): (&Injection<'_>, &Share),
    websocket: bool,
) -> Result<Uri, Refusal> {
    let Parts { headers: fields, uri, .. } = &mut inbound.head;
    // 1. What never passes a proxy. `TE: trailers` is for us to say again: we do pass trailers.
    let trailers = wants_trailers(fields);
    strip::hop_by_hop(fields);
    strip::steering(fields);
    if let Some(settings) = given.settings {
        settings_fields::write_fields(fields, settings);
    }
    // 2. What would stand where the credential goes, and every placeholder.
    let query = strip_query(uri.query(), given.credential);
    if let Some(credential) = given.credential {
        strip::cleared(fields, &credential.clears);
        ask::for_what_can_be_scanned(fields, |bytes| decoders.has_room(bytes));
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

/// Sets one `Host`, the target's. An equal `Host` from the agent stays as it is.
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

/// `path?query` in origin form, without scheme and authority. Returns `sent` if it is equal.
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
