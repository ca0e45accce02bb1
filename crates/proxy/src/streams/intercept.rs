//! Terminates TLS inside a CONNECT with a leaf of the local CA, and serves the requests in it as exchanges.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::exchange;
use crate::gateway::Core;
use crate::probe::{HandshakeFailure, Seen};
use crate::record::Record;
use crate::server::h1::{self, StreamContext};
use crate::server::h2;
use crate::session::{AttachedAgent, ProxySession, TargetSource};
use crate::sockets::streams::AgentStream;
use keyward_base::agent::Agent;
use keyward_base::host::{Host, Target};
use keyward_net::tls::ALPN_HTTP2;
use keyward_rules::policy::InterceptPermit;
use keyward_state::observe::event::Outcome;

/// Terminates TLS, and serves the requests in the tunnel in a new task: this one keeps the memory of all that it has
/// awaited until it ends, which an idle tunnel does not need.
pub async fn intercept(
    core: Arc<Core>,
    stream: AgentStream,
    permit: InterceptPermit,
    attached: AttachedAgent,
) {
    let watchdog = stream.watchdog().clone();
    let tls = match handshake(&core, stream, &permit, attached.agent()).await {
        Ok(tls) => tls,
        Err(error) => match attached.accepted().probed.get() {
            None => return failed(&core, attached.agent(), permit.target(), &error).await,
            Some(probed) => {
                // The first byte begins a head.
                let has_begun = !watchdog.is_idle_for(Duration::ZERO);
                if let Some(failure) = HandshakeFailure::of(&error, has_begun) {
                    let host = Some(permit.target().authority());
                    probed.report(host, None, Seen::NoHandshake(failure));
                }
                return;
            }
        },
    };
    // The bytes of the handshake began no request.
    watchdog.end_exchange();
    let target = permit.target().clone();
    let sni_agrees = sni_agrees(tls.get_ref().1.server_name(), &target);
    let target_source = TargetSource::Tunnel { target, sni_agrees };
    let session = ProxySession::new(attached, target_source, watchdog);
    tokio::spawn(Box::pin(serve(core, tls, session)));
}

/// Serves the requests in a tunnel until it ends.
async fn serve(core: Arc<Core>, tls: Box<TlsStream<AgentStream>>, session: Arc<ProxySession>) {
    let context = StreamContext {
        core: &core,
        watchdog: &session.watchdog,
        revocation: session.revocation(),
        session: Some(&session),
    };
    if tls.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2) {
        return Box::pin(h2::serve(&core, tls, &session)).await;
    }
    let service = |request| exchange::answer(core.clone(), session.clone(), request);
    h1::serve(tls, context, service).await;
}

/// Accepts TLS. Bytes that are not TLS fail here and are never treated as a request.
async fn handshake(
    core: &Core,
    stream: AgentStream,
    permit: &InterceptPermit,
    agent: &Agent,
) -> io::Result<Box<TlsStream<AgentStream>>> {
    let gateway = &core.gateway;
    let handshake = async {
        let _turn = core.handshakes.take(&agent.id).await;
        let config = gateway.leaves.server_config(permit.target().host());
        let acceptor = TlsAcceptor::from(config.map_err(io::Error::other)?);
        acceptor.accept(stream).await
    };
    match tokio::time::timeout(gateway.limits.handshake_timeout, handshake).await {
        // More than a kilobyte, and handed on whenever the stream becomes idle or wakes.
        Ok(Ok(tls)) => Ok(Box::new(tls)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("it took too long")),
    }
}

async fn failed(core: &Core, agent: &Arc<Agent>, target: &Target, error: &io::Error) {
    core.gateway.metrics.handshakes_failed.inc();
    let cause = error.to_string().escape_debug().to_string();
    tracing::info!(agent = %agent.name, %target, cause, "the TLS handshake with the agent failed: does it trust the CA of the gateway?");
    if let Ok(mut record) = Record::begin(&core.gateway).await {
        record.set_agent(agent);
        record.set_request(&Method::CONNECT, Some(target), None);
        record.set_outcome(Outcome::ClientAborted);
    }
}

/// Whether the SNI names the target's host. Without SNI the CONNECT target alone counts.
fn sni_agrees(sni: Option<&str>, target: &Target) -> bool {
    match (sni, target.host()) {
        (None, _) | (_, Host::V4(_) | Host::V6(_)) => true,
        (Some(sni), host) => Host::parse(sni).is_ok_and(|named| named == *host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future_size::bytes_of;

    #[test]
    #[allow(unreachable_code)]
    fn the_future_of_an_intercepted_tunnel_fits_into_its_allocator_size_class() {
        let bytes = bytes_of(|| serve(unreachable!(), unreachable!(), unreachable!()));
        // A size class of jemalloc; the next is 1,792.
        assert!(bytes <= 1_536, "{bytes} bytes");
    }
}
