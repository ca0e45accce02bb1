//! Streams to upstreams that are kept for reuse: idle HTTP/1.1 streams and shared HTTP/2 streams.

pub mod dialled_stream;
pub mod http1;
pub mod http2;
pub mod idle_count;
pub mod interim;
pub mod keyed_streams;
pub mod protocols;
pub mod shared_streams;

use std::time::Duration;

/// How long a dropped stream may write what is left. A peer that does not read would keep its descriptor, which no agent's
/// share contains.
pub const CLOSING_TIMEOUT: Duration = Duration::from_secs(10);
