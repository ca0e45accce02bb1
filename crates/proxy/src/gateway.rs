//! [`Gateway`]: the state of the data path that all cores share. [`Core`]: the state of one core.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::ca::cache::LeafCache;
use keyward_base::limits::Limits;
use keyward_base::threads::cores;
use keyward_base::time::Clock;
use keyward_base::tokens::TokenSettings;
use keyward_net::dial::Dialler;
use keyward_net::tls::TlsError;
use keyward_rules::inject::credential::ConnectionTls;
use keyward_rules::inject::scrub::DECODER_BYTES_MAX;
use keyward_state::directory::Directory;
use keyward_state::observe::audit::Audit;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::telemetry::TelemetrySwitch;
use keyward_state::rulebook::Rulebook;
use keyward_vault::Vault;

use super::upstream_tls::{ConnectionConfigs, UpstreamTls};
use crate::base_url::ServedBaseUrls;
use crate::connect_link::ConnectLinks;
use crate::limits::agent_streams::{AgentStreams, HandshakeLimit, UnauthenticatedStreams};
use crate::limits::auth_failures::{AlertLimit, AuthFailures};
use crate::limits::body_buffer::BodyBuffer;
use crate::limits::budget::{Budget, PerAgent};
use crate::limits::meter::Meters;
use crate::limits::secret_rejections::SecretRejections;
use crate::limits::shared::{LimitSpace, SharedLimits};
use crate::open_exchanges::OpenExchanges;
use crate::pool::http1::Http1Pool;
use crate::pool::shared_streams::SharedStreams;
use crate::pool::{IdleCount, Protocols};
use crate::probe::Probes;

/// Memory of one core for copies of request bodies that may be sent again, in bytes.
const REPLAYS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The time between two sweeps of idle upstream streams is their timeout, but within these bounds.
const SWEPT_AFTER_MIN: Duration = Duration::from_millis(100);
const SWEPT_AFTER_MAX: Duration = Duration::from_secs(30);

/// The services that the data path uses, shared by all cores.
pub struct GatewayServices {
    /// Organisations, users, agents and connections.
    pub directory: Arc<Directory>,
    /// The rules in force.
    pub rulebook: Arc<Rulebook>,
    /// The store of credentials.
    pub vault: Arc<Vault>,
    /// Certificates shown to agents.
    pub leaves: Arc<LeafCache>,
    /// Opens streams to upstreams.
    pub dialler: Arc<Dialler>,
    /// The initial TLS configuration for upstreams.
    pub client_tls: Arc<ClientConfig>,
    /// The log of audit events.
    pub audit: Audit,
    pub metrics: Arc<Metrics>,
    /// Spans of exchanges, while an operator wants them.
    pub telemetry: TelemetrySwitch,
    /// The configured limits.
    pub limits: Limits,
    /// Rate limits that all replicas share.
    pub shared_limits: Arc<SharedLimits>,
    /// The maximum number of file descriptors for the streams of both legs together.
    pub descriptors_max: usize,
    pub clock: Clock,
    pub base_urls: ServedBaseUrls,
    /// The URL of the page of errors; `None` where it would not lead to this gateway later.
    pub errors_page: Option<String>,
    /// The links to the console in refusals.
    pub connect: ConnectLinks,
    /// Changes when other gateways take the next requests: an answer then ends its HTTP/1.1 stream.
    pub retirement: watch::Receiver<Retirement>,
    /// Becomes true when the gateway drains.
    pub draining: watch::Receiver<bool>,
}

/// Whether a gateway that serves leaves new streams to others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Retirement {
    /// The gateway accepts all new streams.
    #[default]
    No,
    /// It is not ready, but accepts: load balancers need time to notice.
    Announced,
    /// Another process has its listening sockets.
    Replaced,
}

/// The shared state of the data path.
pub struct Gateway {
    parts: GatewayServices,
    pub(crate) auth_failures: AuthFailures,
    pub(crate) alert_limit: AlertLimit,
    pub(crate) agent_streams: AgentStreams,
    pub(crate) meters: Meters,
    /// Answers by which upstreams refuse secrets.
    pub(crate) refusals: Arc<SecretRejections>,
    /// Memory for bodies that are kept until a credential is renewed.
    pub(crate) renewal_bodies: Arc<Budget>,
    /// Memory for bodies into which a credential is written.
    pub(crate) injected_bodies: Arc<Budget>,
    /// Memory for decoding answers.
    pub(crate) decoders: Arc<Budget>,
    pub(crate) streams: Arc<Semaphore>,
    /// Places for checks of sessions with databases that take long, one for each core: as many as could run on the
    /// threads that serve streams.
    pub(crate) long_checks: Arc<Semaphore>,
    pub(crate) open_exchanges: OpenExchanges,
    /// Streams on which no agent has authenticated yet.
    pub(crate) unauthenticated: Arc<UnauthenticatedStreams>,
    /// The probes of `keyward doctor`.
    pub(crate) probes: Probes,
    pub(crate) upstream_tls: ArcSwap<UpstreamTls>,
    connection_tls: ConnectionConfigs,
    /// Becomes true when all remaining streams must end at once.
    pub(crate) cutting: watch::Sender<bool>,
}

/// The state of one core: its runtime's streams and caches.
pub struct Core {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) pool: Http1Pool,
    pub(crate) shared_streams: Arc<SharedStreams>,
    /// The idle streams of both pools.
    pub(crate) idle: Arc<IdleCount>,
    pub(crate) protocols: Protocols,
    pub(crate) replays: Arc<Budget>,
    pub(crate) handshakes: HandshakeLimit,
}

impl Gateway {
    /// The state that all cores share.
    pub fn new(parts: GatewayServices) -> Arc<Self> {
        let max = parts.limits.auth_failures_per_minute_max;
        let (shared, space) = (parts.shared_limits.clone(), LimitSpace::AgentTokens);
        let auth_failures = AuthFailures::new(shared.clone(), space, max);
        let agent_streams = AgentStreams::new(&parts.limits, parts.descriptors_max);
        let streams = Arc::new(Semaphore::new(parts.limits.streams_max));
        let unauthenticated = UnauthenticatedStreams::new(parts.limits.unauthenticated_streams_max);
        let upstream_tls = ArcSwap::from_pointee(UpstreamTls::new(&parts.client_tls, 0));
        let alert_limit = AlertLimit::default();
        let (meters, cutting) = (Meters::new(shared), watch::Sender::new(false));
        let (renewal_bodies, each) = for_renewals(&parts.vault.token_settings());
        let renewal_bodies = Budget::new(renewal_bodies, each);
        let each = PerAgent::at_least(parts.limits.written_body_bytes_max);
        let injected_bodies = Budget::new(parts.limits.written_body_bytes_total, each);
        let each = PerAgent::at_least(DECODER_BYTES_MAX);
        let decoders = Budget::new(parts.limits.decoder_bytes_total, each);
        Arc::new(Self {
            parts,
            auth_failures,
            alert_limit,
            agent_streams,
            meters,
            refusals: Arc::default(),
            renewal_bodies,
            injected_bodies,
            decoders,
            streams,
            long_checks: Arc::new(Semaphore::new(cores())),
            open_exchanges: OpenExchanges::default(),
            unauthenticated,
            probes: Probes::default(),
            upstream_tls,
            connection_tls: ConnectionConfigs::default(),
            cutting,
        })
    }

    /// Verifies upstreams with `tls` from now on, on new streams only.
    pub fn replace_upstream_tls(&self, tls: Arc<ClientConfig>) {
        let generation = self.upstream_tls.load().generation + 1;
        self.upstream_tls.store(Arc::new(UpstreamTls::new(&tls, generation)));
    }

    /// How upstreams are dialled and verified now, for a connection that may have certificates of its own.
    ///
    /// # Errors
    /// When those are not certificates and a key.
    pub(crate) fn tls_of(&self, own: Option<&ConnectionTls>) -> Result<Arc<UpstreamTls>, TlsError> {
        let usual = self.upstream_tls.load_full();
        match own {
            None => Ok(usual),
            Some(own) => self.connection_tls.of(own, &usual),
        }
    }

    /// How upstreams are verified now. Offers HTTP/1.1 alone.
    pub fn upstream_tls(&self) -> Arc<ClientConfig> {
        self.upstream_tls.load().http1.clone()
    }

    /// The same for a connection that may have certificates of its own.
    ///
    /// # Errors
    /// When those are not certificates and a key.
    pub fn upstream_tls_of(
        &self,
        own: Option<&ConnectionTls>,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        self.tls_of(own).map(|tls| tls.http1.clone())
    }

    /// Changes the memory for bodies that are kept until a credential is renewed.
    pub fn resize_renewal_bodies(&self, settings: &TokenSettings) {
        let (total, each) = for_renewals(settings);
        self.renewal_bodies.resize(total, each);
    }

    /// Requests, WebSockets and tunnels that are open now.
    pub fn open_exchanges(&self) -> &OpenExchanges {
        &self.open_exchanges
    }

    /// The programs that are only examined.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Resolves when a drain has waited long enough: every stream ends now.
    pub(crate) async fn cut(&self) {
        // The sender is our own: it cannot be gone.
        let _ = self.cutting.subscribe().wait_for(|cutting| *cutting).await;
    }
}

/// The total for bodies that are kept until a credential is renewed, and each agent's minimum: one body of the
/// maximum size.
fn for_renewals(settings: &TokenSettings) -> (usize, PerAgent) {
    let each = PerAgent::at_least(BodyBuffer::size_max(settings.replay_bytes_max));
    (settings.replay_bytes_total, each)
}

impl std::ops::Deref for Gateway {
    type Target = GatewayServices;

    fn deref(&self) -> &GatewayServices {
        &self.parts
    }
}

impl Core {
    /// A core of `gateway`. Call inside the runtime that will serve it.
    pub fn new(gateway: Arc<Gateway>) -> Arc<Self> {
        let limits = &gateway.limits;
        let idle = IdleCount::new(limits.idle_upstreams_max);
        let pool = Http1Pool::new(limits, idle.clone());
        let shared_streams = SharedStreams::new(limits.idle_upstream_timeout);
        let handshakes = HandshakeLimit::new(limits.handshakes_max);
        let protocols = Protocols::default();
        let replays = Budget::new(REPLAYS_BYTES_MAX, PerAgent::at_least(0));
        Arc::new(Self { gateway, pool, shared_streams, idle, protocols, replays, handshakes })
    }

    /// Drops the idle upstream streams of a session that has ended.
    pub(crate) fn drop_session(&self, session: u64) {
        self.pool.drop_session(session);
        self.shared_streams.drop_session(session);
    }

    /// Drops idle upstream streams until the core ends: expired ones from time to time, and the longest idle ones where
    /// there are too many.
    pub(crate) fn sweeper(self: &Arc<Self>) -> impl Future<Output = ()> + use<> {
        let (core, idle) = (Arc::downgrade(self), self.idle.clone());
        let pause = self.gateway.limits.idle_upstream_timeout;
        let pause = pause.clamp(SWEPT_AFTER_MIN, SWEPT_AFTER_MAX);
        async move {
            loop {
                let has_too_many = timeout(pause, idle.too_many()).await.is_ok();
                let Some(core) = core.upgrade() else { return };
                core.sweep();
                if has_too_many {
                    core.drop_excess();
                }
            }
        }
    }

    /// Drops upstream streams that have been closed or have expired, and writes records that are due.
    fn sweep(&self) {
        let now = Instant::now();
        self.pool.sweep(now);
        self.shared_streams.sweep(now);
        self.gateway.audit.write_counted_refusals();
    }

    /// Drops the upstream streams that have been idle for longest, where there are too many.
    fn drop_excess(&self) {
        let mut since = self.pool.idle_since();
        since.extend(self.shared_streams.idle_since());
        let excess = self.idle.excess().min(since.len());
        if let Some(last) = excess.checked_sub(1) {
            let (_, last, _) = since.select_nth_unstable(last);
            self.pool.drop_idle(*last);
            self.shared_streams.drop_idle(*last);
        }
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
