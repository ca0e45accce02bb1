//! [`Cores`]: the threads that serve agents' streams, each with a runtime of its own. They accept by
//! themselves, and a stream stays on the core that accepted it unless another has fewer.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::drive::draining;
use super::front::Front;
use super::listen::{Came, Door, Listener, is_of_descriptors, is_of_one_socket};
use super::pulse::Pulse;
use super::session::{Accepted, Counted};
use super::standing::Standing;
use super::stream::{Agents, Socket};
use super::{Core, Gateway, connect};
use crate::base::host::Scheme;

/// How many cores accept from a listener. The system wakes each of them for every stream that comes, so
/// the others are handed theirs.
const ACCEPTING_MAX: usize = 4;

/// By how many streams a core may have more than another and still keep what it accepts, at most.
const SURPLUS_MAX: usize = 4;

/// How long accepting pauses when the process is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// How long streams that are cut have to say so: WebSockets take no longer.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// The threads that serve agents' streams.
#[derive(Debug)]
pub struct Cores {
    gateway: Arc<Gateway>,
    cores: Vec<Handle>,
}

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    runtime: runtime::Handle,
    open: Arc<AtomicUsize>,
    /// The thread ends, with all its tasks, when this is dropped.
    lives: oneshot::Sender<Infallible>,
    thread: JoinHandle<()>,
}

impl Cores {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When a thread or runtime cannot be made.
    pub fn start(gateway: Arc<Gateway>, count: usize) -> io::Result<Self> {
        let cores = (0..count.max(1)).map(|index| Handle::start(&gateway, index));
        let cores = cores.collect::<io::Result<_>>()?;
        Ok(Self { gateway, cores })
    }

    /// Accepts, on several cores at once, until the gateway drains.
    pub async fn accept(self: Arc<Self>, listener: Listener) {
        let listener = Arc::new(listener);
        // Those that accept end when this does.
        let mut doors = JoinSet::new();
        for (index, handle) in self.cores.iter().enumerate().take(ACCEPTING_MAX) {
            let accepts = self.clone().accept_on(index, listener.clone());
            doors.spawn_on(accepts, &handle.runtime);
        }
        while let Some(ended) = doors.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a core accepts no more");
            }
        }
    }

    /// The same on one core. A failed accept is one socket's loss, not an exit; without descriptors,
    /// streams are turned away one by one instead of waiting for nobody.
    async fn accept_on(self: Arc<Self>, index: usize, listener: Arc<Listener>) {
        let door = match listener.door() {
            Ok(door) => door,
            Err(error) => return tracing::error!(%error, index, "a core does not accept"),
        };
        let mut drain = self.gateway.draining.clone();
        loop {
            let accepted = tokio::select! {
                accepted = door.accept() => accepted,
                () = draining(&mut drain) => return,
            };
            match accepted {
                Ok((came, peer)) => self.serve(index, (came, peer), &door),
                Err(error) if is_of_one_socket(&error) => {}
                Err(error) if is_of_descriptors(&error) && door.turn_one_away().await => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting pauses");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Serves a stream that came to the core `here`: there, or where there are fewer.
    fn serve(&self, here: usize, (came, peer): (Came, Option<IpAddr>), door: &Door) {
        let Ok(permit) = self.gateway.streams.clone().try_acquire_owned() else {
            return door.turn_away(came);
        };
        let (owner, front) = (door.listener().owner().cloned(), door.listener().front().cloned());
        let index = self.place(here);
        let Handle { core, runtime, open, .. } = &self.cores[index];
        let pulse = Arc::new(Pulse::awaiting_head());
        let (standing, counted) = (Arc::new(Standing::default()), Counted::new(open));
        let scheme = if front.is_some() { Scheme::Https } else { Scheme::Http };
        let accepted = Accepted { peer, owner, scheme, pulse, standing, permit, counted };
        let core = core.clone();
        if index == here {
            return begin(core, (came, front), accepted);
        }
        match came.hand_over() {
            Ok(handed) => drop(runtime.spawn(async move {
                match handed.take() {
                    Ok(came) => begin(core, (came, front), accepted),
                    Err(error) => lost(&error),
                }
            })),
            Err(error) => lost(&error),
        }
    }

    /// The core for one more stream: `here`, unless another has clearly fewer.
    fn place(&self, here: usize) -> usize {
        let open: Vec<_> = self.cores.iter().map(|core| core.open.load(Relaxed)).collect();
        place(&open, here)
    }

    /// What ends all streams when it becomes true: [`Cores::finish`] waits no longer then.
    pub fn cutting(&self) -> watch::Sender<bool> {
        self.gateway.cutting.clone()
    }

    /// Waits until every stream has ended, at most for `within`; then ends what is left, and the
    /// threads. Answers whether all had ended by themselves.
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
            // Whoever does not end even then is dropped with its runtime.
            let _ = tokio::time::timeout(LAST_WORDS_WITHIN, ended).await;
        }
        let threads: Vec<_> = self
            .cores
            .into_iter()
            .map(|Handle { lives, thread, .. }| {
                drop(lives);
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
        let (lives, ended) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name(format!("keyward-core-{index}")).spawn(move || {
                let Err(_dropped) = own.block_on(ended);
            })?;
        Ok(Self { core, runtime, open: Arc::default(), lives, thread })
    }
}

/// Few clients never share a core, which strict counts see to; of many, the core that is there first
/// keeps its stream, because handing it over costs more than a small surplus does.
fn place(open: &[usize], here: usize) -> usize {
    let least = (0..open.len()).min_by_key(|index| open[*index]).unwrap_or(here);
    let surplus = (open[least] / 3).min(SURPLUS_MAX);
    if open[here] <= open[least] + surplus { here } else { least }
}

fn lost(error: &io::Error) {
    tracing::warn!(%error, "a stream was lost on its way to a core");
}

/// Serves a socket of this core in a task of its own.
fn begin(core: Arc<Core>, (came, front): (Came, Option<Arc<Front>>), accepted: Accepted) {
    let socket = match (came, front) {
        (Came::Tcp(tcp), Some(front)) => {
            return drop(tokio::spawn(Box::pin(fronted(core, (tcp, front), accepted))));
        }
        (Came::Tcp(tcp), None) => Socket::Tcp(tcp),
        (Came::Unix(unix), _) => Socket::Unix(unix),
    };
    let stream = Agents::new(socket, accepted.pulse.clone());
    // On the heap: a task copies its future four times in its life.
    tokio::spawn(Box::pin(connect::serve(core, stream, accepted)));
}

/// A stream that begins with TLS. Who does not manage that was nobody yet: there is no exchange to
/// record.
async fn fronted(core: Arc<Core>, (tcp, front): (TcpStream, Arc<Front>), accepted: Accepted) {
    match front.enter(&core.gateway, tcp).await {
        Ok(tls) => {
            let stream = Agents::new(Socket::Tls(tls), accepted.pulse.clone());
            connect::serve(core, stream, accepted).await;
        }
        Err(cause) => {
            core.gateway.metrics.handshakes_failed.inc();
            let cause = cause.escape_debug().to_string();
            tracing::info!(cause, "no TLS with a client of the proxy");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_streams_are_spread_evenly_whoever_accepts_them() {
        for accepts in [[0; 6], [1; 6], [0, 1, 1, 0, 0, 1], [2; 6]] {
            let mut open = [0; 3];
            for here in accepts {
                open[place(&open, here)] += 1;
            }
            assert_eq!(open, [2; 3], "{accepts:?}");
        }
    }

    #[test]
    fn of_many_a_core_keeps_its_own_until_another_has_clearly_fewer() {
        assert_eq!(place(&[4, 3], 0), 0);
        assert_eq!(place(&[5, 3], 0), 1);
        assert_eq!(place(&[104, 100], 0), 0);
        assert_eq!(place(&[105, 100], 0), 1);
        assert_eq!(place(&[105, 100], 1), 1);
    }
}
