//! The data path: from an agent's stream to an upstream's and back.
//!
//! `cores` accept streams from `listen` (`front` ends TLS with the proxy itself); `connect` and `base_url` find
//! out who asks for what, `session` keeps it. `drive` serves requests over HTTP/1.1, `h2` over HTTP/2; every
//! one ends in `exchange::run`. `upstream` sends it in the protocol that the upstream speaks; `scrub` looks
//! into the answer. `tunnel` and `websocket` copy bytes. Decisions are `policy/`'s, credentials `vault/`'s.

mod admit;
mod alarm;
mod answer;
mod arriving;
mod asker;
mod authenticate;
pub mod base_url;
mod between;
mod body;
mod budget;
pub mod call;
mod connect;
mod copy;
pub mod cores;
mod drive;
mod error;
mod exchange;
mod frames;
pub mod front;
mod gate;
mod grpc;
mod h2;
mod inbound;
mod intercept;
mod limiter;
mod lingering;
pub mod listen;
mod meter;
mod outbound;
mod permitted;
mod pool;
mod pulse;
mod rarely;
mod record;
mod renew;
mod replay;
mod respond;
mod retry;
mod scrub;
mod session;
mod standing;
mod stream;
pub mod test_request;
mod trailers;
mod tunnel;
mod turns;
mod upgrade;
mod upstream;
mod websocket;
mod written;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use tokio::sync::{Semaphore, watch};

use crate::base::limits::Limits;
use crate::base::time::Clock;
use crate::ca::cache::Leaves;
use crate::directory::Directory;
use crate::net::dial::Dialler;
use crate::net::tls::{ALPN_HTTP1, ALPN_HTTP2};
use crate::observe::audit::Audit;
use crate::observe::metrics::Metrics;
use crate::rulebook::Rulebook;
use crate::vault::Vault;

use alarm::Alarms;
use authenticate::Guesses;
use base_url::BaseUrls;
use budget::Budget;
use h2::upstream::SharedStreams;
use meter::Meters;
use pool::Pool;
use session::Census;
use turns::Turns;
use upstream::protocols::Protocols;

/// What the bodies that are kept to be sent again may take, per core, in bytes.
const REPLAYS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What the data path stands on, shared by all cores.
pub struct Parts {
    /// Who exists.
    pub directory: Arc<Directory>,
    /// What is allowed.
    pub rulebook: Arc<Rulebook>,
    /// Credentials.
    pub vault: Arc<Vault>,
    /// Certificates shown to agents.
    pub leaves: Arc<Leaves>,
    /// The way out.
    pub dialler: Arc<Dialler>,
    /// TLS towards upstreams, to begin with.
    pub client_tls: Arc<ClientConfig>,
    /// The audit log.
    pub audit: Audit,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Bounds.
    pub limits: Limits,
    /// The time of day.
    pub clock: Clock,
    /// Which base URLs are served.
    pub base_urls: BaseUrls,
    /// Becomes true when the gateway drains.
    pub draining: watch::Receiver<bool>,
}

/// The shared state of the data path.
pub struct Gateway {
    parts: Parts,
    guesses: Guesses,
    alarms: Alarms,
    census: Census,
    meters: Meters,
    /// What bodies may take that are kept for a newer credential.
    renewals: Arc<Budget>,
    /// What bodies may take that a credential is written into.
    written: Arc<Budget>,
    streams: Arc<Semaphore>,
    outward: ArcSwap<Outward>,
    /// Becomes true when what has not ended by itself is ended.
    cutting: watch::Sender<bool>,
}

/// How upstreams are dialled and verified now.
pub struct Outward {
    /// Offers HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
    /// Offers HTTP/2 as well.
    either: Arc<ClientConfig>,
    /// Streams of an earlier number are not used again: other roots verified them, or their address
    /// may not be allowed any more.
    number: u64,
}

/// One core's state: its own runtime, its own idle upstream streams.
pub struct Core {
    gateway: Arc<Gateway>,
    pool: Pool,
    shared: SharedStreams,
    protocols: Protocols,
    replays: Arc<Budget>,
    handshakes: Turns,
}

impl Gateway {
    /// The state that all cores share.
    pub fn new(parts: Parts) -> Arc<Self> {
        let guesses = Guesses::new(parts.limits.auth_failures_per_minute_max);
        let census = Census::new(parts.limits.streams_per_agent_max);
        let streams = Arc::new(Semaphore::new(parts.limits.streams_max));
        let outward = ArcSwap::from_pointee(Outward::new(&parts.client_tls, 0));
        let alarms = Alarms::default();
        let (meters, cutting) = (Meters::default(), watch::Sender::new(false));
        let renewals = Budget::new(parts.vault.token_settings().replay_bytes_total);
        let written = Budget::new(parts.limits.written_body_bytes_total);
        Arc::new(Self {
            parts,
            guesses,
            alarms,
            census,
            meters,
            renewals,
            written,
            streams,
            outward,
            cutting,
        })
    }

    /// Verifies upstreams with `tls` from now on, on new streams only.
    pub fn go_out_anew(&self, tls: Arc<ClientConfig>) {
        let number = self.outward.load().number + 1;
        self.outward.store(Arc::new(Outward::new(&tls, number)));
    }

    /// What bodies may take from now on that are kept for a newer credential, in bytes.
    pub fn keep_for_renewals(&self, bytes_max: usize) {
        self.renewals.resize(bytes_max);
    }

    /// Resolves when a drain has waited long enough: every stream ends now.
    pub(crate) async fn cut(&self) {
        // The sender is our own: it cannot be gone.
        let _ = self.cutting.subscribe().wait_for(|cutting| *cutting).await;
    }
}

impl Outward {
    fn new(tls: &Arc<ClientConfig>, number: u64) -> Self {
        // The sessions to resume are common to both.
        let offering = |names: &[&[u8]]| {
            let mut config = ClientConfig::clone(tls);
            config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let (http1, either) = (offering(&[ALPN_HTTP1]), offering(&[ALPN_HTTP2, ALPN_HTTP1]));
        Self { http1, either, number }
    }
}

impl std::ops::Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Core {
    /// A core of `gateway`. Call inside the runtime that will serve it.
    pub fn new(gateway: Arc<Gateway>) -> Arc<Self> {
        let pool = Pool::new(&gateway.limits);
        let handshakes = Turns::new(gateway.limits.handshakes_max);
        let (shared, protocols) = (SharedStreams::default(), Protocols::default());
        let replays = Budget::new(REPLAYS_BYTES_MAX);
        Arc::new(Self { gateway, pool, shared, protocols, replays, handshakes })
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}
