//! The control plane: HTTP routers over the services, with a file per resource.
//!
//! Every request has a [`auth::Caller`], made before routing: identity, organisation and rights. There are two
//! listeners, both with the whole API. The TCP listener serves it for users' tokens and logins; on the unix socket, whose
//! peers are the process's owner or root, a request without a token is the operator's. `app` provides [`Deps`] and runs
//! the listeners; the command line calls the same router within the process when no gateway runs.
//!
//! What is served here is JSON. Pages for browsers are of the console: the routers take them as an argument, and the pages
//! of consents, connect sessions and sign-ins call [`consents`], [`connect_sessions::walk`] and [`oidc`].
//!
//! ```text
//! router  serve  socket  network  host          the listeners, their routes, and who may reach them
//! auth  sign_in  users                          who asks: tokens, logins, second factors
//! context  resource  input  body  page  etag    what handlers of all resources share
//! idempotency                                   POST requests that are repeated
//! change_record  audit_log                      the audit record of each change
//! error  request_refusal                        refusals
//! openapi  wire  index                          the document of the API, its JSON, its index
//! page_request  consents  connect_sessions      what pages for browsers do
//! ```
//!
//! The first line of each other file names its routes, or what it does for those of others.

mod agents;
mod apps;
mod audit;
mod audit_log;
pub mod auth;
mod backup;
mod body;
mod body_bytes;
mod ca;
mod catch_up;
mod change_record;
pub mod connect_sessions;
mod connection_test;
mod connections;
pub mod consents;
mod context;
mod database_listeners;
mod error;
mod etag;
mod explain;
mod export;
pub mod handler;
mod health;
mod honeytokens;
mod hooks;
mod host;
mod idempotency;
mod index;
mod input;
mod keys;
mod network;
mod openapi;
mod orgs;
mod page;
mod page_request;
mod plugins;
mod providers;
mod reload;
mod reload_requests;
mod replicas;
mod request_id;
mod request_refusal;
mod resource;
mod router;
mod rules;
mod serve;
mod sign_in;
mod socket;
mod sources;
mod state;
mod streams;
mod summary;
#[cfg(test)]
mod tests;
mod tokens;
mod upstreams;
mod usage;
mod users;
mod valid_rules;
mod webhooks;
pub mod wire;

pub use crate::reload_requests::{ReloadRequest, ReloadRequests, Reloads};
pub use agents::run_counter::Runs;
pub use audit_log::AuditLog;
pub use backup::check_content;
pub use catch_up::before_pages;
pub use connect_sessions::make_links;
pub use error::ApiError;
pub use health::PublicFacts;
pub use host::{Arrival, OwnNames};
pub use network::NetworkAccess;
pub use page_request::PageRequest;
pub use replicas::announce;
pub use request_refusal::RequestRefusal;
pub use router::{
    hooks_router, metrics_router, network_router, open_router, openapi, own_names_only,
    socket_router,
};
pub use serve::{AdminTls, ListenerStop, serve_hooks, serve_metrics, serve_network, serve_socket};
pub use sign_in::{oidc, own_path};
pub use socket::{AdminSocket, SOCKET_NAME, SocketError};
pub use state::{Admin, DatabaseLocation, Deps, Locations};
