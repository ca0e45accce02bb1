//! Streams to upstreams that are kept for reuse: idle HTTP/1.1 streams and shared HTTP/2 streams.

mod closing;
pub mod dialled_stream;
pub mod http1;
pub mod http2;
pub mod idle_count;
pub mod interim;
pub mod keyed_streams;
pub mod protocols;
pub mod shared_streams;
#[cfg(test)]
mod stuck_io;
