//! [`DialledStream`]: a new stream to an upstream on which nothing has been sent.

use std::sync::Arc;

use crate::sockets::streams::{Io, SocketState};
use keyward_net::corporate::ForwardingStream;

/// A dialled and verified stream on which nothing has been sent.
pub struct DialledStream {
    pub io: Box<dyn Io>,
    pub socket: Arc<SocketState>,
    pub http2: bool,
    /// Whether the address is on the private list.
    pub private: bool,
    /// The generation of the TLS settings that it was made with.
    pub tls_generation: u64,
    /// How a corporate proxy expects requests that it forwards.
    pub forwarded: Option<ForwardingStream>,
}
