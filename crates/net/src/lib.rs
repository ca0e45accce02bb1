//! The only place that opens sockets outwards: resolve once, judge every address, connect the
//! address that was judged, verify TLS. Or the same with a corporate proxy, which resolves then.

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
