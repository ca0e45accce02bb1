//! TCP keepalive. Without it, a NAT or firewall forgets a stream that is silent for some minutes, and neither end
//! learns that it is gone; nor does the gateway learn that a peer has vanished.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// The silence before the first probe. NATs forget streams after one minute (some home routers) to six minutes (AWS).
const IDLE: Duration = Duration::from_secs(30);

/// The time between two probes without an answer. Linux gives a stream up after nine.
const INTERVAL: Duration = Duration::from_secs(15);

/// Enables keepalive for a stream, or for all streams that a listener accepts: they take it from the listener (tcp(7)).
///
/// # Errors
/// When the system refuses the options.
pub fn enable(socket: &impl AsFd) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL);
    SockRef::from(socket).set_tcp_keepalive(&probes)
}
