//! Outbound sockets: resolve once, check every address, connect to a checked address, verify TLS. No other
//! crate opens outbound sockets. With a corporate proxy, the proxy resolves names.

pub mod by_proxy;
pub mod call;
pub mod client;
pub mod corporate;
pub mod dial;
pub mod evictable;
pub mod guard;
pub mod processes;
mod race;
pub mod reach;
mod special;
pub mod tls;
pub mod whole;
pub mod wire;
