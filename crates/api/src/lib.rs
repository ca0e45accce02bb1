//! The control plane: HTTP routers over the services, one file per resource.
//!
//! Every request has a [`auth::Caller`], made before it is routed: who, in which organisation, with
//! which rights. Two doors. The TCP listener opens only what needs no authentication; the unix socket, whose
//! peers are the owner of the process or root, opens the whole API. `app` builds [`Deps`] and runs
//! the doors; the command line calls the same router in process when no gateway runs.

mod activations;
mod agents;
mod apps;
mod audit;
pub mod auth;
mod bindings;
mod body;
mod ca;
mod call;
mod changes;
mod connection_change;
mod connection_search;
mod connection_test;
mod connections;
mod consents;
mod context;
mod error;
mod explain;
mod flows;
mod health;
mod honeytokens;
mod host;
mod html;
mod input;
mod kept;
mod keys;
mod ledger;
mod orgs;
mod owners;
mod page;
mod personal;
mod plugins;
mod probes;
mod providers;
mod refresh;
mod reload;
mod rotations;
mod router;
mod rule_test;
mod rules;
mod runs;
mod serve;
mod settings;
mod socket;
mod state;
#[cfg(test)]
mod tests;
mod tokens;
mod upstreams;
mod usage;
mod users;
mod webhooks;
pub mod wire;

pub use audit::{AuditLog, audit_router};
pub use error::ApiError;
pub use host::OwnNames;
pub use reload::{ReloadAsk, ReloadAsks, Reloads};
pub use router::{open_router, socket_router};
pub use runs::Runs;
pub use serve::{serve_socket, serve_tcp};
pub use socket::{AdminSocket, SOCKET_NAME, SocketError};
pub use state::{Admin, Deps, Places};
