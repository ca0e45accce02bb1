//! An agent's HTTP/2 stream: its requests run side by side, all in the task of the stream, so that one
//! wake-up serves many and their answers leave together.

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
use h2::{RecvStream, StreamId};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::gather::{Drain, Gathered};
use super::meter::Metered;
use super::stream::{self, Live};
use super::{STREAM_WINDOW, bytes_u32};
use crate::base::limits::Limits;
use crate::proxy::drive::{draining, unparsed};
use crate::proxy::lingering;
use crate::proxy::pulse::Overdue;
use crate::proxy::session::Session;
use crate::proxy::standing::Changes;
use crate::proxy::{Core, Gateway};

/// What an agent may send on all its exchanges together before their upstreams take it, in bytes.
/// One stalled upload leaves room for fifteen others.
const WINDOW: u32 = 16 * STREAM_WINDOW;

/// How many streams an agent may have reset before we got to them (CVE-2023-44487). As h2 and hyper.
const RESET_UNSEEN_MAX: usize = 20;

/// How long an agent that was told to go may take.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

/// How long WebSockets may take to say that what they rest on is gone.
const CLOSES_WITHIN: Duration = Duration::from_secs(1);

/// A stream that is served.
struct Serving<IO> {
    core: Arc<Core>,
    session: Arc<Session>,
    connection: Connection<Gathered<Metered<IO>>, Bytes>,
    drain: Drain<Metered<IO>>,
    streams: FuturesUnordered<BoxFuture<'static, StreamId>>,
    lives: HashMap<StreamId, Arc<Live>>,
}

/// Serves requests until the stream ends or must end.
pub async fn serve<IO>(core: &Arc<Core>, io: IO, session: &Arc<Session>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    session.pulse.multiplex();
    let limits = &core.gateway.limits;
    let (io, drain) = Gathered::new(Metered::new(io));
    let mut handshake = pin!(builder(limits).handshake(io));
    let shaken = poll_fn(|cx| {
        let shaken = handshake.as_mut().poll(cx);
        // An error is found by the handshake's next read.
        let _ = drain.poll_drain(cx);
        shaken
    });
    match tokio::time::timeout(limits.head_timeout, shaken).await {
        Err(_) => {}
        Ok(Err(error)) => failed(core, session, &error).await,
        Ok(Ok(connection)) => {
            let (core, session) = (core.clone(), session.clone());
            let (streams, lives) = (FuturesUnordered::new(), HashMap::new());
            Serving { core, session, connection, drain, streams, lives }.run().await;
        }
    }
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(bytes_u32(limits.exchanges_per_stream_max))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        // More than the limit, so that ours is the answer that says which limit it was.
        .max_header_list_size(bytes_u32(limits.head_bytes_max * 2))
        .max_pending_accept_reset_streams(RESET_UNSEEN_MAX)
        .enable_connect_protocol();
    builder
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Serving<IO> {
    async fn run(mut self) {
        let (core, session) = (self.core.clone(), self.session.clone());
        let gateway = &core.gateway;
        let mut changes = Changes::of(gateway);
        let mut drain = gateway.draining.clone();
        let mut overdue = pin!(session.pulse.overdue(&gateway.limits));
        let nap = gateway.limits.body_idle_timeout / 2;
        let mut looked = Instant::now();
        let (mut leaves_by, mut drained) = (None, false);
        let (mut lost, mut told) = (false, false);
        loop {
            tokio::select! {
                biased;
                ended = poll_fn(|cx| self.poll(cx)) => {
                    return Box::pin(self.ended(ended)).await;
                }
                () = changes.next(), if !lost => lost = !self.holds(gateway),
                () = gateway.cut(), if !lost => lost = true,
                why = overdue.as_mut(), if leaves_by.is_none() => match why {
                    Overdue::Idle => {
                        self.connection.graceful_shutdown();
                        leaves_by = Some(Instant::now() + LEAVES_WITHIN);
                    }
                    // A WebSocket may be silent for longer.
                    Overdue::Body if self.lives.values().any(|live| live.is_joined()) => {
                        overdue.set(session.pulse.overdue(&gateway.limits));
                    }
                    Overdue::Head | Overdue::Body => return self.cut(),
                },
                () = until(leaves_by) => {
                    // What began while the agent was told to go is served.
                    if lost {
                        return self.cut();
                    }
                    if self.lives.is_empty() {
                        return Box::pin(self.leave()).await;
                    }
                    leaves_by = Some(Instant::now() + LEAVES_WITHIN);
                }
                () = draining(&mut drain), if !drained => {
                    self.connection.graceful_shutdown();
                    drained = true;
                }
                () = tokio::time::sleep_until(looked + nap) => {
                    looked = Instant::now();
                    self.cut_overdue();
                }
            }
            if lost && !told {
                told = true;
                if !self.cut_but_websockets() {
                    return;
                }
                leaves_by = Some(Instant::now() + CLOSES_WITHIN);
            }
        }
    }

    /// Everything that is under way, then the connection, then what they wrote.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            while let Poll::Ready(Some(ended)) = self.streams.poll_next_unpin(cx) {
                self.lives.remove(&ended);
                if self.lives.is_empty() {
                    self.session.pulse.carries(false);
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

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        if self.lives.is_empty() {
            self.session.pulse.carries(true);
        }
        let live = Arc::new(Live::new(self.session.of_stream()));
        self.lives.insert(respond.stream_id(), live.clone());
        let served = stream::serve(self.core.clone(), live, request, respond);
        self.streams.push(Box::pin(served));
    }

    /// Whether what the stream rests on is still there; where only that of an exchange is gone, that
    /// exchange ends.
    fn holds(&self, gateway: &Gateway) -> bool {
        let holds = self.session.standing().holds(gateway);
        if holds {
            let lost =
                |live: &&Arc<Live>| !live.is_joined() && !live.session().standing().holds(gateway);
            self.lives.values().filter(lost).for_each(|live| live.cut());
        }
        holds
    }

    /// Ends the exchanges on which nothing has moved for `body_idle_timeout`.
    fn cut_overdue(&self) {
        let overdue = |live: &&Arc<Live>| !live.is_joined() && live.is_overdue();
        self.lives.values().filter(overdue).for_each(|live| live.cut());
    }

    /// Ends everything but WebSockets, which say why they end; nothing begins any more. Answers whether
    /// there are any.
    fn cut_but_websockets(&mut self) -> bool {
        self.session.pulse.cut();
        self.connection.graceful_shutdown();
        self.lives.values().filter(|live| !live.is_joined()).for_each(|live| live.cut());
        self.lives.values().any(|live| live.is_joined())
    }

    /// After h2 has said its last, or the stream broke.
    async fn ended(self, ended: Result<(), h2::Error>) {
        let broken = ended.as_ref().is_err_and(h2::Error::is_io);
        let (core, session, io) = self.into_io();
        if let Err(error) = ended {
            failed(&core, &session, &error).await;
        }
        if !broken && let Some(io) = io {
            lingering::forget(io, &core.gateway).await;
        }
    }

    /// Ends a stream that nothing is under way on, whose agent was told and did not go.
    async fn leave(self) {
        let (core, _session, io) = self.into_io();
        if let Some(io) = io {
            lingering::leave(io, &core.gateway).await;
        }
    }

    /// The stream of bytes without anything on it; what is still under way ends.
    fn into_io(self) -> (Arc<Core>, Arc<Session>, Option<Metered<IO>>) {
        let Self { core, session, connection, drain, streams, lives } = self;
        drop((streams, lives, connection));
        (core, session, drain.into_inner())
    }

    /// Ends everything at once.
    fn cut(self) {
        self.session.pulse.cut();
        self.lives.values().for_each(|live| live.cut());
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Leaves a record where the agent broke the protocol, or sent a flood.
async fn failed(core: &Arc<Core>, session: &Session, error: &h2::Error) {
    let flood = error.get_io().is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData);
    if flood || error.is_library() {
        tracing::info!(agent = %session.agent.name, %error, "an agent's HTTP/2 stream was closed");
        unparsed(core, Some(session), 400).await;
    }
}
