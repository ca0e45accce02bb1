//! The probe's listeners: one for the proxy variables, one in place of the agent's own listener, and one to
//! which the gateway hands the program's streams. `answers.rs` serves the streams. The probe opens no
//! outbound connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::answers;
use super::seen::{EVENTS_MAX, ListenerKind, Observations, ProbeState};
use crate::cli::failure::Failure;
use keyward_base::time::Clock;
use keyward_proxy::Preface;
use keyward_proxy::ca::authority::Authority;
use keyward_proxy::ca::cache::LeafCache;

/// Streams at once; more wait.
const STREAMS_MAX: u32 = 512;
/// How long streams are read after the program has ended.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// Longest line that the gateway sends before a stream that it hands over.
const PREFACE_BYTES_MAX: usize = 4096;

const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// The listeners of a probe. Dropping it closes them.
pub(super) struct ProbeListeners {
    at: SocketAddr,
    own: SocketAddr,
    handed: SocketAddr,
    shared: Arc<ProbeState>,
    end: watch::Sender<bool>,
    /// One task per listener, until `end` is true.
    tasks: JoinSet<()>,
}

impl ProbeListeners {
    /// Listens on free ports of loopback. The listener of the proxy variables requires `token`.
    pub(super) async fn open(authority: Arc<Authority>, token: &str) -> Result<Self, Failure> {
        let shared = Arc::new(ProbeState {
            leaves: LeafCache::new(authority, EVENTS_MAX, Clock::System),
            token: token.to_owned(),
            seen: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX as usize)),
        });
        let (end, ends) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut bound = Vec::new();
        for kind in [Some(ListenerKind::Variables), Some(ListenerKind::Own), None] {
            let cannot = |error: io::Error| Failure::failed("cannot listen on loopback", &error);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(cannot)?;
            bound.push(listener.local_addr().map_err(cannot)?);
            tasks.spawn(accept(listener, kind, shared.clone(), ends.clone()));
        }
        Ok(Self { at: bound[0], own: bound[1], handed: bound[2], shared, end, tasks })
    }

    /// The address for the proxy variables.
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// The address that replaces the agent's own listener.
    pub(super) fn own(&self) -> SocketAddr {
        self.own
    }

    /// The address to which the gateway hands streams over.
    pub(super) fn handed(&self) -> SocketAddr {
        self.handed
    }

    /// Reads the streams of the ended program to their ends, and returns the observations.
    pub(super) async fn finish(mut self) -> Observations {
        let all = async {
            let _ = self.end.send(true);
            while self.tasks.join_next().await.is_some() {}
            drop(self.shared.streams.acquire_many(STREAMS_MAX).await);
        };
        drop(tokio::time::timeout(SETTLED_WITHIN, all).await);
        std::mem::take(&mut *self.shared.seen.lock())
    }
}

/// Accepts until `end` is true, and then the streams that are already connected. Without a kind, the
/// gateway hands the streams over, and each begins with a [`Preface`].
async fn accept(
    listener: TcpListener,
    kind: Option<ListenerKind>,
    shared: Arc<ProbeState>,
    mut end: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => begin(stream, kind.clone(), &shared).await,
                // Out of descriptors: ending streams free theirs.
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            },
            () = end_signal(&mut end) => break,
        }
    }
    // Not through the runtime, which may not know the last connections yet.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            begin(stream, kind.clone(), &shared).await;
        }
    }
}

/// Drops the guard that `wait_for` returns, so that it does not live on in a `select!`.
async fn end_signal(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

async fn begin(mut stream: TcpStream, kind: Option<ListenerKind>, shared: &Arc<ProbeState>) {
    let Ok(permit) = shared.streams.clone().acquire_owned().await else { return };
    let shared = shared.clone();
    tokio::spawn(async move {
        let kind = match kind {
            Some(kind) => Some(kind),
            None => preface(&mut stream).await.map(ListenerKind::Gateway),
        };
        if let Some(kind) = kind {
            answers::serve(stream, &Arc::new(kind), &shared).await;
        }
        drop(permit);
    });
}

/// Reads the gateway's description of a stream.
async fn preface(stream: &mut TcpStream) -> Option<Preface> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await.ok()? {
            b'\n' => return serde_json::from_slice(&line).ok(),
            byte if line.len() < PREFACE_BYTES_MAX => line.push(byte),
            _ => return None,
        }
    }
}
