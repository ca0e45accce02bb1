//! [`Inbound`]: a request that was checked once. It checks what hyper does not; later stages rely on it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri, Version};

use super::agent_upgrade::{self, AgentUpgrade, PendingStream};
use crate::body::request_body::RequestBody;
use crate::h2::websocket::agents_accept;
use crate::refusal::Refusal;
use crate::session::{ProxySession, TargetSource};
use crate::sockets::watchdog::Watchdog;
use keyward_base::agent::Agent;
use keyward_base::host::{Scheme, Target};
use keyward_base::id::{AgentId, OrgId};
use keyward_base::limits::{Limits, ReceiveWindow};
use keyward_base::pattern::DecodedPath;
use keyward_rules::inject::own_authorization::SentAuthorization;
use keyward_rules::inject::strip;
use keyward_rules::policy::PolicyQuery;
use keyward_rules::policy::{NamedResource, PolicyRequest, Reason, named_resources, overrides};

/// The request field in which an agent names a connection. Always stripped.
static KEYWARD_CONNECTION: HeaderName = HeaderName::from_static("keyward-connection");

/// A checked request. Boxed, because it moves through many stages.
#[derive(Debug)]
pub struct Inbound {
    pub(super) query: Arc<PolicyQuery>,
    upgrade: Option<AgentUpgrade>,
    /// The org whose upstream streams it may share.
    org: OrgId,
    /// The number of its session; 0 for a request of Keyward itself.
    session: u64,
    /// The window of its answer, over HTTP/2.
    window: ReceiveWindow,
    /// The agent; `None` for a request without an agent.
    agent: Option<Arc<Agent>>,
    /// The stream to which interim answers go.
    pub stream: Option<Arc<Watchdog>>,
    /// The head as hyper read it.
    pub head: Parts,
    /// The body. It is held back until the upstream wants it if the agent sent `Expect: 100-continue`.
    pub body: RequestBody,
}

/// The result of the checks: the input of the policy decision, and whether the agent waits for `100 Continue`.
#[derive(Debug)]
struct CheckedRequest {
    query: PolicyQuery,
    expects_continue: bool,
}

/// What fields and query ask the server to do beside the request line.
#[derive(Debug, Default)]
struct Steering {
    overrides: Vec<Method>,
    resources: Vec<NamedResource>,
}

impl Inbound {
    /// Checks an agent's request against its session and the limits. `refused` sees a request that is refused.
    ///
    /// # Errors
    /// When it is malformed, ambiguous or too large, or does not match the session's target.
    pub fn of_agent(
        request: Request<RequestBody>,
        session: &Arc<ProxySession>,
        limits: &Limits,
        refused: impl FnOnce(&Request<RequestBody>),
    ) -> Result<Box<Self>, Refusal> {
        let checked = Self::check(&request, session, limits).inspect_err(|_| refused(&request))?;
        Ok(Self::of(request, checked, session, limits))
    }

    fn check(
        request: &Request<RequestBody>,
        session: &ProxySession,
        limits: &Limits,
    ) -> Result<CheckedRequest, Refusal> {
        if request.method() == Method::CONNECT {
            // No tunnel inside a tunnel; its target is no path that could be parsed.
            return Err(Reason::Method.into());
        }
        within_limits(request, limits)?;
        framing(request.headers())?;
        let target = target(request, session)?;
        let path = DecodedPath::parse(path(request.method(), request.uri())?)?;
        let expects_continue = expects_continue(request.headers())?;
        let named = named(request.headers(), session.target_source.connection())?;
        let overrides = overrides(request.headers(), request.uri().query())?;
        let path_and_query = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let placeholders = strip::placeholders(request.headers(), path_and_query);
        let (fields, uri_query) = (request.headers(), request.uri().query());
        let own = SentAuthorization::of(fields, uri_query, &placeholders);
        let method = request.method().clone();
        let methods = std::iter::once(&method).chain(&overrides);
        let resources =
            named_resources(&target, methods, &path, request.uri().query(), request.headers())?;
        let query = request.uri().query().map(Into::into);
        let query = PolicyQuery {
            target,
            method,
            overrides,
            path,
            query,
            resources,
            placeholders,
            named,
            own,
            operations: None,
            push: None,
        };
        Ok(CheckedRequest { query, expects_continue })
    }

    /// Builds the checked request.
    fn of(
        mut request: Request<RequestBody>,
        CheckedRequest { query, expects_continue }: CheckedRequest,
        session: &Arc<ProxySession>,
        limits: &Limits,
    ) -> Box<Self> {
        let upgrade =
            upgrade(&mut request).map(|stream| AgentUpgrade { stream, session: session.clone() });
        let (head, mut body) = request.into_parts();
        body.set_owner_agent(&session.agent);
        if expects_continue {
            body.wait_for_continue(limits.continue_timeout);
        }
        Box::new(Self {
            query: Arc::new(query),
            upgrade,
            org: session.agent.org.clone(),
            session: session.number,
            window: limits.exchange_window(session.agent_descriptors()),
            agent: Some(session.agent.clone()),
            // HTTP/1.0 has no interim answers (RFC 9110 §15.2).
            stream: (head.version != Version::HTTP_10).then(|| session.watchdog.clone()),
            head,
            body,
        })
    }

    /// The test request of a connection of `org`.
    ///
    /// # Errors
    /// When an agent could not send its URI.
    pub fn test(request: Request<Bytes>, org: &OrgId) -> Result<Box<Self>, Refusal> {
        let place = place(&request)?;
        Self::own(request.map(RequestBody::own), org, place, Steering::default())
    }

    /// A person's request with a connection of `org`. It is checked as strictly as an agent's.
    ///
    /// # Errors
    /// As [`Inbound::of_agent`].
    pub fn call(
        request: Request<RequestBody>,
        org: &OrgId,
        limits: &Limits,
    ) -> Result<Box<Self>, Refusal> {
        within_limits(&request, limits)?;
        framing(request.headers())?;
        let overrides = overrides(request.headers(), request.uri().query())?;
        let methods = std::iter::once(request.method()).chain(&overrides);
        let (target, path) = place(&request)?;
        let query = request.uri().query();
        let resources = named_resources(&target, methods, &path, query, request.headers())?;
        Self::own(request, org, (target, path), Steering { overrides, resources })
    }

    fn own(
        request: Request<RequestBody>,
        org: &OrgId,
        (target, path): (Target, DecodedPath),
        Steering { overrides, resources }: Steering,
    ) -> Result<Box<Self>, Refusal> {
        let query = PolicyQuery {
            target,
            method: request.method().clone(),
            overrides,
            path,
            query: request.uri().query().map(Into::into),
            resources,
            placeholders: Vec::new(),
            named: None,
            own: None,
            operations: None,
            push: None,
        };
        let (head, body) = request.into_parts();
        Ok(Box::new(Self {
            query: Arc::new(query),
            upgrade: None,
            org: org.clone(),
            session: 0,
            window: ReceiveWindow::Large,
            agent: None,
            stream: None,
            head,
            body,
        }))
    }

    /// A copy without the body. `None` unless the request is idempotent (RFC 9110 §9.2.2) and does not wait for
    /// `100 Continue`.
    pub fn copy(&self) -> Option<Self> {
        let plain = self.upgrade.is_none() && self.body.gate().is_none();
        (plain && self.is_idempotent()).then(|| self.copy_of_head())
    }

    /// Whether the request is idempotent (RFC 9110 §9.2.2), whichever of its methods the server applies.
    pub fn is_idempotent(&self) -> bool {
        self.query.methods().all(Method::is_idempotent)
    }

    /// Whether the request is safe (RFC 9110 §9.2.1), whichever of its methods the server applies.
    pub fn is_safe(&self) -> bool {
        self.query.methods().all(Method::is_safe)
    }

    /// A copy without the body and the agent's side of a WebSocket, for sending a refused request again.
    pub fn copy_of_head(&self) -> Self {
        Self {
            query: self.query.clone(),
            upgrade: None,
            org: self.org.clone(),
            session: self.session,
            window: self.window,
            agent: self.agent.clone(),
            stream: self.stream.clone(),
            head: self.head.clone(),
            body: RequestBody::empty(),
        }
    }

    /// The input of the policy decision.
    pub fn policy_request(&self) -> PolicyRequest<'_> {
        self.query.policy_request()
    }

    /// The head, to be changed, and the agent whose memory budget is charged.
    pub fn head_and_agent(&mut self) -> (&mut Parts, Option<&AgentId>) {
        (&mut self.head, self.agent.as_deref().map(|agent| &agent.id))
    }

    /// The input of the policy decision, owned.
    pub fn query(&self) -> Arc<PolicyQuery> {
        self.query.clone()
    }

    /// Replaces the body by bytes of ours. The same agent's memory budget is charged for what is made of it.
    pub fn put_body(&mut self, bytes: Bytes) {
        self.body = RequestBody::own(bytes);
        if let Some(agent) = &self.agent {
            self.body.set_owner_agent(agent);
        }
    }

    pub fn target(&self) -> &Target {
        &self.query.target
    }

    /// The path as the agent sent it, without query.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The org whose upstream streams it may share.
    pub fn org(&self) -> &OrgId {
        &self.org
    }

    /// The number of its session, unique among those of agents.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// The window of its answer, over HTTP/2.
    pub fn window(&self) -> ReceiveWindow {
        self.window
    }

    /// Returns the agent's side of a WebSocket, which was not answered yet.
    pub fn put_upgrade(&mut self, upgrade: Option<AgentUpgrade>) {
        self.upgrade = upgrade;
    }

    /// The agent's side of a WebSocket handshake, once.
    pub fn take_upgrade(&mut self) -> Option<AgentUpgrade> {
        self.upgrade.take()
    }
}

fn within_limits(request: &Request<RequestBody>, limits: &Limits) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if target > limits.target_bytes_max {
        return Err(Refusal::TargetTooLong { bytes: limits.target_bytes_max });
    }
    let fields = request.headers();
    if fields.len() > limits.head_fields_max {
        let limit = format!("{} fields", limits.head_fields_max);
        return Err(Refusal::HeadersTooLarge { limit });
    }
    // `name: value\r\n`
    let bytes: usize = fields.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    if bytes + target > limits.head_bytes_max {
        let limit = format!("{} bytes", limits.head_bytes_max);
        return Err(Refusal::HeadersTooLarge { limit });
    }
    Ok(())
}

/// Checks the framing. hyper has already refused conflicting lengths and a final coding other than `chunked`, and
/// dropped a length next to a coding; it accepts codings before `chunked`.
fn framing(fields: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !chunked || codings.next().is_some() {
            return Err(Refusal::Coding);
        }
        if fields.contains_key(header::CONTENT_LENGTH) {
            return Err(Refusal::BadRequest("a message has a length or a coding, not both"));
        }
    }
    match fields.get_all(header::CONTENT_LENGTH).iter().count() {
        0 | 1 => Ok(()),
        _ => Err(Refusal::BadRequest("a message has one Content-Length")),
    }
}

/// The target: the tunnel's, with which everything else must agree, or the absolute URI's.
fn target(request: &Request<RequestBody>, session: &ProxySession) -> Result<Target, Refusal> {
    let host = host_field(request)?;
    match &session.target_source {
        TargetSource::Absolute => absolute_target(request.uri()),
        // Its `Host` is ours.
        TargetSource::BaseUrl { target, .. } => Ok(target.clone()),
        TargetSource::Tunnel { target, sni_agrees } => {
            if !sni_agrees {
                return Err(Refusal::HostMismatch("the name in the TLS handshake"));
            }
            if request.uri().authority().is_some() && absolute_target(request.uri())? != *target {
                return Err(Refusal::HostMismatch("the request's URI"));
            }
            match host {
                Some(host) if agrees(host, target) => Ok(target.clone()),
                Some(_) => Err(Refusal::HostMismatch("`Host`")),
                None => Ok(target.clone()),
            }
        }
    }
}

/// The one `Host` field, which HTTP/1.1 demands (RFC 9112 §3.2).
fn host_field(request: &Request<RequestBody>) -> Result<Option<&HeaderValue>, Refusal> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(Some(host)),
        (Some(_), Some(_)) => Err(Refusal::BadRequest("a request has one Host")),
        (None, _) if request.version() == Version::HTTP_11 => {
            Err(Refusal::BadRequest("an HTTP/1.1 request has a Host"))
        }
        (None, _) => Ok(None),
    }
}

fn agrees(host: &HeaderValue, target: &Target) -> bool {
    if target.equals_authority(host.as_bytes()) {
        return true;
    }
    let parsed = host.to_str().ok().and_then(|text| Target::parse(target.scheme(), text).ok());
    parsed.is_some_and(|parsed| parsed == *target)
}

/// Target and path of a request with an absolute URI.
fn place<B>(request: &Request<B>) -> Result<(Target, DecodedPath), Refusal> {
    let path = DecodedPath::parse(path(request.method(), request.uri())?)?;
    Ok((absolute_target(request.uri())?, path))
}

/// The target of an absolute URI. WebSocket's schemes are those of its handshake (RFC 6455 §3); some clients name them.
pub fn absolute_target(uri: &Uri) -> Result<Target, Refusal> {
    let scheme = match uri.scheme_str() {
        Some("http" | "ws") => Scheme::Http,
        Some("https" | "wss") => Scheme::Https,
        _ => return Err(Refusal::BadRequest("only http and https URIs are forwarded")),
    };
    let authority = uri.authority().ok_or(Refusal::BadRequest("the URI has no authority"))?;
    Ok(Target::parse(scheme, authority.as_str())?)
}

/// The path: absolute, or `*` for OPTIONS (RFC 9112 §3.2.4).
fn path<'a>(method: &Method, uri: &'a Uri) -> Result<&'a str, Refusal> {
    match uri.path() {
        "*" if method == Method::OPTIONS => Ok("*"),
        "" if uri.scheme().is_some() => Ok("/"),
        path if path.starts_with('/') => Ok(path),
        _ => Err(Refusal::BadRequest("the request target is neither a path nor a URI")),
    }
}

fn expects_continue(fields: &HeaderMap) -> Result<bool, Refusal> {
    let mut expectations = fields.get_all(header::EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Refusal::Expectation),
    }
}

/// The connection that the field or the base URL names.
fn named(fields: &HeaderMap, by_url: Option<&str>) -> Result<Option<String>, Refusal> {
    let mut values = fields.get_all(&KEYWARD_CONNECTION).iter();
    match (values.next().map(HeaderValue::to_str), values.next(), by_url) {
        (None, _, by_url) => Ok(by_url.map(ToString::to_string)),
        (Some(Ok(name)), None, Some(by_url)) if name.trim() != by_url => Err(Refusal::BadRequest(
            "Keyward-Connection names another connection than the base URL",
        )),
        (Some(Ok(name)), None, _) => Ok(Some(name.trim().to_owned())),
        _ => Err(Refusal::BadRequest("Keyward-Connection names one connection")),
    }
}

/// The agent's side of a WebSocket or another upgrade, if the request asks for one.
fn upgrade(request: &mut Request<RequestBody>) -> Option<PendingStream> {
    if let Some(joins) = request.body_mut().take_websocket() {
        return Some(PendingStream::Http2(joins));
    }
    let asked = asked_upgrade(request)?;
    // RFC 6455 §4.1. It is chosen of several protocols.
    let names_websocket =
        agent_upgrade::members(&asked).any(|name| name.eq_ignore_ascii_case(b"websocket"));
    if names_websocket && request.method() == Method::GET {
        let accept = agents_accept(request.headers());
        return Some(PendingStream::Http1(hyper::upgrade::on(request), accept));
    }
    Some(PendingStream::Opaque(hyper::upgrade::on(request), asked))
}

/// The protocols that the request may switch to. Without `Connection: upgrade`, the field is another hop's (RFC 9110 §7.8).
fn asked_upgrade(request: &Request<RequestBody>) -> Option<HeaderValue> {
    let fields = request.headers();
    if !fields.contains_key(header::UPGRADE) || request.version() != Version::HTTP_11 {
        return None;
    }
    let connection = fields.get_all(header::CONNECTION).iter();
    let is_asked = connection
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let upgrades: Vec<&[u8]> =
        fields.get_all(header::UPGRADE).iter().map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&upgrades.join(&b", "[..])).ok().filter(|_| is_asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_replace_a_body_are_charged_to_the_same_agent() {
        let org = OrgId::default_org();
        let request = Request::post("https://api.acme.test/").body(Bytes::from_static(b"sent"));
        let mut inbound = Inbound::test(request.unwrap(), &org).unwrap();
        let id = AgentId::random();
        let agent = Agent { id: id.clone(), org, name: "ci".into(), token: None, session: None };
        inbound.agent = Some(Arc::new(agent));
        inbound.put_body(Bytes::from_static(b"held"));
        assert_eq!(inbound.body.owner(), Some(&id));
    }
}
