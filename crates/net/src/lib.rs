//! Outbound sockets: resolve once, check every address, connect to a checked address, verify TLS. No other
//! crate opens outbound sockets. With a corporate proxy, the proxy resolves names.

pub mod call;
pub mod client;
pub mod corporate;
pub mod dial;
mod dial_error;
pub mod evictable;
pub mod guard;
mod lookups;
pub mod processes;
mod proxy_tunnel;
mod race;
pub mod reach;
pub mod read_body;
pub mod seed_list;
pub mod service_clocks;
mod special;
pub mod tls;
pub mod wire;
