//! Streams to upstreams that are kept for reuse: idle HTTP/1.1 streams and shared HTTP/2 streams.

pub mod dialled_stream;
pub mod http1;
pub mod http2;
pub mod interim;
pub mod protocols;
