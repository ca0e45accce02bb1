//! HTTP/2 on both legs, by the `h2` crate: hyper hides what a proxy must pass on (resets and their
//! codes, GOAWAY, which streams were not processed) and what it must bound.
//!
//! `agents` serves an agent's stream, `stream` one request of it; `upstream` keeps the streams that
//! many exchanges share; `pump` sends bodies on either leg.

pub mod agents;
pub mod gather;
pub mod meter;
mod pump;
mod stream;
pub mod upstream;
pub mod websocket;

/// What one exchange may be sent before it is passed on, in bytes: 10 MiB/s at 50 ms of way.
const STREAM_WINDOW: u32 = 512 * 1024;

/// A bound for h2, which counts in 32 bits.
fn bytes_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
