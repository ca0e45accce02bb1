//! `GET /upstreams`: whether the gateway reaches the hosts of its connections, with its own environment,
//! addresses and roots. For `keyward doctor`. No request is sent, and so no credential.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use tokio::task::JoinSet;

use super::auth::Caller;
use super::connection_view::hosts;
use super::error::ApiError;
use super::openapi::Routes;
use super::state::Admin;
use super::wire::{List, UpstreamView};
use keyward_base::host::{Scheme, Target};
use keyward_model::Connection;
use keyward_net::reach::reach;

/// Hosts that are tried; all at once, so that the whole takes no longer than one.
const HOSTS_MAX: usize = 50;

pub(super) fn routes() -> Routes {
    Routes::new().get(
        "/upstreams",
        ["listUpstreams", "List hosts of connections, and whether they are reached"],
        list,
    )
}

/// Of every connection that can be used. Patterns are no hosts.
async fn list(
    State(admin): State<Admin>,
    caller: Caller,
) -> Result<Json<List<UpstreamView>>, ApiError> {
    // Only a gateway has an environment that is worth asking about.
    if admin.locations().is_none() {
        return Err(ApiError::NoSuchPath);
    }
    let gateway = admin.deps().data_path.upgrade().ok_or(ApiError::Draining)?;
    let directory = admin.deps().directory.view();
    let usable = directory.all::<Connection>(caller.org()).filter(|it| caller.sees_connection(it));
    let usable = usable.filter(|it| it.facts.state.is_usable());
    let hosts: BTreeSet<_> =
        usable.flat_map(|it| hosts(&admin.deps().vault.catalogue(&it.org), it)).collect();
    let literal = hosts.iter().filter(|host| !host.contains('*'));
    let targets = literal.filter_map(|host| Target::parse(Scheme::Https, host).ok());
    let mut tries = JoinSet::new();
    for target in targets.take(HOSTS_MAX) {
        let gateway = gateway.clone();
        tries.spawn(async move {
            let tried = reach(&gateway.dialler, gateway.upstream_tls(), &target).await;
            UpstreamView::new(&target, tried)
        });
    }
    let mut items = tries.join_all().await;
    items.sort_by(|a, b| a.host.cmp(&b.host));
    Ok(Json(List { items, next: None }))
}
