//! The pages, a file for each, and their paths.

mod agent;
mod agents;
mod connect;
mod connection;
mod connections;
mod find;
mod login;
mod overview;
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
        .merge(find::routes())
        .merge(login::routes())
}
