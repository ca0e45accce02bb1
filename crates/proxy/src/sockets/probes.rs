//! [`Probes`]: streams of programs that `keyward doctor -- CMD` examines. The doctor registers its process and the
//! address of its probe. Streams from descendants of that process are handed to the probe, so these programs never
//! use a credential.
//!
//! While a probe is registered, a stream whose process is unknown is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::listener::NewSocket;
use keyward_base::threads::Threads;
use keyward_net::dial::connect_loopback;
use keyward_net::processes::{self, Membership};

/// The maximum number of probes. Each costs a lookup in `/proc` for every accepted stream.
const PROBES_MAX: usize = 16;

/// Concurrent lookups in `/proc`; further streams wait.
const LOOKUPS_MAX: usize = 4;

/// The registered probes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Probes(Arc<ProbesShared>);

#[derive(Debug)]
struct ProbesShared {
    /// The number of probes, read for every stream without the lock.
    count: AtomicUsize,
    all: Mutex<Vec<Probe>>,
    lookups: Threads,
}

impl Default for ProbesShared {
    fn default() -> Self {
        let lookups = Threads::new("keyward-probes", LOOKUPS_MAX);
        Self { count: AtomicUsize::default(), all: Mutex::default(), lookups }
    }
}

#[derive(Clone, Debug)]
struct Probe {
    number: usize,
    /// The process whose descendants are examined.
    root: u32,
    at: SocketAddr,
}

/// One probe; removed when dropped.
#[derive(Debug)]
pub struct ProbeRegistration {
    probes: Probes,
    number: usize,
}

/// Describes a stream to the probe, as one line of JSON before the stream's own bytes.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Preface {
    /// The listener that accepted the stream: `127.0.0.1:8090` or `unix:PATH`.
    pub listener: String,
    /// The owner of that listener, if it belongs to one agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// Where a stream is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination {
    /// The gateway serves it.
    Gateway,
    /// It goes to the probe at this address.
    Probe(SocketAddr),
    /// Its process is unknown, so it is closed.
    Nowhere,
}

/// The peer of a stream, as far as its socket identifies it.
#[derive(Clone, Copy, Debug)]
enum SocketPeer {
    /// The peer's address and the local one.
    Tcp(SocketAddr, SocketAddr),
    Unix(u32),
    Hidden,
}

impl Probes {
    /// Registers a probe at `at` for streams of the descendants of process `root`. `None` when there are too many
    /// probes.
    pub fn add(&self, root: u32, at: SocketAddr) -> Option<ProbeRegistration> {
        let mut all = self.0.all.lock();
        if all.len() >= PROBES_MAX {
            return None;
        }
        let number = all.last().map_or(0, |last| last.number + 1);
        all.push(Probe { number, root, at });
        self.0.count.store(all.len(), Ordering::SeqCst);
        Some(ProbeRegistration { probes: self.clone(), number })
    }

    /// Whether no probe is registered.
    pub fn is_empty(&self) -> bool {
        self.0.count.load(Ordering::SeqCst) == 0
    }

    /// Decides where an accepted stream is sent. Reads `/proc` on another thread.
    pub async fn destination(&self, came: &NewSocket) -> Destination {
        let peer = SocketPeer::of(came);
        let probes = self.0.all.lock().clone();
        let looked = self.0.lookups.run(move || destination(&probes, peer));
        looked.await.unwrap_or(Destination::Nowhere)
    }
}

fn destination(probes: &[Probe], peer: SocketPeer) -> Destination {
    let mut found = Destination::Gateway;
    for Probe { root, at, .. } in probes {
        match peer.is_of(*root) {
            Membership::Inside => return Destination::Probe(*at),
            Membership::Unknown => found = Destination::Nowhere,
            Membership::Outside => {}
        }
    }
    found
}

/// Hands a stream to the probe, after `preface`.
///
/// # Errors
/// When the probe is gone, or either side breaks.
pub async fn hand_over<S>(mut stream: S, at: SocketAddr, preface: &Preface) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut probe = connect_loopback(at).await?;
    let mut line = serde_json::to_vec(preface)?;
    line.push(b'\n');
    probe.write_all(&line).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut probe).await?;
    Ok(())
}

impl SocketPeer {
    fn of(came: &NewSocket) -> Self {
        match came {
            NewSocket::Tcp(tcp) => match (tcp.peer_addr(), tcp.local_addr()) {
                (Ok(peer), Ok(own)) => Self::Tcp(peer, own),
                _ => Self::Hidden,
            },
            NewSocket::Unix(unix) => {
                let pid = unix.peer_cred().ok().and_then(|peer| peer.pid());
                pid.and_then(|pid| u32::try_from(pid).ok()).map_or(Self::Hidden, Self::Unix)
            }
        }
    }

    fn is_of(self, root: u32) -> Membership {
        match self {
            Self::Tcp(peer, own) => processes::stream_membership(root, peer, own),
            Self::Unix(pid) => processes::process_membership(root, pid),
            Self::Hidden => Membership::Unknown,
        }
    }
}

impl Drop for ProbeRegistration {
    fn drop(&mut self) {
        let mut all = self.probes.0.all.lock();
        all.retain(|probe| probe.number != self.number);
        self.probes.0.count.store(all.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "127.0.0.1:1";

    #[test]
    fn probes_are_bounded_and_removed_with_their_registrations() {
        let probes = Probes::default();
        let at = AT.parse().unwrap();
        let mut held: Vec<_> = (0..PROBES_MAX).map(|_| probes.add(1, at).unwrap()).collect();
        assert!(probes.add(1, at).is_none());
        drop(held.remove(3));
        held.push(probes.add(1, at).unwrap());
        assert!(!probes.is_empty());
        drop(held);
        assert!(probes.is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_stream_goes_to_the_probe_of_its_process_tree_and_an_unknown_one_is_closed() {
        let at = AT.parse().unwrap();
        let own = Probe { number: 0, root: std::process::id(), at };
        // No process has this number (proc_sys_kernel(5): 2^22 is the most).
        let other = Probe { number: 1, root: u32::MAX, at: "127.0.0.1:2".parse().unwrap() };
        let peer = SocketPeer::Unix(std::process::id());
        let probes = [other.clone(), own];
        assert_eq!(destination(&probes, peer), Destination::Probe(at));
        assert_eq!(destination(&[other], peer), Destination::Gateway);
        assert_eq!(destination(&probes, SocketPeer::Hidden), Destination::Nowhere);
        assert_eq!(destination(&probes, SocketPeer::Unix(u32::MAX - 1)), Destination::Nowhere);
        assert_eq!(destination(&[], SocketPeer::Hidden), Destination::Gateway);
    }
}
