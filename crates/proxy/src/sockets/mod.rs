//! Byte streams without HTTP: listeners, sockets, copying, and the watchdog of an agent's stream.

pub mod copy;
pub mod h1_idle;
pub mod listener;
pub mod proxy_tls;
pub mod streams;
pub mod wake_filter;
pub mod watchdog;
pub mod websocket_frames;
