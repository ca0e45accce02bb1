//! Serves HTTP/2 on an agent's stream. All its requests run concurrently in the task of the stream, so one wake-up
//! serves many requests and their answers are written together.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, RecvStream, StreamId};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::h1::{draining, unparsed};
use super::h2_request::{self, ActiveStream, Ended};
use super::linger;
use crate::body::http2_body::DiscardAllowance;
use crate::gateway::{Core, Gateway};
use crate::h2::flood_limit::{FloodLimited, FloodPeer};
use crate::h2::write_buffer::{BufferedWrites, Flusher};
use crate::h2::{SEND_BUFFER_MAX, bytes_u32};
use crate::session::ProxySession;
use crate::session::revocation::RevocationChanges;
use crate::sockets::watchdog::Overdue;
use keyward_base::limits::{Limits, ReceiveWindow};

/// The window of the connection, in windows of exchanges. One stalled upload leaves room for fifteen others.
const WINDOWS: u32 = 16;

/// The maximum number of streams that are reset before they are accepted (CVE-2023-44487). As h2 and hyper.
const RESET_UNSEEN_MAX: usize = 20;

/// How long an agent may take to close after a GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long WebSockets may take to close after a revocation.
const CLOSES_WITHIN: Duration = Duration::from_secs(1);

/// The state of a served stream.
struct ServerConnection<IO> {
    core: Arc<Core>,
    session: Arc<ProxySession>,
    connection: Connection<BufferedWrites<FloodLimited<IO>>, Bytes>,
    drain: Flusher<FloodLimited<IO>>,
    pings: Option<PingPong>,
    streams: FuturesUnordered<BoxFuture<'static, Ended>>,
    active: HashMap<StreamId, Arc<ActiveStream>>,
    allowance: Arc<DiscardAllowance>,
}

/// Serves requests until the stream ends or must end.
pub async fn serve<IO>(core: &Arc<Core>, io: IO, session: &Arc<ProxySession>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    session.watchdog.multiplex();
    let limits = &core.gateway.limits;
    let (io, drain) = BufferedWrites::new(FloodLimited::new(FloodPeer::Agent, io));
    let descriptors = session.revocation().agent_descriptors();
    let window = limits.stream_window(descriptors, WINDOWS as usize);
    let mut handshake = pin!(builder(limits, window).handshake(io));
    let shaken = poll_fn(|cx| {
        let shaken = handshake.as_mut().poll(cx);
        // An error is found by the handshake's next read.
        let _ = drain.poll_drain(cx);
        shaken
    });
    match tokio::time::timeout(limits.head_timeout, shaken).await {
        Err(_) => {}
        Ok(Err(error)) => failed(core, session, &error).await,
        Ok(Ok(mut connection)) => {
            let pings = connection.ping_pong();
            let (core, session) = (core.clone(), session.clone());
            let (streams, active) = (FuturesUnordered::new(), HashMap::new());
            let allowance = Arc::new(DiscardAllowance::new(&core.gateway.limits));
            let serving = ServerConnection {
                core,
                session,
                connection,
                drain,
                pings,
                streams,
                active,
                allowance,
            };
            serving.run().await;
        }
    }
}

fn builder(limits: &Limits, window: ReceiveWindow) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(bytes_u32(limits.exchanges_per_stream_max))
        .initial_window_size(window.bytes())
        .initial_connection_window_size(window.bytes() * WINDOWS)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        // More than the limit, so that ours is the answer that says which limit it was.
        .max_header_list_size(bytes_u32(limits.head_bytes_max * 2))
        .max_pending_accept_reset_streams(RESET_UNSEEN_MAX)
        .enable_connect_protocol();
    builder
}

impl<IO: AsyncRead + AsyncWrite + Unpin> ServerConnection<IO> {
    async fn run(mut self) {
        let (core, session) = (self.core.clone(), self.session.clone());
        let gateway = &core.gateway;
        let mut changes = RevocationChanges::of(gateway);
        let mut drain = gateway.draining.clone();
        let mut overdue = pin!(session.watchdog.overdue(&gateway.limits));
        let body_idle = gateway.limits.body_idle_timeout;
        let mut checked_at = Instant::now();
        let (mut closes_by, mut drained) = (None, false);
        let (mut lost, mut has_cut) = (false, false);
        loop {
            tokio::select! {
                biased;
                ended = poll_fn(|cx| self.poll(cx)) => {
                    return Box::pin(self.ended(ended)).await;
                }
                () = changes.next(), if !lost => lost = !self.check_revocation(gateway),
                () = gateway.cut(), if !lost => lost = true,
                why = overdue.as_mut(), if closes_by.is_none() => match why {
                    Overdue::Idle => {
                        self.connection.graceful_shutdown();
                        closes_by = Some(Instant::now() + GOAWAY_TIMEOUT);
                    }
                    // A WebSocket may be silent for longer, and an exchange that waits for its answer.
                    Overdue::Body
                        if self.active.values().any(|stream| stream.may_be_silent(body_idle)) =>
                    {
                        overdue.set(session.watchdog.overdue(&gateway.limits));
                    }
                    Overdue::Head | Overdue::Body => return self.cut(),
                },
                () = until(closes_by) => {
                    // Exchanges that began before the agent saw the GOAWAY are served.
                    if lost {
                        return self.cut();
                    }
                    if self.active.is_empty() {
                        return Box::pin(self.leave()).await;
                    }
                    closes_by = Some(Instant::now() + GOAWAY_TIMEOUT);
                }
                () = draining(&mut drain), if !drained => {
                    self.connection.graceful_shutdown();
                    drained = true;
                }
                () = tokio::time::sleep_until(checked_at + body_idle / 2) => {
                    checked_at = Instant::now();
                    self.cut_overdue(body_idle);
                }
            }
            if lost && !has_cut {
                has_cut = true;
                if !self.cut_but_websockets() {
                    return;
                }
                closes_by = Some(Instant::now() + CLOSES_WITHIN);
            }
        }
    }

    /// Polls the running exchanges, then the connection, then the write buffer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            while let Poll::Ready(Some(ended)) = self.streams.poll_next_unpin(cx) {
                self.active.remove(&ended.id);
                if ended.after_answer {
                    self.ping(cx);
                }
                if self.active.is_empty() {
                    self.session.watchdog.set_busy(false);
                }
            }
            let mut began = false;
            loop {
                match self.connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => break,
                }
                began = true;
            }
            if !began {
                break;
            }
        }
        // An error is found by the connection's next read or write.
        let _ = self.drain.poll_drain(cx);
        Poll::Pending
    }

    /// Sends a PING. curl 7.88 notices the end of an exchange only when something arrives after the end of its
    /// upload: without a PING, it waits forever if the answer was sent before the end of an upload of unknown
    /// length.
    fn ping(&mut self, cx: &mut Context<'_>) {
        if let Some(pings) = &mut self.pings {
            // The pong of the last PING makes room for this one. A PING in flight has the same effect.
            let _ = pings.poll_pong(cx);
            let _ = pings.send_ping(Ping::opaque());
        }
    }

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        if self.active.is_empty() {
            self.session.watchdog.set_busy(true);
        }
        let of_stream = self.session.of_stream(&self.core.gateway);
        let stream = Arc::new(ActiveStream::new(of_stream, self.allowance.clone()));
        self.active.insert(respond.stream_id(), stream.clone());
        let served = h2_request::serve(self.core.clone(), stream, request, respond);
        self.streams.push(Box::pin(served));
    }

    /// Whether the stream is still valid. Ends single exchanges that were revoked.
    fn check_revocation(&self, gateway: &Gateway) -> bool {
        let holds = self.session.revocation().is_valid(gateway);
        if holds {
            let lost = |stream: &&Arc<ActiveStream>| {
                !stream.is_joined() && !stream.session().revocation().is_valid(gateway)
            };
            self.active.values().filter(lost).for_each(|stream| stream.cut());
        }
        holds
    }

    /// Ends the exchanges on which nothing has moved for as long as they may be silent.
    fn cut_overdue(&self, body_idle: Duration) {
        let overdue =
            |stream: &&Arc<ActiveStream>| !stream.is_joined() && stream.is_overdue(body_idle);
        self.active.values().filter(overdue).for_each(|stream| stream.cut());
    }

    /// Ends everything except WebSockets, which send a close frame; accepts no more requests. Returns whether there
    /// are WebSockets.
    fn cut_but_websockets(&mut self) -> bool {
        self.session.watchdog.cut();
        self.connection.graceful_shutdown();
        self.active.values().filter(|stream| !stream.is_joined()).for_each(|stream| stream.cut());
        self.active.values().any(|stream| stream.is_joined())
    }

    /// Cleans up after h2 has ended, or the stream broke.
    async fn ended(self, ended: Result<(), h2::Error>) {
        let broken = ended.as_ref().is_err_and(h2::Error::is_io);
        let (core, session, io) = self.into_io();
        if let Err(error) = ended {
            failed(&core, &session, &error).await;
        }
        if !broken && let Some(io) = io {
            linger::drain(io, &core.gateway).await;
        }
    }

    /// Closes an idle stream whose agent did not close it after the GOAWAY.
    async fn leave(self) {
        let (core, _session, io) = self.into_io();
        if let Some(io) = io {
            linger::shut_down_and_drain(io, &core.gateway).await;
        }
    }

    /// The byte stream; running exchanges end.
    fn into_io(self) -> (Arc<Core>, Arc<ProxySession>, Option<FloodLimited<IO>>) {
        let Self { core, session, connection, drain, streams, active, .. } = self;
        drop((streams, active, connection));
        (core, session, drain.into_inner())
    }

    /// Ends everything at once.
    fn cut(self) {
        self.session.watchdog.cut();
        self.active.values().for_each(|stream| stream.cut());
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Writes a record if the agent violated the protocol or sent a flood.
async fn failed(core: &Core, session: &ProxySession, error: &h2::Error) {
    let flood = error.get_io().is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData);
    if flood || error.is_library() {
        tracing::info!(agent = %session.agent.name, %error, "an agent's HTTP/2 stream was closed");
        unparsed(core, Some(session), 400).await;
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    const WINDOW_MAX: u32 = (1 << 31) - 1;

    #[tokio::test]
    async fn an_exchange_buffers_little_for_an_agent_that_does_not_read_its_large_window() {
        let (agents, ours) = tokio::io::duplex(1024);
        let server = builder(&Limits::default(), ReceiveWindow::Large);
        let mut client = h2::client::Builder::new();
        client.initial_window_size(WINDOW_MAX).initial_connection_window_size(WINDOW_MAX);
        let (server, client) =
            tokio::join!(server.handshake::<_, Bytes>(ours), client.handshake::<_, Bytes>(agents),);
        let (mut server, (mut sender, mut agent)) = (server.unwrap(), client.unwrap());
        let request = Request::get("https://api.acme.test/").body(()).unwrap();
        let _answer = sender.send_request(request, true).unwrap();
        let accepted = tokio::select! {
            accepted = server.accept() => accepted,
            _ = &mut agent => panic!("it ended"),
        };
        let (_, mut respond) = accepted.unwrap().unwrap();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let mut held = 0;
        for _ in 0..16 {
            // Only our side is polled: the agent does not read.
            let ended = poll_fn(|cx| Poll::Ready(server.poll_closed(cx).is_ready())).await;
            assert!(!ended);
            stream.reserve_capacity(1 << 20);
            let room = stream.capacity();
            if room > 0 {
                stream.send_data(vec![b'.'; room].into(), false).unwrap();
            }
            held += room;
        }
        assert!((SEND_BUFFER_MAX..=2 * SEND_BUFFER_MAX).contains(&held), "{held} bytes");
    }
}
