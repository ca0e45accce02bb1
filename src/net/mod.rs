//! The only place that opens sockets outwards: resolve once, judge every address, connect the
//! address that was judged, verify TLS.

pub mod client;
pub mod dial;
pub mod guard;
mod race;
mod special;
pub mod tls;
