//! Facts about a network request that the middleware determines before authentication.

use std::net::IpAddr;

/// A request that did not come in cleartext from another machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecureRequest {
    /// The address of the client.
    pub(super) client: IpAddr,
    /// Whether the client used TLS, which decides the name of the cookie.
    pub(super) is_https: bool,
    /// Whether a page of another origin sent it, as the configuration allows: without cookies.
    pub(super) is_foreign: bool,
}
