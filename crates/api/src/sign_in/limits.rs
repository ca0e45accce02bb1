//! [`SignInLimits`]: how often clients may fail to sign in.

use std::net::{IpAddr, Ipv6Addr};

use keyward_base::limits::Limits;
use keyward_proxy::AuthFailures;

use crate::network::seconds;
use crate::request_refusal::RequestRefusal;

/// Failures are counted by the network of the client. A valid link is always accepted: it has 256 random bits, so the
/// limit only has to keep guesses cheap.
#[derive(Debug)]
pub(crate) struct SignInLimits {
    links: AuthFailures,
}

impl SignInLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { links: AuthFailures::new(limits.auth_failures_per_minute_max) }
    }

    /// Counts a link that does not work.
    ///
    /// # Errors
    /// When there were too many from this network.
    pub(super) fn link_failed(&self, client: IpAddr) -> Result<(), RequestRefusal> {
        match self.links.failed(Some(network(client))) {
            None => Ok(()),
            Some(wait) => Err(RequestRefusal::SignInFailures { retry_after: seconds(wait) }),
        }
    }
}

/// The address of an IPv4 client; the /64 of an IPv6 client, who can choose among its addresses.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_client_does_not_guess_from_each_of_its_addresses() {
        let limits = Limits { auth_failures_per_minute_max: 1, ..Limits::default() };
        let limits = SignInLimits::new(&limits);
        let fails = |client: &str| limits.link_failed(client.parse().unwrap()).is_err();
        assert!(!fails("2001:db8::1"));
        assert!(fails("2001:db8::2"));
        assert!(!fails("2001:db8:0:1::1"));
        assert!(!fails("192.0.2.1"));
        assert!(fails("::ffff:192.0.2.1"));
    }
}
