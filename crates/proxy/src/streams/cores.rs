//! [`Cores`]: the threads that accept and serve agents' streams, each with its own runtime. A stream stays on the
//! core that accepted it unless another core has clearly fewer streams.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::connect;
use super::open_listener::OpenListener;
use super::service::{ServiceSocket, ServiceStream, StreamService};
use crate::gateway::{Core, Gateway, Retirement};
use crate::limits::agent_streams::CoreStreamCount;
use crate::probe::{ProbedStream, Seen, StreamOrigin};
use crate::server::h1::draining;
use crate::session::AcceptedStream;
use crate::session::pass_streams::PassStreams;
use crate::session::revocation::{Revocation, closed};
use crate::sockets::listener::{Acceptor, Listener, NewSocket, affects_one_socket};
use crate::sockets::proxy_tls::ProxyTls;
use crate::sockets::streams::{AgentStream, Socket};
use crate::sockets::watchdog::Watchdog;
use keyward_base::host::Scheme;
use keyward_base::system_error::is_out_of_descriptors;

/// The number of cores that accept from one listener. The system wakes all of them for every stream, so the other
/// cores get streams handed over.
const ACCEPTING_MAX: usize = 4;

/// How many more streams than another core a core may have and still keep an accepted one.
const SURPLUS_MAX: usize = 4;

/// The pause of accepting when the process is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// How long streams may take to end after they were cut; WebSockets send a close frame.
const CUT_STREAMS_END_WITHIN: Duration = Duration::from_secs(1);

/// The threads that serve agents' streams.
#[derive(Debug)]
pub struct Cores {
    gateway: Arc<Gateway>,
    cores: Vec<Handle>,
}

/// An accepted stream that is not served yet.
struct NewStream {
    socket: NewSocket,
    /// TLS of the listener.
    proxy_tls: Option<Arc<ProxyTls>>,
    accepted: AcceptedStream,
    /// What serves it in place of the HTTP proxy.
    service: Option<Arc<dyn StreamService>>,
}

/// A listener on one core, and what serves its streams in place of the HTTP proxy.
struct Served {
    acceptor: Acceptor,
    service: Option<Arc<dyn StreamService>>,
}

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    runtime: runtime::Handle,
    open: Arc<AtomicUsize>,
    /// The thread and its tasks end when this is dropped.
    alive: oneshot::Sender<Infallible>,
    thread: JoinHandle<()>,
}

impl Cores {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When a thread or a runtime cannot be created.
    pub fn start(gateway: Arc<Gateway>, count: usize) -> io::Result<Self> {
        let cores = (0..count.max(1)).map(|index| Handle::start(&gateway, index));
        let cores = cores.collect::<io::Result<_>>()?;
        Ok(Self { gateway, cores })
    }

    /// Accepts, on several cores at once, until the gateway drains.
    pub async fn accept(self: Arc<Self>, listener: Listener) {
        self.accept_all(Arc::new(listener), None).await;
    }

    /// [`Cores::accept`] for a listener of another protocol than HTTP.
    pub async fn accept_for(self: Arc<Self>, listener: Listener, service: Arc<dyn StreamService>) {
        self.accept_all(Arc::new(listener), Some(service)).await;
    }

    /// [`Cores::accept_for`] for a listener that can be closed while the gateway runs.
    pub fn open(
        self: &Arc<Self>,
        listener: Listener,
        service: Arc<dyn StreamService>,
    ) -> OpenListener {
        let (closing, closes) = watch::channel(false);
        let (addr, path) = (listener.addr(), listener.path());
        let socket = listener.as_fd().try_clone_to_owned();
        let dialler = self.gateway.dialler.clone();
        // Never dialled from now on, as the listeners of the configuration are not.
        addr.into_iter().for_each(|addr| dialler.add_own(addr));
        let accepts = self.clone().accept_for(listener.closed_by(closes), service);
        OpenListener { addr, path, socket, closing, task: tokio::spawn(accepts), dialler }
    }

    /// `service`: what serves the streams in place of the HTTP proxy.
    async fn accept_all(
        self: Arc<Self>,
        listener: Arc<Listener>,
        service: Option<Arc<dyn StreamService>>,
    ) {
        // Those that accept end when this does.
        let mut acceptors = JoinSet::new();
        for (index, handle) in self.cores.iter().enumerate().take(ACCEPTING_MAX) {
            let accepts = self.clone().accept_on(index, listener.clone(), service.clone());
            acceptors.spawn_on(accepts, &handle.runtime);
        }
        while let Some(ended) = acceptors.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a core stopped accepting streams");
            }
        }
    }

    /// Accepts on one core. A failed accept loses one stream only. When no descriptor is left, streams are rejected
    /// one by one, so that they do not wait.
    async fn accept_on(
        self: Arc<Self>,
        index: usize,
        listener: Arc<Listener>,
        service: Option<Arc<dyn StreamService>>,
    ) {
        let mut closing = listener.closing().cloned();
        let served = match listener.acceptor() {
            Ok(acceptor) => Served { acceptor, service },
            Err(error) => return tracing::error!(%error, index, "a core cannot accept streams"),
        };
        let acceptor = &served.acceptor;
        let (mut retirement, mut drain) =
            (self.gateway.retirement.clone(), self.gateway.draining.clone());
        loop {
            let accepted = tokio::select! {
                accepted = acceptor.accept() => accepted,
                () = replaced(&mut retirement) => return,
                () = draining(&mut drain) => return,
                () = closed_listener(&mut closing) => return,
            };
            match accepted {
                Ok((socket, peer)) => self.serve(index, socket, peer, &served),
                Err(error) if affects_one_socket(&error) => {}
                Err(error) if is_out_of_descriptors(&error) && acceptor.reject_one().await => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting is paused after an error");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Serves a stream that core `here` accepted, on that core or on one with fewer streams.
    fn serve(
        &self,
        here: usize,
        socket: NewSocket,
        peer: Option<IpAddr>,
        Served { acceptor, service }: &Served,
    ) {
        let Gateway { streams, unauthenticated, .. } = &*self.gateway;
        let permit = || streams.clone().try_acquire_owned().ok();
        let Some(place) = unauthenticated.enter(peer, permit) else {
            return acceptor.reject(socket);
        };
        if place.has_evicted_another() {
            self.gateway.metrics.evicted("proxy");
        }
        let (owner, proxy_tls) =
            (acceptor.listener().owner().cloned(), acceptor.listener().proxy_tls().cloned());
        let has_probes = !self.gateway.probes.is_empty() && service.is_none();
        let listener = has_probes.then(|| name_of(acceptor.listener()));
        let index = self.place(here);
        let Handle { core, runtime, open, .. } = &self.cores[index];
        let watchdog = Arc::new(Watchdog::awaiting_head());
        let closing = acceptor.listener().closing().cloned();
        let (revocation, counted) = (
            Arc::new(Revocation::for_new_stream(&self.gateway, place, closing)),
            CoreStreamCount::new(open),
        );
        let scheme = if proxy_tls.is_some() { Scheme::Https } else { Scheme::Http };
        let pass_streams = PassStreams::new(core.clone());
        let probed = OnceLock::new();
        let accepted = AcceptedStream {
            peer,
            owner,
            scheme,
            watchdog,
            revocation,
            pass_streams,
            probed,
            counted,
        };
        let (core, service) = (core.clone(), service.clone());
        if index == here {
            return begin(core, NewStream { socket, proxy_tls, accepted, service }, listener);
        }
        match socket.detach() {
            Ok(detached) => drop(runtime.spawn(async move {
                match detached.attach() {
                    Ok(socket) => {
                        begin(core, NewStream { socket, proxy_tls, accepted, service }, listener)
                    }
                    Err(error) => log_failed_accept(&error),
                }
            })),
            Err(error) => log_failed_accept(&error),
        }
    }

    /// The core for one more stream: `here`, unless another one has clearly fewer.
    fn place(&self, here: usize) -> usize {
        let open: Vec<_> = self.cores.iter().map(|core| core.open.load(Relaxed)).collect();
        place(&open, here)
    }

    /// Sending true ends all streams at once; [`Cores::finish`] then stops waiting.
    pub fn cutting(&self) -> watch::Sender<bool> {
        self.gateway.cutting.clone()
    }

    /// Waits until all streams have ended, for at most `within`; then ends the remaining ones and the threads.
    /// Returns whether all had ended by themselves.
    pub async fn finish(self, within: Duration) -> bool {
        let all = u32::try_from(self.gateway.limits.streams_max).unwrap_or(u32::MAX);
        let mut ended = pin!(self.gateway.streams.acquire_many(all));
        let clean = tokio::select! {
            _ = ended.as_mut() => true,
            () = self.gateway.cut() => false,
            () = tokio::time::sleep(within) => false,
        };
        if !clean {
            self.gateway.cutting.send_replace(true);
            // Streams that have not ended by then are dropped with their runtime.
            let _ = tokio::time::timeout(CUT_STREAMS_END_WITHIN, ended).await;
        }
        let threads: Vec<_> = self
            .cores
            .into_iter()
            .map(|Handle { alive, thread, .. }| {
                drop(alive);
                thread
            })
            .collect();
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().all(|t| t.join().is_ok()));
        joined.await.unwrap_or(false) && clean
    }
}

impl Handle {
    fn start(gateway: &Arc<Gateway>, index: usize) -> io::Result<Self> {
        let own = runtime::Builder::new_current_thread().enable_all().build()?;
        let runtime = own.handle().clone();
        let core = {
            let _inside = own.enter();
            Core::new(gateway.clone())
        };
        runtime.spawn(core.sweeper());
        let (alive, ended) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name(format!("keyward-core-{index}")).spawn(move || {
                let Err(_dropped) = own.block_on(ended);
            })?;
        Ok(Self { core, runtime, open: Arc::default(), alive, thread })
    }
}

/// Chooses a core. A few clients never share a core, because the counts are compared strictly; with many clients
/// the accepting core keeps its stream, because a handover costs more than a small surplus.
fn place(open: &[usize], here: usize) -> usize {
    let least = (0..open.len()).min_by_key(|index| open[*index]).unwrap_or(here);
    let surplus = (open[least] / 3).min(SURPLUS_MAX);
    if open[here] <= open[least] + surplus { here } else { least }
}

fn log_failed_accept(error: &io::Error) {
    tracing::warn!(%error, "cannot pass a stream to another core");
}

/// `127.0.0.1:8090` or `unix:PATH`.
fn name_of(listener: &Listener) -> String {
    let tcp = listener.addr().map(|addr| addr.to_string());
    let unix = || listener.path().map(|path| format!("unix:{}", path.display()));
    tcp.or_else(unix).unwrap_or_default()
}

/// Serves a stream in a new task. `listener`: its name, if programs are examined.
fn begin(core: Arc<Core>, stream: NewStream, listener: Option<String>) {
    let Some(listener) = listener else { return serve(core, stream) };
    tokio::spawn(Box::pin(async move {
        let mut drain = core.gateway.draining.clone();
        let is_served = tokio::select! {
            is_served = may_serve(&core, &stream, listener) => is_served,
            () = draining(&mut drain) => return,
            () = stream.accepted.revocation.evicted() => return,
        };
        if is_served {
            serve(core, stream);
        }
    }));
}

/// Whether the stream is served. That of an examined program is marked, and must begin with a request.
async fn may_serve(core: &Core, stream: &NewStream, listener: String) -> bool {
    let owner = stream.accepted.owner.clone();
    let probe = match core.gateway.probes.origin(&stream.socket, owner.is_some()).await {
        StreamOrigin::Other => return true,
        StreamOrigin::Probed(probe) => probe,
        StreamOrigin::Unknown => {
            tracing::warn!("closed a stream that may be of a program under `keyward doctor`");
            return false;
        }
    };
    let new = || ProbedStream::new(probe, listener, owner);
    let probed = stream.accepted.probed.get_or_init(new);
    let mut first = [0; 1];
    let read = match (&stream.socket, &stream.proxy_tls) {
        (NewSocket::Tcp(tcp), None) => {
            tokio::time::timeout(core.gateway.limits.head_timeout, tcp.peek(&mut first)).await
        }
        _ => return true,
    };
    // The methods in use are in upper case. A stream without a byte is served, which ends it.
    let is_request = !matches!(read, Ok(Ok(1))) || first[0].is_ascii_uppercase();
    if !is_request {
        probed.report(None, None, Seen::NoHttp(first[0]));
    }
    is_request
}

fn serve(core: Arc<Core>, stream: NewStream) {
    let NewStream { socket, proxy_tls, accepted, service } = stream;
    if let Some(service) = service {
        // Clients of the service request TLS in its own protocol.
        let socket = match socket {
            NewSocket::Tcp(tcp) => ServiceSocket::Tcp(tcp, proxy_tls),
            NewSocket::Unix(unix) => ServiceSocket::Unix(unix),
        };
        let stream = ServiceStream::new(core.gateway.clone(), socket, accepted);
        return drop(tokio::spawn(service.serve(stream)));
    }
    let socket = match (socket, proxy_tls) {
        (NewSocket::Tcp(tcp), Some(proxy_tls)) => {
            return drop(tokio::spawn(Box::pin(serve_tls(core, tcp, proxy_tls, accepted))));
        }
        (NewSocket::Tcp(tcp), None) => Socket::Tcp(tcp),
        (NewSocket::Unix(unix), _) => Socket::Unix(unix),
    };
    let stream = AgentStream::new(socket, accepted.watchdog.clone());
    // On the heap: a task copies its future four times in its life.
    tokio::spawn(Box::pin(connect::serve(core, stream, accepted)));
}

/// Serves a stream that begins with TLS. A failed handshake leaves no record, because no agent is known.
async fn serve_tls(
    core: Arc<Core>,
    tcp: TcpStream,
    proxy_tls: Arc<ProxyTls>,
    accepted: AcceptedStream,
) {
    let (leaves, timeout) = (&core.gateway.leaves, core.gateway.limits.handshake_timeout);
    let entered = tokio::select! {
        entered = proxy_tls.accept(leaves, timeout, tcp) => entered,
        () = accepted.revocation.evicted() => Err("it was closed for another stream".to_owned()),
    };
    match entered {
        Ok(tls) => {
            let stream = AgentStream::new(Socket::Tls(tls), accepted.watchdog.clone());
            connect::serve(core, stream, accepted).await;
        }
        Err(cause) => {
            core.gateway.metrics.handshakes_failed.inc();
            let cause = cause.escape_debug().to_string();
            tracing::info!(cause, "the TLS handshake with a client of the proxy failed");
        }
    }
}

/// Resolves when another process has the listening sockets; never resolves once the gateway is dropped.
async fn replaced(retirement: &mut watch::Receiver<Retirement>) {
    if retirement.wait_for(|it| *it == Retirement::Replaced).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Resolves when the listener closes before the gateway stops accepting.
async fn closed_listener(closing: &mut Option<watch::Receiver<bool>>) {
    match closing {
        Some(closing) => closed(closing).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_streams_are_spread_evenly_whichever_core_accepts_them() {
        for accepts in [[0; 6], [1; 6], [0, 1, 1, 0, 0, 1], [2; 6]] {
            let mut open = [0; 3];
            for here in accepts {
                open[place(&open, here)] += 1;
            }
            assert_eq!(open, [2; 3], "{accepts:?}");
        }
    }

    #[test]
    fn a_core_with_many_streams_keeps_new_ones_until_another_has_clearly_fewer() {
        assert_eq!(place(&[4, 3], 0), 0);
        assert_eq!(place(&[5, 3], 0), 1);
        assert_eq!(place(&[104, 100], 0), 0);
        assert_eq!(place(&[105, 100], 0), 1);
        assert_eq!(place(&[105, 100], 1), 1);
    }
}
