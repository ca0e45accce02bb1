//! Serves requests on the proxy port: CONNECT opens a tunnel, a request in absolute form is an exchange. Each
//! request is authenticated by itself. `base_url_requests.rs` serves requests without a scheme.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request, Response, Uri};
use hyper::upgrade::OnUpgrade;

use super::authenticate::authenticate;
use super::{RefusedRequest, base_url_requests, intercept, refused, ssh_agent};
use crate::authorize::decide::{self, ConnectRoute};
use crate::authorize::token_alerts;
use crate::base_url::BaseUrl;
use crate::body::request_body::RequestBody;
use crate::exchange::answer_body::AnswerBody;
use crate::exchange::guard::{ExchangeGuard, OccupiedStream};
use crate::exchange::{self, respond};
use crate::gateway::Core;
use crate::probe::Seen;
use crate::record::Record;
use crate::refusal::{Refusal, RefusalFormat};
use crate::request::inbound::absolute_target;
use crate::server::h1::{self, StreamContext};
use crate::session::{AcceptedStream, AttachedAgent, ProxySession, TargetSource};
use crate::sockets::streams::AgentStream;
use crate::sockets::watchdog::Watchdog;
use crate::tunnel::{self, PermittedTunnel};
use keyward_base::host::{Scheme, Target};
use keyward_rules::policy::{InterceptPermit, Policy};

/// How an authorized CONNECT is served.
enum ConnectOpening {
    Intercept(InterceptPermit),
    Tunnel(PermittedTunnel),
    SshAgent,
}

/// A CONNECT that is answered with 200.
struct OpenedTunnel {
    attached: AttachedAgent,
    opening: ConnectOpening,
    exchange: ExchangeGuard,
}

/// Serves one accepted stream until it ends.
pub async fn serve(core: Arc<Core>, stream: AgentStream, accepted: AcceptedStream) {
    let accepted = Arc::new(accepted);
    let owner = accepted.clone();
    let context = StreamContext {
        core: &core,
        watchdog: &owner.watchdog,
        revocation: &owner.revocation,
        session: None,
    };
    let service = |request: Request<RequestBody>| {
        let (core, accepted) = (core.clone(), accepted.clone());
        async move {
            match *request.method() {
                Method::CONNECT => connect(&core, &accepted, request).await,
                _ => absolute(&core, &accepted, request).await,
            }
        }
    };
    h1::serve(stream, context, service).await;
}

/// Serves `GET http://host/path`. A request without a scheme is refused unless it uses a base URL: an origin-form
/// request is never forwarded by its `Host`.
async fn absolute(
    core: &Arc<Core>,
    accepted: &Arc<AcceptedStream>,
    request: Request<RequestBody>,
) -> Response<AnswerBody> {
    if request.uri().scheme().is_none()
        && let Some(base_url) = BaseUrl::of(&request, accepted.scheme, &core.gateway.base_urls)
    {
        return base_url_requests::answer(core, accepted, request, base_url).await;
    }
    let authenticated = match request.uri().scheme() {
        Some(_) => authenticate(&core.gateway, accepted, &request),
        None => Err(Refusal::BadRequest(
            "this is a proxy: send CONNECT or an absolute http:// or https:// URI, or use a base URL: \
             /to/CONNECTION/…",
        )),
    };
    let attached = authenticated.and_then(|agent| {
        let attached = accepted.attach_agent(&core.gateway, agent);
        attached.map_err(|unattached| {
            token_alerts::report_of_refused_request(
                &core.gateway,
                &unattached.agent,
                None,
                &request,
            );
            Refusal::from(unattached)
        })
    });
    let attached = match attached {
        Ok(attached) => attached,
        Err(refusal) => {
            if let Some(probed) = accepted.probed.get() {
                let seen = match request.uri().scheme() {
                    None => Seen::OriginForm,
                    Some(_) => Seen::Refused(respond::refusal_info(&refusal, None).into()),
                };
                let target = absolute_target(request.uri()).ok();
                probed.report(host(request.uri(), target), Some(request.headers()), seen);
            }
            let unopened = RefusedRequest { method: request.method(), path: None, agent: None };
            return refused(core, accepted, unopened, &refusal).await;
        }
    };
    let watchdog = accepted.watchdog.clone();
    let session = ProxySession::new(attached, TargetSource::Absolute, watchdog);
    exchange::answer(core.clone(), session, request).await
}

/// Serves CONNECT: authenticates, parses and routes; then answers 200 and serves the tunnel in a new task.
async fn connect(
    core: &Arc<Core>,
    accepted: &Arc<AcceptedStream>,
    mut request: Request<RequestBody>,
) -> Response<AnswerBody> {
    let stream = OccupiedStream::Accepted(accepted.clone());
    let format = RefusalFormat::Http;
    let mut exchange = match ExchangeGuard::begin(&core.gateway, stream, format).await {
        Ok(exchange) => exchange,
        Err(refusal) => return respond::unrecorded(&refusal, format),
    };
    exchange.record.set_request(&Method::CONNECT, None, None);
    exchange.record.continue_trace(request.headers());
    let target = target(&request);
    exchange.record.set_target(target.as_ref().ok());
    let named = target.as_ref().ok().cloned();
    let opened = open(core, accepted, &request, target, &mut exchange.record).await;
    if let Some(probed) = accepted.probed.get() {
        let seen = match &opened {
            Ok(_) => Seen::Tunnel,
            Err(refusal) => Seen::Refused(respond::refusal_info(refusal, None).into()),
        };
        let host = host(request.uri(), named.clone());
        probed.report(host, Some(request.headers()), seen);
    }
    match opened {
        Ok((attached, opening)) => {
            let upgrade = hyper::upgrade::on(&mut request);
            exchange.record.set_opened();
            let tunnel = OpenedTunnel { attached, opening, exchange };
            // On the heap: a task copies its future four times in its life.
            tokio::spawn(Box::pin(tunnel.serve(core.clone(), upgrade)));
            Response::new(AnswerBody::detached())
        }
        Err(refusal) => {
            if let Some(by) = accepted.revocation.end_exchange() {
                exchange.record.set_cut_by(&by);
            }
            respond::connect_refusal(&refusal, named.as_ref(), exchange)
        }
    }
}

async fn open(
    core: &Core,
    accepted: &Arc<AcceptedStream>,
    request: &Request<RequestBody>,
    target: Result<Target, Refusal>,
    record: &mut Record,
) -> Result<(AttachedAgent, ConnectOpening), Refusal> {
    let gateway = &core.gateway;
    let agent = authenticate(gateway, accepted, request)?;
    record.set_agent(&agent);
    let target = target?;
    without_body(request)?;
    let attached = accepted.attach_agent(gateway, agent)?;
    if accepted.probed.get().is_some() {
        let permit = Policy::route_examined(target);
        return Ok((attached, ConnectOpening::Intercept(permit)));
    }
    if ssh_agent::is_target(&target) {
        return Ok((attached, ConnectOpening::SshAgent));
    }
    let opening = match decide::route(gateway, attached.agent(), &target, record).await? {
        ConnectRoute::Intercept(permit) => ConnectOpening::Intercept(permit),
        ConnectRoute::Tunnel(permit) => {
            let dial = PermittedTunnel::dial(gateway, permit, &attached, record);
            ConnectOpening::Tunnel(Box::pin(dial).await?)
        }
    };
    Ok((attached, opening))
}

/// The target in the authority; the default port is 443 (RFC 9110 §9.3.6 requires one, gRPC omits it).
fn target(request: &Request<RequestBody>) -> Result<Target, Refusal> {
    let uri = request.uri();
    match (uri.authority(), uri.scheme(), uri.path()) {
        (Some(authority), None, "" | "/") => Ok(Target::parse(Scheme::Https, authority.as_str())?),
        _ => Err(Refusal::BadRequest("CONNECT names a host and a port, nothing else")),
    }
}

/// The host that an examined program names, also if it is refused as a target.
fn host(uri: &Uri, target: Option<Target>) -> Option<String> {
    target.map_or_else(|| uri.host().map(str::to_owned), |target| Some(target.authority()))
}

/// Checks that a CONNECT has no body (RFC 9110 §9.3.6): the following bytes belong to the tunnel.
fn without_body(request: &Request<RequestBody>) -> Result<(), Refusal> {
    let fields = request.headers();
    let length = fields.get_all(CONTENT_LENGTH).iter().all(|length| length == "0");
    match length && !fields.contains_key(TRANSFER_ENCODING) {
        true => Ok(()),
        false => Err(Refusal::BadRequest("CONNECT has no body")),
    }
}

impl OpenedTunnel {
    /// Serves the tunnel after hyper has written the 200.
    async fn serve(self, core: Arc<Core>, upgrade: OnUpgrade) {
        let Self { attached, opening, mut exchange } = self;
        let Ok(upgraded) = upgrade.await else { return };
        let Some((stream, early)) = h1::reclaim::<AgentStream>(upgraded) else {
            return tracing::error!("a CONNECT was upgraded to a stream of another kind");
        };
        let watchdog = Arc::new(Watchdog::idle());
        let stream = stream.into_tunnel(early, watchdog.clone());
        match opening {
            ConnectOpening::Intercept(permit) => {
                // Each request inside is a separate exchange; the CONNECT is not an exchange.
                exchange.record.discard();
                drop(exchange);
                intercept::intercept(core, stream, permit, attached).await;
            }
            // Each signature has a record.
            ConnectOpening::SshAgent => {
                exchange.record.discard();
                drop(exchange);
                Box::pin(ssh_agent::serve(stream, attached, core.gateway.clone())).await;
            }
            ConnectOpening::Tunnel(tunnel) => {
                let target_source =
                    TargetSource::Tunnel { target: tunnel.target().clone(), sni_agrees: true };
                let session = ProxySession::new(attached, target_source, watchdog);
                let record = &mut exchange.record;
                let splice = tunnel::splice(stream, tunnel, record, &session, &core.gateway);
                Box::pin(splice).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_refused_target_has_no_user() {
        let uri: Uri = "user:canary@any.test:443".parse().unwrap();
        assert_eq!(host(&uri, None).as_deref(), Some("any.test"));
    }
}
