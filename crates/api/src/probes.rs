//! `GET /probes?at=ADDRESS`: while the response is read, streams from the reader's child processes are
//! forwarded to the probe at that address, without credentials. The admin socket identifies the reader, so a
//! client can only name its own process.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Extension;
use axum::body::Body as Answer;
use axum::extract::State;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::Caller;
use super::body::Params;
use super::error::ApiError;
use super::openapi::{JsonLinesAnswer, Routes};
use super::state::Admin;
use keyward_net::processes;

/// The first line of the response; the probe is active from then on.
const BEGUN: &[u8] = b"{}\n";

/// The only line of the response, which has no members.
#[derive(JsonSchema)]
struct Begun {}

/// The process at the other end of the admin socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) Option<u32>);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProbeQuery {
    /// The probe's address, on loopback.
    at: SocketAddr,
}

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/probes", ["holdProbe", "Forward streams of own processes to a probe, while the answer is read; on the socket only"], hold)
}

async fn hold(
    State(admin): State<Admin>,
    _caller: Caller,
    peer: Option<Extension<Peer>>,
    Params(ProbeQuery { at }): Params<ProbeQuery>,
) -> Result<JsonLinesAnswer<Begun, 200>, ApiError> {
    // Only a gateway has listeners whose streams can be forwarded.
    if admin.locations().is_none() {
        return Err(ApiError::NoSuchPath);
    }
    if !at.ip().is_loopback() {
        return Err(ApiError::field("at", "is not an address of loopback"));
    }
    let root = peer.and_then(|Extension(Peer(pid))| pid);
    let root = root.filter(|pid| processes::can_tell(*pid)).ok_or_else(cannot_tell)?;
    // A private gateway ends with its runs; a probe counts as one.
    let run = admin.runs().count();
    let gateway = admin.deps().data_path.upgrade().ok_or(ApiError::Draining)?;
    let held = gateway.probes().add(root, at).ok_or_else(too_many)?;
    // The data path ends before the control plane does, so this handler must not keep it alive.
    drop(gateway);
    let first = futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from_static(BEGUN))]);
    let rest = futures_util::stream::once(async move {
        let _until_the_reader_is_gone = (held, run);
        admin.drain_started().await;
        Ok(Bytes::new())
    });
    let body = Answer::from_stream(futures_util::StreamExt::chain(first, rest));
    Ok(JsonLinesAnswer::new(body))
}

fn cannot_tell() -> ApiError {
    ApiError::refused("the gateway cannot determine the program of a stream")
        .hint("run the gateway on Linux with /proc, outside of a container of its own")
}

fn too_many() -> ApiError {
    ApiError::refused("too many programs are tried out at once")
        .hint("wait until another `keyward doctor` has ended")
}
