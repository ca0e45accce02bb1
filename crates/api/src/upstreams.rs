//! `GET /upstreams`: whether the gateway reaches the hosts of its connections, with its own environment,
//! addresses and roots, and with the certificates of the connections. For `keyward doctor`. No request is sent, and so no
//! credential.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use tokio::task::JoinSet;
use tokio_rustls::rustls::ClientConfig;

use super::connections::connection_view::instance;
use super::context::Context;
use super::error::ApiError;
use super::openapi::Routes;
use super::rules::effective_rules::effective;
use super::state::Admin;
use super::wire::{List, UpstreamView};
use keyward_base::host::{Scheme, Target};
use keyward_base::id::ConnectionId;
use keyward_base::pattern::HostPattern;
use keyward_model::Connection;
use keyward_net::client::CertificateFault;
use keyward_net::dial::Dialler;
use keyward_net::reach::{Unreached, reach};
use keyward_proxy::Gateway;
use keyward_rules::provider::TlsFields;
use keyward_state::directory::ConnectionRecord;

/// Hosts that are tried; all at once, so that the whole takes no longer than one.
const HOSTS_MAX: usize = 50;

/// A host, as connections reach it.
struct UpstreamHost {
    target: Target,
    /// The same host over cleartext, if a rule allows it there.
    cleartext: Option<Target>,
    tls: Arc<ClientConfig>,
    /// The connection, if its auth method has a field for the CA.
    own_ca: Option<OwnCa>,
}

struct OwnCa {
    connection: String,
    field: String,
}

pub(super) fn routes() -> Routes {
    Routes::new().get(
        "/upstreams",
        ["listUpstreams", "List hosts of connections, and whether they are reached"],
        list,
    )
}

/// Of every connection that can be used. Patterns are no hosts.
async fn list(context: Context) -> Result<Json<List<UpstreamView>>, ApiError> {
    let gateway = context.deps().data_path.upgrade().ok_or(ApiError::Draining)?;
    let mut tries = JoinSet::new();
    for host in hosts(&context, &gateway).await.into_iter().take(HOSTS_MAX) {
        let gateway = gateway.clone();
        tries.spawn(async move { host.tried(&gateway.dialler).await });
    }
    let mut items = tries.join_all().await;
    items.sort_by(|a, b| a.host.cmp(&b.host));
    Ok(Json(List { items, next: None }))
}

/// The hosts of connections that can be used: once for all connections without certificates of their own, and once for each
/// other one. Hosts of a connection whose certificates are not known are omitted.
async fn hosts(context: &Context, gateway: &Gateway) -> Vec<UpstreamHost> {
    let (view, caller) = (context.view(), &context.caller);
    let usable = view.all::<Connection>(caller.org()).filter(|it| caller.sees_connection(it));
    let usable: Vec<_> = usable.filter(|it| it.facts.state.is_usable()).cloned().collect();
    let rules = effective(context);
    let mut hosts: BTreeMap<(Target, Option<ConnectionId>), UpstreamHost> = BTreeMap::new();
    for connection in usable {
        let catalogue = context.deps().vault.catalogue(&connection.org);
        let Some(instance) = instance(&catalogue, &connection) else { continue };
        let Some(tls) = tls(&context.admin, gateway, &connection).await else { continue };
        let own = instance.tls.as_ref().map(|_| connection.id.clone());
        for pattern in &instance.hosts {
            let Some(target) = target(Scheme::Https, pattern) else { continue };
            let host = hosts.entry((target.clone(), own.clone())).or_insert_with(|| UpstreamHost {
                target,
                cleartext: None,
                tls: tls.clone(),
                own_ca: OwnCa::of(&connection, instance.tls.as_ref()),
            });
            if rules.iter().any(|rule| rule.spec.allows_cleartext(connection.name(), pattern)) {
                host.cleartext = self::target(Scheme::Http, pattern);
            }
        }
    }
    hosts.into_values().collect()
}

/// How the gateway verifies the hosts of the connection; `None`: its certificates cannot be read.
async fn tls(
    admin: &Admin,
    gateway: &Gateway,
    connection: &ConnectionRecord,
) -> Option<Arc<ClientConfig>> {
    let own = admin.deps().vault.refresh().known_tls(connection).await.ok()?;
    gateway.upstream_tls_of(own.as_ref()).ok()
}

/// `None`: the pattern has a wildcard.
fn target(scheme: Scheme, pattern: &HostPattern) -> Option<Target> {
    pattern.literal().and_then(|_| Target::parse(scheme, &pattern.to_string()).ok())
}

impl OwnCa {
    fn of(connection: &ConnectionRecord, names: Option<&TlsFields>) -> Option<Self> {
        let field = names?.ca.clone()?;
        Some(Self { connection: connection.name().to_owned(), field })
    }
}

impl UpstreamHost {
    async fn tried(self, dialler: &Dialler) -> UpstreamView {
        let tried = reach(dialler, self.tls.clone(), &self.target, self.cleartext.as_ref()).await;
        UpstreamView::new(&self.target, tried.map_err(|unreached| self.explained(unreached)))
    }

    /// A CA of the gateway is trusted for all hosts, and not used where a connection has its own.
    fn explained(&self, unreached: Unreached) -> Unreached {
        let (Some(OwnCa { connection, field }), Some(CertificateFault::UnknownIssuer)) =
            (&self.own_ca, unreached.fault)
        else {
            return unreached;
        };
        let hint = format!(
            "give connection {connection} the CA of the service: `keyward connection rotate {connection} \
             --secret-file {field}=FILE`, with its other secrets"
        );
        Unreached { hint, ..unreached }
    }
}
