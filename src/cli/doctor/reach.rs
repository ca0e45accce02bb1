//! The way to the providers: names, addresses and certificates, by the dialler and the verifier that
//! serve requests. No request is sent, and so no credential.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::task::JoinSet;

use super::Install;
use super::report::Report;
use crate::admin::wire::ConnectionView;
use crate::base::host::{Scheme, Target};
use crate::config::{Config, UpstreamProxy};
use crate::net::client::{CertificateFault, HandshakeError, connect_tls};
use crate::net::dial::{DialError, Dialler, Judged};
use crate::net::guard::Guard;
use crate::net::tls;

const ID: &str = "upstream";
/// For resolving and connecting, and again for the handshake.
const WITHIN: Duration = Duration::from_secs(5);
/// Hosts that are tried; all at once, so that the whole takes no longer than one.
const HOSTS_MAX: usize = 50;

/// Shakes hands with every host that an active connection is for. Patterns are no hosts.
pub(super) async fn look(
    install: &Install<'_>,
    connections: &[ConnectionView],
    report: &mut Report,
) {
    let Some(tls) = trust(&install.config, report) else { return };
    let Some(dialler) = dialler(&install.config, &tls, report) else { return };
    let active = connections.iter().filter(|c| c.state.is_usable());
    let hosts: BTreeSet<_> = active.flat_map(|c| &c.hosts).filter(|h| !h.contains('*')).collect();
    let mut tries = JoinSet::new();
    let targets = hosts.iter().filter_map(|host| Target::parse(Scheme::Https, host).ok());
    for target in targets.take(HOSTS_MAX) {
        let (dialler, tls) = (dialler.clone(), tls.clone());
        tries.spawn(async move {
            let tried = reach(&dialler, tls, &target).await;
            (target, tried)
        });
    }
    let mut found = tries.join_all().await;
    found.sort_by_key(|(target, _)| target.authority());
    for (target, tried) in found {
        match tried {
            Ok(way) => {
                let at = target.authority();
                report.ok(ID, format!("{at} answers{way}, and proves who it is"));
            }
            Err((message, hint)) => report.fail(ID, message, hint),
        }
    }
    if hosts.len() > HOSTS_MAX {
        let more = hosts.len() - HOSTS_MAX;
        report.warn(ID, format!("{more} more hosts were not tried"), "");
    }
}

/// What upstreams are verified against.
fn trust(config: &Config, report: &mut Report) -> Option<Arc<ClientConfig>> {
    let mut roots = Vec::new();
    for path in &config.upstream.trust {
        match tls::load_pem_certs(path) {
            Ok(certs) => roots.extend(certs),
            Err(error) => {
                report.fail(ID, error.to_string(), "correct `upstream.trust`");
                return None;
            }
        }
    }
    let made = tls::client_config(&roots);
    made.map_err(|error| report.fail(ID, error.to_string(), "correct `upstream.trust`")).ok()
}

/// Dials as the gateway does. It has the proxy's password where its service has it, which may not be
/// where the doctor is called.
fn dialler(config: &Config, tls: &ClientConfig, report: &mut Report) -> Option<Arc<Dialler>> {
    let upstream = &config.upstream;
    let hidden = config.secret_variables();
    let load = |proxy: &UpstreamProxy| proxy.load(&config.environment, &hidden);
    let proxy = match upstream.proxy.as_ref().map(load).transpose() {
        Ok(proxy) => proxy.map(|proxy| proxy.verified_as(tls)),
        Err(error) => {
            let hint = "run the doctor with the gateway's environment, and as its user";
            report.warn(ID, format!("no host was tried: {error}"), hint);
            return None;
        }
    };
    let guard = Guard::new(upstream.allow_private.clone(), Vec::new());
    let dialler = Dialler::new(guard, upstream.resolve.clone(), config.limits.addresses_max);
    Some(Arc::new(dialler.by(proxy)))
}

/// Answers by which way it was reached, when that is not the direct one.
async fn reach(
    dialler: &Dialler,
    tls: Arc<ClientConfig>,
    target: &Target,
) -> Result<String, (String, String)> {
    let way = dialler.way(target).map(|proxy| format!(" by the corporate proxy {proxy}"));
    let dialled = match dialler.dial(target, WITHIN).await {
        Ok(dialled) => dialled,
        Err(error) => return Err(undialled(dialler, target, &error).await),
    };
    let shaken = connect_tls(dialled.stream, target, tls, WITHIN).await;
    shaken.map(|_| way.unwrap_or_default()).map_err(|error| unproven(target, &error))
}

async fn undialled(dialler: &Dialler, target: &Target, error: &DialError) -> (String, String) {
    let at = target.authority();
    match error {
        DialError::Resolve { .. } => (
            error.to_string(),
            format!(
                "check the DNS of this machine, or give its address: \
                 `upstream: {{ resolve: {{ \"{at}\": ADDRESS:{} }} }}`",
                target.port()
            ),
        ),
        DialError::Refused { .. } => {
            let judged = tokio::time::timeout(WITHIN, dialler.judge(target)).await;
            let judged = match judged {
                Ok(Ok(Judged::Addresses(judged))) => judged,
                _ => Vec::new(),
            };
            let refused = judged.into_iter().find(|(_, verdict)| verdict.is_err());
            let addr = refused.map_or_else(|| "ADDRESS:PORT".to_owned(), |r| r.0.to_string());
            (
                format!("{error}: {addr}"),
                format!("if that is right: `upstream: {{ allow_private: [\"{addr}\"] }}`"),
            )
        }
        DialError::Proxy { fault, .. } => (error.to_string(), fault.hint().to_owned()),
        DialError::Connect { .. } | DialError::Timeout { .. } => (
            error.to_string(),
            format!("check that this machine may connect to {at}: a firewall may be in between"),
        ),
    }
}

fn unproven(target: &Target, error: &HandshakeError) -> (String, String) {
    let hint = match error {
        HandshakeError::Certificate { fault: CertificateFault::UnknownIssuer, .. } => {
            "if a proxy of your company looks into TLS, or the service has its own CA, trust \
             that: `upstream: { trust: [FILE.pem] }`"
        }
        HandshakeError::Certificate {
            fault: CertificateFault::Expired | CertificateFault::NotYetValid,
            ..
        } => "check the clock of this machine; if it is right, tell the service's owner",
        HandshakeError::Certificate { .. } => {
            "ask the service's owner: requests are not sent there"
        }
        HandshakeError::Handshake { .. } | HandshakeError::Timeout { .. } => {
            "something else than the service may answer there: check DNS and firewall"
        }
    };
    (format!("{error} ({})", target.authority()), hint.to_owned())
}
