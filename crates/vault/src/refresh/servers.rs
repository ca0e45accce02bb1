//! Limits requests to each authorization server: a maximum of concurrent refreshes, a pause for a client
//! that the server throttles, and a circuit breaker with one probe at a time. Servers share no state, so a
//! server that hangs delays only its own connections. [`TokenRequester`]: sends the token requests of the vault.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cache::random;
use keyward_base::id::ConnectionId;
use keyward_base::id::OrgId;
use keyward_base::time::{Clock, Moment};
use keyward_base::tokens::TokenSettings;
use keyward_model::References;
use keyward_net::call::{CallFailure, HttpClient};

/// The same cause of failures at one server is logged as a warning again after this time.
const WARN_AGAIN: Duration = Duration::from_secs(600);

/// Jitter of requests that were queued together.
const JITTER_MAX: Duration = Duration::from_millis(250);

/// The circuit opens only if at least this many connections fail: a single one may have its own problem.
const FAILING_CONNECTIONS_MIN: usize = 2;

/// A client at an authorization server.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientAtServer {
    /// The token endpoint's host.
    pub server: String,
    pub client_id: String,
}

/// All servers that requests were sent to. Bounded by the connections' apps and providers.
#[derive(Debug, Default)]
pub struct TokenServers(Mutex<HashMap<String, Arc<TokenServer>>>);

#[derive(Debug)]
struct TokenServer {
    slots: ArcSwap<ServerSlots>,
    state: Mutex<ServerState>,
}

/// The slots of a server.
#[derive(Debug)]
struct ServerSlots {
    max: usize,
    free: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct ServerState {
    /// Paused clients.
    paused_clients: HashMap<String, (Moment, Duration)>,
    /// Consecutive failures, and the failing connections.
    failures: u32,
    failing: HashSet<ConnectionId>,
    /// When the circuit was opened.
    open: Option<Moment>,
    /// When each cause was last logged as a warning.
    warned: HashMap<CallFailure, Moment>,
}

/// A request slot at a server, released when it is dropped or given up.
#[derive(Debug)]
pub struct RequestSlot {
    server: Arc<TokenServer>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl TokenServers {
    fn server(&self, name: &str, settings: &TokenSettings) -> Arc<TokenServer> {
        let mut servers = self.0.lock();
        let max = settings.refreshes_per_server_max.max(1);
        let slots = || ServerSlots { max, free: Arc::new(Semaphore::new(max)) };
        let new = || {
            Arc::new(TokenServer { slots: ArcSwap::from_pointee(slots()), state: Mutex::default() })
        };
        let server = servers.entry(name.to_owned()).or_insert_with(new).clone();
        if server.slots.load().max != max {
            // Holders of slots and waiting requests keep the old limit.
            server.slots.store(Arc::new(slots()));
        }
        server
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// The rest of the pause.
    pub async fn slot(
        &self,
        asked: &ClientAtServer,
        clock: &Clock,
        settings: &TokenSettings,
    ) -> Result<RequestSlot, Duration> {
        let server = self.server(&asked.server, settings);
        server.is_open_to(&asked.client_id, clock.moment(), settings)?;
        let slots = server.slots.load().free.clone();
        let permit = match slots.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let permit = slots.acquire_owned().await;
                // The semaphore is never closed.
                let permit = permit.map_err(|_| Duration::ZERO)?;
                tokio::time::sleep(JITTER_MAX.mul_f64(f64::from(random()) / f64::from(u32::MAX)))
                    .await;
                // The state may have changed while this request was queued.
                server.is_open_to(&asked.client_id, clock.moment(), settings)?;
                permit
            }
        };
        server.begins_probe(clock.moment());
        Ok(RequestSlot { server, permit: Mutex::new(Some(permit)) })
    }

    /// Whether a cause of failures at a server must be logged as a warning: it is new, or its last warning
    /// is old.
    pub fn should_warn(
        &self,
        server: &str,
        cause: CallFailure,
        now: Moment,
        settings: &TokenSettings,
    ) -> bool {
        let server = self.server(server, settings);
        let mut state = server.state.lock();
        let recent = state.warned.get(&cause).is_some_and(|last| now.since(last) < WARN_AGAIN);
        if !recent {
            state.warned.insert(cause, now);
        }
        !recent
    }

    /// The rest of the pause of a client that its server throttles.
    pub fn client_pause(&self, asked: &ClientAtServer, now: Moment) -> Option<Duration> {
        let server = self.0.lock().get(&asked.server).cloned()?;
        let state = server.state.lock();
        let (since, pause) = state.paused_clients.get(&asked.client_id)?;
        pause.checked_sub(now.since(since)).filter(|rest| !rest.is_zero())
    }

    /// Pauses the client at this server.
    pub fn pause_client(
        &self,
        asked: &ClientAtServer,
        now: Moment,
        pause: Duration,
        settings: &TokenSettings,
    ) {
        let server = self.server(&asked.server, settings);
        server.state.lock().paused_clients.insert(asked.client_id.clone(), (now, pause));
    }
}

impl TokenServer {
    fn is_open_to(
        &self,
        client: &str,
        now: Moment,
        settings: &TokenSettings,
    ) -> Result<(), Duration> {
        let mut state = self.state.lock();
        state.paused_clients.retain(|_, (since, pause)| now.since(since) < *pause);
        if let Some((since, pause)) = state.paused_clients.get(client) {
            return Err(pause.saturating_sub(now.since(since)));
        }
        let rest = state.open.as_ref().and_then(|open| {
            let rest = settings.circuit_pause.saturating_sub(now.since(open));
            (!rest.is_zero()).then_some(rest)
        });
        rest.map_or(Ok(()), Err)
    }

    /// The first request after the pause of an open circuit is the probe; others wait for another pause.
    fn begins_probe(&self, now: Moment) {
        let mut state = self.state.lock();
        if state.open.is_some() {
            state.open = Some(now);
        }
    }
}

impl RequestSlot {
    /// Notes that the server responded.
    pub fn answered(&self) {
        let mut state = self.server.state.lock();
        let (paused_clients, warned) =
            (std::mem::take(&mut state.paused_clients), std::mem::take(&mut state.warned));
        *state = ServerState { paused_clients, warned, ..ServerState::default() };
    }

    /// Releases the slot while a late response is awaited, and counts a failure.
    pub fn release_slot(&self, connection: &ConnectionId, now: Moment, settings: &TokenSettings) {
        self.failed(connection, now, settings);
        self.permit.lock().take();
    }

    /// Notes a failure, unless it was counted as late.
    pub fn failed(&self, connection: &ConnectionId, now: Moment, settings: &TokenSettings) {
        if self.permit.lock().is_none() {
            return;
        }
        let mut state = self.server.state.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failing.len() < FAILING_CONNECTIONS_MIN {
            state.failing.insert(connection.clone());
        }
        let many = state.failures >= settings.circuit_failures_max;
        if many && state.failing.len() >= FAILING_CONNECTIONS_MIN {
            state.open = Some(now);
        }
    }
}

/// The name under which sources share limits and pauses, as authorization servers do.
pub(crate) fn server_of(org: &OrgId, references: &References) -> Option<String> {
    let first = references.values().next()?;
    Some(format!("source {org}/{}", first.from))
}

/// The sender; empty until the network is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenRequester(pub(crate) Arc<ArcSwapOption<RequestSender>>);

/// The client for token requests.
#[derive(Debug)]
pub(crate) struct RequestSender {
    pub(crate) caller: Arc<HttpClient>,
    /// The scripted responses of a test.
    #[cfg(test)]
    pub(crate) script: Option<crate::tests::simulation::Script>,
}

impl RequestSender {
    /// A sender that sends a request only if `check` permits it.
    pub fn with_check(&self, check: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            caller: Arc::new(self.caller.with_check(check)),
            #[cfg(test)]
            script: self.script.clone(),
        }
    }
}

impl TokenRequester {
    /// Sets the client.
    pub fn calls(&self, caller: Arc<HttpClient>) {
        let by = RequestSender {
            caller,
            #[cfg(test)]
            script: None,
        };
        self.0.store(Some(Arc::new(by)));
    }

    /// Sets the client and the scripted responses.
    #[cfg(test)]
    pub fn scripted(&self, caller: Arc<HttpClient>, script: crate::tests::simulation::Script) {
        self.0.store(Some(Arc::new(RequestSender { caller, script: Some(script) })));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use futures_util::FutureExt;

    use super::*;

    fn clock() -> (Clock, Arc<AtomicI64>) {
        let ms = Arc::new(AtomicI64::new(1_000_000));
        (Clock::Fixed(ms.clone()), ms)
    }

    fn asked(server: &str, client: &str) -> ClientAtServer {
        ClientAtServer { server: server.to_owned(), client_id: client.to_owned() }
    }

    /// oauth 5.parallel, 8.8
    #[tokio::test(start_paused = true)]
    async fn a_ninth_refresh_queues_and_another_server_does_not() {
        let (servers, settings, clock) =
            (TokenServers::default(), TokenSettings::default(), clock().0);
        let (busy, other) = (asked("busy", "c"), asked("other", "c"));
        let mut slots = Vec::new();
        for _ in 0..8 {
            slots.push(servers.slot(&busy, &clock, &settings).now_or_never().unwrap().unwrap());
        }
        assert!(servers.slot(&busy, &clock, &settings).now_or_never().is_none());
        assert!(servers.slot(&other, &clock, &settings).now_or_never().is_some());
        let next = servers.slot(&busy, &clock, &settings);
        drop(slots.pop());
        assert!(next.await.is_ok());
    }

    /// oauth 5.parallel, 5.settings: the setting can change while the gateway serves.
    #[tokio::test(start_paused = true)]
    async fn a_changed_number_of_slots_applies_to_later_requests() {
        let (servers, clock, busy) = (TokenServers::default(), clock().0, asked("busy", "c"));
        let slots = |max: usize| TokenSettings {
            refreshes_per_server_max: max,
            ..TokenSettings::default()
        };
        let (one, two) = (slots(1), slots(2));
        let first = servers.slot(&busy, &clock, &one).now_or_never().unwrap().unwrap();
        assert!(servers.slot(&busy, &clock, &one).now_or_never().is_none());
        let mut more = Vec::new();
        for _ in 0..2 {
            more.push(servers.slot(&busy, &clock, &two).now_or_never().unwrap().unwrap());
        }
        assert!(servers.slot(&busy, &clock, &two).now_or_never().is_none());
        drop((first, more));
        let first = servers.slot(&busy, &clock, &one).now_or_never().unwrap().unwrap();
        assert!(servers.slot(&busy, &clock, &one).now_or_never().is_none());
        drop(first);
    }

    /// oauth 10.4
    #[tokio::test(start_paused = true)]
    async fn a_429_pauses_the_client_at_that_server_and_no_other_client() {
        let (servers, settings) = (TokenServers::default(), TokenSettings::default());
        let (clock, ms) = clock();
        let pause = Duration::from_secs(30);
        servers.pause_client(&asked("s", "loud"), clock.moment(), pause, &settings);
        ms.fetch_add(10_000, Ordering::SeqCst);
        let rest = servers.slot(&asked("s", "loud"), &clock, &settings).await.unwrap_err();
        assert_eq!(rest, Duration::from_secs(20));
        assert!(servers.slot(&asked("s", "quiet"), &clock, &settings).await.is_ok());
        assert!(servers.slot(&asked("t", "loud"), &clock, &settings).await.is_ok());
        ms.fetch_add(20_000, Ordering::SeqCst);
        assert!(servers.slot(&asked("s", "loud"), &clock, &settings).await.is_ok());
    }

    /// oauth 5.answer: the next request gets the slot, and the failure is counted once.
    #[tokio::test(start_paused = true)]
    async fn a_late_answer_frees_its_slot() {
        let (servers, clock) = (TokenServers::default(), clock().0);
        let settings = TokenSettings {
            refreshes_per_server_max: 1,
            circuit_failures_max: 3,
            ..TokenSettings::default()
        };
        let (slow, connection) = (asked("slow", "c"), ConnectionId::random());
        let first = servers.slot(&slow, &clock, &settings).now_or_never().unwrap().unwrap();
        assert!(servers.slot(&slow, &clock, &settings).now_or_never().is_none());
        first.release_slot(&connection, clock.moment(), &settings);
        first.failed(&connection, clock.moment(), &settings);
        let second = servers.slot(&slow, &clock, &settings).now_or_never().unwrap().unwrap();
        second.failed(&ConnectionId::random(), clock.moment(), &settings);
        drop((first, second));
        assert!(servers.slot(&slow, &clock, &settings).await.is_ok(), "two failures, not three");
    }

    /// oauth 9.cause: once for each cause and server, and again after a while.
    #[test]
    fn a_cause_is_logged_once_for_each_server_and_again_after_a_while() {
        let (servers, settings, (clock, ms)) =
            (TokenServers::default(), TokenSettings::default(), clock());
        let should_warn =
            |server, cause| servers.should_warn(server, cause, clock.moment(), &settings);
        for (server, cause, news) in [
            ("a", CallFailure::TlsUnknownIssuer, true),
            ("a", CallFailure::TlsUnknownIssuer, false),
            ("a", CallFailure::NoAnswer, true),
            ("b", CallFailure::TlsUnknownIssuer, true),
            ("a", CallFailure::TlsUnknownIssuer, false),
        ] {
            assert_eq!(should_warn(server, cause), news, "{server} {cause:?}");
        }
        ms.fetch_add(600_000, Ordering::SeqCst);
        assert!(should_warn("a", CallFailure::TlsUnknownIssuer));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_for_many_connections_is_probed_by_one_at_a_time() {
        let (servers, settings) = (TokenServers::default(), TokenSettings::default());
        let ((clock, ms), down) = (clock(), asked("down", "c"));
        let connections = [ConnectionId::random(), ConnectionId::random()];
        let fails = async |connection: &ConnectionId| {
            let slot = servers.slot(&down, &clock, &settings).await?;
            slot.failed(connection, clock.moment(), &settings);
            Ok::<(), Duration>(())
        };
        for _ in 0..9 {
            fails(&connections[0]).await.expect("one connection's failures are its own");
        }
        fails(&connections[1]).await.unwrap();
        assert_eq!(fails(&connections[0]).await, Err(settings.circuit_pause));
        ms.fetch_add(10_000, Ordering::SeqCst);
        let probe = servers.slot(&down, &clock, &settings).await.unwrap();
        assert!(servers.slot(&down, &clock, &settings).await.is_err(), "one probe");
        probe.answered();
        assert!(servers.slot(&down, &clock, &settings).await.is_ok());
    }
}
