//! The addresses of `localhost`: 127.0.0.1 and ::1. Sign-in links, redirect URIs and passkeys name it, so the admin listener
//! has both. On one that Keyward left free, a program of another user would get what browsers send.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use super::error::{AppError, LOCALHOST_KEY};
use super::public_url::{public_target, public_url};
use crate::config::{Config, ListenAt};

/// How often another port is tried for port 0, until it is free at both addresses.
const PORTS_MAX: usize = 16;

/// Binds `listen.admin`, and the other addresses of `localhost` if `public_url` names it. The first is that of
/// `listen.admin`.
///
/// # Errors
/// When one of them is in use, by whichever program.
pub async fn bind_admin(config: &Config) -> Result<Vec<TcpListener>, AppError> {
    let at = config.listen.admin;
    let mut tries = 0;
    loop {
        let first =
            TcpListener::bind(at).await.map_err(|error| refused("listen.admin", at, error))?;
        let mut all = vec![first];
        match bind_others(config, &mut all, |_| None).await {
            Err(AppError::Listen { source, .. })
                if at.port() == 0
                    && source.kind() == io::ErrorKind::AddrInUse
                    && tries < PORTS_MAX =>
            {
                tries += 1;
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(all),
        }
    }
}

/// Adds listeners at the addresses of `localhost` that `all` does not have. `taken`: those of the gateway before.
///
/// # Errors
/// When one is in use.
pub(super) async fn bind_others(
    config: &Config,
    all: &mut Vec<TcpListener>,
    mut taken: impl FnMut(SocketAddr) -> Option<TcpListener>,
) -> Result<(), AppError> {
    let bound: Vec<_> = all.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    for at in others(config, &bound) {
        if let Some(listener) = taken(at) {
            all.push(listener);
            continue;
        }
        match TcpListener::bind(at).await {
            Ok(listener) => all.push(listener),
            Err(error) if is_absent(&error) => {
                tracing::info!(%at, "this machine does not have this address of `localhost`, so no program listens there");
            }
            Err(error) => return Err(refused(LOCALHOST_KEY, at, error)),
        }
    }
    Ok(())
}

/// The addresses that browsers may use for `public_url`, beside those that are bound.
pub fn others(config: &Config, bound: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = bound.first() else { return Vec::new() };
    let public = public_target(&public_url(config, *first));
    // Behind another port, such as that of a container, another program listens for browsers.
    let is_named = public.is_some_and(|public| {
        public.host().name() == Some("localhost") && public.port() == first.port()
    });
    let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let is_open = |ip: &IpAddr| is_named && !bound.iter().any(|at| covers(at.ip(), *ip));
    both.into_iter().filter(is_open).map(|ip| SocketAddr::new(ip, first.port())).collect()
}

/// Whether streams to `ip` arrive at a listener that is bound to `bound`. `::` also has all IPv4 addresses.
fn covers(bound: IpAddr, ip: IpAddr) -> bool {
    bound == ip || bound.is_unspecified() && (bound.is_ipv6() || ip.is_ipv4())
}

/// Whether the machine does not have the address, such as one without IPv6.
pub fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AFNOSUPPORT)
}

fn refused(key: &'static str, at: SocketAddr, source: io::Error) -> AppError {
    AppError::Listen { key, at: ListenAt::Tcp(at), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_covered_by_itself_and_by_listeners_on_all_addresses_of_its_kind() {
        for (bound, ip, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "::1", false),
            ("::1", "127.0.0.1", false),
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "::1", false),
            ("::", "127.0.0.1", true),
            ("::", "::1", true),
            ("10.0.0.5", "127.0.0.1", false),
        ] {
            assert_eq!(
                covers(bound.parse().unwrap(), ip.parse().unwrap()),
                expected,
                "{bound} {ip}"
            );
        }
    }

    #[test]
    fn a_missing_address_or_family_is_no_refusal_and_a_taken_one_is() {
        let of = |errno: rustix::io::Errno| io::Error::from(errno);
        use rustix::io::Errno;
        assert!(is_absent(&of(Errno::ADDRNOTAVAIL)) && is_absent(&of(Errno::AFNOSUPPORT)));
        assert!(!is_absent(&of(Errno::ADDRINUSE)) && !is_absent(&of(Errno::ACCESS)));
    }
}
