//! Requests on the proxy port: CONNECT opens a tunnel, absolute-form is an exchange by itself.
//! Each authenticates by itself. What has no scheme is `base_url.rs`'s, if it is anything.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request, Response};
use hyper::upgrade::OnUpgrade;

use super::authenticate::authenticate;
use super::base_url::{self, Place};
use super::body::{AnswerBody, RequestBody};
use super::drive::{self, Whose};
use super::error::Refusal;
use super::grpc::Dialect;
use super::permitted::{self, Way};
use super::pulse::Pulse;
use super::record::Record;
use super::session::{Accepted, Entry, Session};
use super::stream::Agents;
use super::{Core, exchange, intercept, respond, tunnel};
use crate::base::agent::Agent;
use crate::base::host::{Scheme, Target};
use crate::net::dial::Dialled;
use crate::policy::{InterceptPermit, TunnelPermit};

/// What a CONNECT may become.
enum Opening {
    Intercept(InterceptPermit),
    Tunnel(TunnelPermit, Dialled),
}

/// Serves one accepted stream until it ends.
pub async fn serve(core: Arc<Core>, stream: Agents, accepted: Accepted) {
    let accepted = Arc::new(accepted);
    let owner = accepted.clone();
    let whose = Whose { pulse: &owner.pulse, standing: &owner.standing, session: None };
    let service = |request: Request<RequestBody>| {
        let (core, accepted) = (core.clone(), accepted.clone());
        async move {
            match *request.method() {
                Method::CONNECT => connect(&core, &accepted, request).await,
                _ => absolute(&core, &accepted, request).await,
            }
        }
    };
    drive::serve(&core, stream, whose, service).await;
}

/// `GET http://host/path`: authenticate, then the spine. Anything without a scheme is refused, unless
/// it is by a base URL: an origin-form request is never forwarded by its `Host`.
async fn absolute(
    core: &Arc<Core>,
    accepted: &Arc<Accepted>,
    request: Request<RequestBody>,
) -> Response<AnswerBody> {
    if request.uri().scheme().is_none()
        && let Some(place) = Place::of(&request, accepted.scheme, &core.gateway.base_urls)
    {
        return base_url::answer(core, accepted, request, place).await;
    }
    let admitted = match request.uri().scheme() {
        Some(_) => authenticate(&core.gateway, accepted, request.headers()),
        None => Err(Refusal::BadRequest(
            "this is a proxy: send CONNECT or an absolute http:// or https:// URI, or use a base URL: \
             /to/CONNECTION/…",
        )),
    };
    let admitted =
        admitted.and_then(|agent| accepted.standing.admit(&core.gateway, &agent).map(|()| agent));
    let agent = match admitted {
        Ok(agent) => agent,
        Err(refusal) => {
            let (method, path) = (request.method(), Some(request.uri().path()));
            let unopened = Unopened { method, path, agent: None };
            return refused(core, accepted, unopened, &refusal).await;
        }
    };
    let (pulse, accepted) = (accepted.pulse.clone(), accepted.clone());
    let session = Session::new(agent, Entry::Absolute, pulse, accepted);
    exchange::answer(core, &session, request).await
}

/// A request that gets no session, as the record tells it.
pub(super) struct Unopened<'a> {
    pub(super) method: &'a Method,
    pub(super) path: Option<&'a str>,
    pub(super) agent: Option<Agent>,
}

/// Answers such a request.
pub(super) async fn refused(
    core: &Arc<Core>,
    accepted: &Accepted,
    Unopened { method, path, agent }: Unopened<'_>,
    refusal: &Refusal,
) -> Response<AnswerBody> {
    accepted.pulse.begin();
    let mut record = match Record::begin(&core.gateway).await {
        Ok(record) => record,
        Err(refusal) => return respond::unrecorded(&refusal, Dialect::Http),
    };
    record.ends(&accepted.pulse);
    if let Some(agent) = &agent {
        record.asked_by(agent);
    }
    record.asked_for(method, None, path);
    respond::refusal(refusal, record)
}

/// CONNECT: authenticate, parse, route; then 200 and the tunnel in a task of its own.
async fn connect(
    core: &Arc<Core>,
    accepted: &Arc<Accepted>,
    mut request: Request<RequestBody>,
) -> Response<AnswerBody> {
    accepted.pulse.begin();
    let mut record = match Record::begin(&core.gateway).await {
        Ok(record) => record,
        Err(refusal) => return respond::unrecorded(&refusal, Dialect::Http),
    };
    record.ends(&accepted.pulse);
    record.asked_for(&Method::CONNECT, None, None);
    let target = target(&request);
    record.at(target.as_ref().ok());
    let named = target.as_ref().ok().cloned();
    match open(core, accepted, (&request, target), &mut record).await {
        Ok((agent, opening)) => {
            let upgrade = hyper::upgrade::on(&mut request);
            record.opened();
            let whose = (agent, accepted.clone());
            let tunnel = tunnelled(core.clone(), upgrade, whose, (opening, record));
            // On the heap: a task copies its future four times in its life.
            tokio::spawn(Box::pin(tunnel));
            Response::new(AnswerBody::elsewhere())
        }
        Err(refusal) => respond::connect_refusal(&refusal, named.as_ref(), record),
    }
}

async fn open(
    core: &Arc<Core>,
    accepted: &Arc<Accepted>,
    (request, target): (&Request<RequestBody>, Result<Target, Refusal>),
    record: &mut Record,
) -> Result<(Agent, Opening), Refusal> {
    let gateway = &core.gateway;
    let agent = authenticate(gateway, accepted, request.headers())?;
    record.asked_by(&agent);
    let target = target?;
    without_body(request)?;
    accepted.standing.admit(gateway, &agent)?;
    let opening = match permitted::route(gateway, &agent, &target).await? {
        Way::Intercept(permit) => Opening::Intercept(permit),
        Way::Tunnel(permit) => {
            accepted.standing.tunnels(permit.target());
            record.tunnelled(permit.rule());
            let limit = gateway.limits.connect_timeout;
            let dialled = Box::pin(gateway.dialler.dial(permit.target(), limit)).await?;
            Opening::Tunnel(permit, dialled)
        }
    };
    Ok((agent, opening))
}

/// The authority; without a port it means 443 (RFC 9110 §9.3.6 demands one, gRPC leaves it out).
fn target(request: &Request<RequestBody>) -> Result<Target, Refusal> {
    let uri = request.uri();
    match (uri.authority(), uri.scheme(), uri.path()) {
        (Some(authority), None, "" | "/") => Ok(Target::parse(Scheme::Https, authority.as_str())?),
        _ => Err(Refusal::BadRequest("CONNECT names a host and a port, nothing else")),
    }
}

/// A CONNECT has no body (RFC 9110 §9.3.6): bytes behind it belong to the tunnel.
fn without_body(request: &Request<RequestBody>) -> Result<(), Refusal> {
    let fields = request.headers();
    let length = fields.get_all(CONTENT_LENGTH).iter().all(|length| length == "0");
    match length && !fields.contains_key(TRANSFER_ENCODING) {
        true => Ok(()),
        false => Err(Refusal::BadRequest("CONNECT has no body")),
    }
}

/// The tunnel, from the moment that hyper has written the 200.
async fn tunnelled(
    core: Arc<Core>,
    upgrade: OnUpgrade,
    (agent, accepted): (Agent, Arc<Accepted>),
    (opening, mut record): (Opening, Record),
) {
    let Ok(upgraded) = upgrade.await else { return };
    let Some((stream, early)) = drive::reclaim::<Agents>(upgraded) else {
        return tracing::error!("a CONNECT was upgraded to a stream of another kind");
    };
    let pulse = Arc::new(Pulse::idle());
    let stream = stream.into_tunnel(early, pulse.clone());
    match opening {
        Opening::Intercept(permit) => {
            // Each request inside is an exchange of its own; the CONNECT is none.
            record.discard();
            intercept::intercept(core, stream, permit, (agent, accepted)).await;
        }
        Opening::Tunnel(permit, dialled) => {
            let entry = Entry::Tunnel { target: permit.target().clone(), sni_agrees: true };
            let session = Session::new(agent, entry, pulse, accepted);
            let upstream = dialled.stream;
            let splice = tunnel::splice(stream, upstream, &mut record, &session, &core.gateway);
            Box::pin(splice).await;
        }
    }
}
