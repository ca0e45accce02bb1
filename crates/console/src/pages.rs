//! The pages, a file for each, and their paths.

mod agent;
mod agents;
mod apps;
mod audit;
mod binding;
mod connect;
mod connected;
mod connection;
mod connections;
mod databases;
mod find;
mod honeytokens;
mod hook;
mod hooks;
mod login;
mod means;
mod overview;
mod people;
mod person;
mod personal_tokens;
mod plan;
mod plugins;
mod replicas;
mod rules;
mod services;
mod settings;
mod sources;
mod store_check;
mod streams;
mod timeline;
mod traffic;
mod webhook;
mod webhooks;

use axum::Router;

use crate::visit::{Console, PageError};

pub(crate) fn routes() -> Router<Console> {
    Router::new()
        .merge(overview::routes())
        .merge(connections::routes())
        .merge(connection::routes())
        .merge(connect::routes())
        .merge(connected::routes())
        .merge(agents::routes())
        .merge(agent::routes())
        .merge(binding::routes())
        .merge(traffic::routes())
        .merge(rules::routes())
        .merge(plugins::routes())
        .merge(apps::routes())
        .merge(services::routes())
        .merge(find::routes())
        .merge(login::routes())
        .merge(audit::routes())
        .merge(webhooks::routes())
        .merge(webhook::routes())
        .merge(hooks::routes())
        .merge(hook::routes())
        .merge(honeytokens::routes())
        .merge(sources::routes())
        .merge(people::routes())
        .merge(person::routes())
        .merge(databases::routes())
        .merge(settings::routes())
        .merge(plan::routes())
        .merge(store_check::routes())
        .method_not_allowed_fallback(|| async { PageError::without_script() })
}
