//! Running the two doors: accept, bound, serve, and let what is under way finish.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::host::{Local, OwnNames};
use super::router::{open_router, socket_router};
use super::socket::AdminSocket;
use super::state::Admin;
use crate::base::limits::Limits;

/// Streams that one door serves at once; more wait in the kernel's queue.
const STREAMS_MAX: usize = 256;
/// Rest after a failed accept: it fails again at once while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the open paths on `listener` until `stop` turns true, and then until the requests under
/// way are answered, for at most `limits.head_timeout`.
pub async fn serve_tcp(
    listener: TcpListener,
    admin: Admin,
    names: OwnNames,
    mut stop: watch::Receiver<bool>,
) {
    let limits = admin.deps().limits.clone();
    let mut streams = Streams::new(open_router(admin, names), limits, stop.clone());
    loop {
        streams.room().await;
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match stream.local_addr() {
                    Ok(local) => streams.serve(stream, Some(local)),
                    Err(error) => tracing::debug!(%error, "an admin stream ended at once"),
                },
                Err(error) => pause(&error).await,
            },
            () = stopped(&mut stop) => break,
        }
    }
    drop(listener);
    streams.finish().await;
}

/// Serves the whole API on the socket, likewise.
pub async fn serve_socket(socket: AdminSocket, admin: Admin, mut stop: watch::Receiver<bool>) {
    let limits = admin.deps().limits.clone();
    let mut streams = Streams::new(socket_router(admin), limits, stop.clone());
    loop {
        streams.room().await;
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok(stream) => streams.serve(stream, None),
                Err(error) => pause(&error).await,
            },
            () = stopped(&mut stop) => break,
        }
    }
    streams.finish().await;
}

/// Waits for the signal; its sender's end is one as well. The guard that `wait_for` answers with
/// must not live on in a `select!`.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the admin listener cannot accept");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The streams of one door.
struct Streams {
    router: Router,
    limits: Limits,
    stop: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

impl Streams {
    fn new(router: Router, limits: Limits, stop: watch::Receiver<bool>) -> Self {
        Self { router, limits, stop, tasks: JoinSet::new() }
    }

    /// Waits until another stream may be served.
    async fn room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() >= STREAMS_MAX {
            self.tasks.join_next().await;
        }
    }

    fn serve<S>(&mut self, stream: S, local: Option<SocketAddr>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (router, limits, mut stop) =
            (self.router.clone(), self.limits.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                if let Some(local) = local {
                    request.extensions_mut().insert(Local(local));
                }
                router.clone().oneshot(request.map(axum::body::Body::new))
            });
            let stream = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head_timeout)
                .max_buf_size(limits.head_bytes_max.max(8 * 1024))
                .max_headers(limits.head_fields_max)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(stream);
            tokio::select! {
                // The peer's mistakes and aborts are its own affair.
                _ = &mut stream => return,
                () = stopped(&mut stop) => {}
            }
            stream.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(limits.head_timeout, stream).await;
        });
    }

    async fn finish(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
