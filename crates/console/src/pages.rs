//! The pages, a file for each, and their paths.

mod agent;
mod agents;
mod apps;
mod connect;
mod connection;
mod connections;
mod find;
mod login;
mod overview;
mod plugins;
mod rules;
mod services;
mod timeline;
mod traffic;

use axum::Router;

use crate::visit::Console;

pub(crate) fn routes() -> Router<Console> {
    Router::new()
        .merge(overview::routes())
        .merge(connections::routes())
        .merge(connection::routes())
        .merge(connect::routes())
        .merge(agents::routes())
        .merge(agent::routes())
        .merge(traffic::routes())
        .merge(rules::routes())
        .merge(plugins::routes())
        .merge(apps::routes())
        .merge(services::routes())
        .merge(find::routes())
        .merge(login::routes())
}
