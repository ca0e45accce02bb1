//! `keyward health`: exits with 0 if the gateway is ready, or alive; a container's HEALTHCHECK runs it. It uses the admin socket,
//! because another gateway may answer at the address of the admin listener.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use http::{Request, header};

use super::client::{self, Client, Remote};
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use keyward_api::wire::Health;
use keyward_base::host::{Host, Scheme, Target};
use keyward_net::dial::Dialler;
use keyward_net::guard::{AllowPrivate, Guard};
use keyward_net::wire::Wire;

/// A gateway on this machine that takes longer than this is not ready.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// exit with 0 if the gateway answers, also if it is not ready
    #[arg(long)]
    alive: bool,
}

/// Asks.
pub(crate) async fn run(Args { alive }: Args, global: &Global) -> Result<(), Failure> {
    let path = if alive { "/healthz" } else { "/readyz" };
    if let Some(remote) = Remote::of(global)? {
        let request = Request::get(path).body(Body::empty());
        let request =
            request.map_err(|error| Failure::failed("cannot write the request", &error))?;
        // Without a token.
        let bytes = client::read(Box::pin(remote.send(request)).await?).await?;
        let health = serde_json::from_slice(&bytes);
        let health = health.map_err(|_| not_a_gateway(&remote))?;
        return output::show(global.json, &health, |health: &Health| {
            format!("{}\n", health.status)
        });
    }
    let health = match Client::running(global).await {
        Ok(client) => client.get_promptly(path).await?,
        Err(failure) if failure.exit() == Exit::Unreachable => {
            return Err(stopped(global).await.unwrap_or(failure));
        }
        Err(failure) => return Err(failure),
    };
    output::show(global.json, &health, |health: &Health| format!("{}\n", health.status))
}

/// The failure if no gateway of this data directory runs, and the one of another answers at the configured address.
async fn stopped(global: &Global) -> Option<Failure> {
    // Without a readable configuration there is no listener to try. One that speaks TLS proves another name.
    let addr = global.admin_addr().ok().flatten()?;
    answers(addr).await.ok()?;
    let data = global.data_dir().ok()?;
    let message = format!("no gateway runs for {}: another one answers at {addr}", data.display());
    let hint = "start one at another address in `listen.admin`, or name the directory of the other one with --data";
    Some(Failure::new(Exit::Unreachable, message).hint(hint))
}

fn not_a_gateway(at: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Unreachable, format!("the server on {at} is not a gateway"))
}

/// Whether a gateway has this admin listener, ready or not.
///
/// # Errors
/// What the listener does instead.
pub(crate) async fn answers(at: SocketAddr) -> Result<(), String> {
    let stream = connect(at).await.ok_or("is not reachable")?;
    let request = Request::get("/healthz")
        .header(header::HOST, at.to_string())
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let answer = client::exchange(stream, request).await;
    let bytes = answer.map_err(|failure| format!("says: {}", failure.message()))?;
    let health = serde_json::from_slice::<Health>(&bytes);
    health.map(drop).map_err(|_| "belongs to another program".to_owned())
}

/// Connects with the dialler, whose guard allows this address.
pub(crate) async fn connect(addr: SocketAddr) -> Option<Wire> {
    let host = match addr.ip() {
        IpAddr::V4(v4) => Host::V4(v4),
        IpAddr::V6(v6) => Host::V6(v6),
    };
    let own = AllowPrivate::parse(&addr.to_string()).ok()?;
    let dialler = Dialler::new(Guard::new(vec![own], Vec::new()), Vec::new(), 1);
    let target = Target::new(Scheme::Http, host, addr.port());
    dialler.dial(&target, CONNECT_WITHIN).await.ok().map(|dialled| dialled.stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_listener_can_be_dialled_by_ipv4_and_by_ipv6() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for at in ["127.0.0.1:0", "[::1]:0"] {
                // A machine without IPv6 has nothing to dial there.
                let Ok(listener) = tokio::net::TcpListener::bind(at).await else { continue };
                assert!(connect(listener.local_addr().unwrap()).await.is_some(), "{at}");
            }
        });
    }
}
