//! Flights: a credential is fetched once for all who want it, in a task of its own, so that nobody who
//! hangs up takes what it brings with him.
//!
//! A flight reads the grant's row and uses what is there; else it waits for its turn at the server, takes
//! the lease that other replicas would take, reads the row again, asks, writes what was answered over
//! exactly the version that it read, and only then lets anyone use it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Vault;
use super::asks::Fault;
use super::backoff::Failed;
use super::error::{Refused, VaultError};
use super::fresh::{Cell, Landing, Look, Ticket, Why};
use super::grants::{Stored, is_conflict};
use super::record::Verdict;
use super::servers::{Asked, Turn};
use super::trouble::About;
use super::unstored::Unstored;
use crate::base::id::ConnectionId;
use crate::base::time::Clock;
use crate::base::tokens::TokenSettings;
use crate::directory::{BrokenReason, ConnectionRecord};
use crate::inject::credential::Credential;
use crate::store::Lease;

/// How often a row is read again while another replica holds its lease.
const LEASE_POLL: Duration = Duration::from_millis(100);

/// A flight that others overtake so often ends.
const ROUNDS_MAX: usize = 8;

/// Between two tries to store what a server answered: it may have spent the old token.
const STORE_AGAIN: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_millis(2_000),
];

/// The least that a refusal asks to wait.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// Where flights go on, and how many are under way.
#[derive(Clone, Debug)]
pub struct Flights {
    runtime: Handle,
    under_way: Arc<watch::Sender<usize>>,
}

/// One flight that is under way.
struct Aloft(Arc<watch::Sender<usize>>);

/// One flight.
struct Flight<'a> {
    vault: &'a Vault,
    connection: &'a Arc<ConnectionRecord>,
    why: Why,
    ticket: &'a Ticket,
    settings: Arc<TokenSettings>,
    /// What was asked, once somebody was.
    about: Mutex<Option<About>>,
    /// Until what came of it is remembered, no other replica asks.
    lease: OnceLock<Lease>,
}

/// What came of asking.
enum Came {
    /// The flight ends so.
    Landed(Landing),
    /// What was answered is in the store.
    Stored,
    /// The grant is another one by now.
    Overtaken,
}

/// Whether refreshes have failed before.
enum Paused {
    /// They have, and nobody is asked for so long.
    Still(Duration),
    /// They have, and it may be tried again.
    Before,
}

/// What came of the wait for a lease.
enum Claimed {
    Lease(Lease),
    Landed(Landing),
}

impl Flights {
    /// On the runtime that this is called in, which must outlive all requests.
    pub fn here() -> Self {
        Self { runtime: Handle::current(), under_way: Arc::new(watch::Sender::new(0)) }
    }

    fn take_off(&self) -> Aloft {
        self.under_way.send_modify(|count| *count += 1);
        Aloft(self.under_way.clone())
    }
}

impl Drop for Aloft {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Vault {
    /// How long a flight takes at most that is under way: its request, and storing what came.
    pub fn flight_time(&self) -> Duration {
        self.token_settings().exchange_timeout + STORE_AGAIN.iter().sum::<Duration>()
    }

    /// Waits until no flight is under way; whether that was so in time.
    pub async fn landed(&self, within: Duration) -> bool {
        let mut under_way = self.flights.under_way.subscribe();
        tokio::time::timeout(within, under_way.wait_for(|count| *count == 0)).await.is_ok()
    }

    /// A credential, of memory or of a flight.
    pub(super) async fn fetch(
        &self,
        connection: Arc<ConnectionRecord>,
        why: Why,
    ) -> Result<Arc<Credential>, VaultError> {
        let cell = self.fresh.cell(&connection.org, &connection.id);
        let settings = self.token_settings();
        let deadline = Instant::now() + settings.wait_timeout;
        let mut waited = None;
        loop {
            let mut news = cell.news();
            match cell.look(why, waited, (&self.clock, &settings)) {
                Look::Use(credential) => return Ok(credential),
                Look::UseAndBegin(credential, ticket) => {
                    self.take_off(&connection, why, ticket);
                    return Ok(credential);
                }
                Look::Refuse(refused) => return Err(refused.of(&connection)),
                Look::Pause(rest) => return Err(unavailable(&connection, rest)),
                Look::Wait(number) => waited = Some(number),
                Look::Begin(ticket) => {
                    waited = Some(ticket.number());
                    self.take_off(&connection, why, ticket);
                }
            }
            if tokio::time::timeout_at(deadline, news.changed()).await.is_err() {
                return late(&cell, why, &self.clock)
                    .ok_or_else(|| unavailable(&connection, RETRY_AFTER_MIN));
            }
        }
    }

    pub(super) fn take_off(&self, connection: &Arc<ConnectionRecord>, why: Why, ticket: Ticket) {
        let (vault, connection) = (self.clone(), connection.clone());
        self.in_flight(async move { vault.fly(&connection, why, ticket).await });
    }

    /// Goes on whoever hangs up, on the runtime that outlives all requests, and counts as under way until it
    /// ends: [`Vault::landed`] waits for it.
    pub fn in_flight(&self, work: impl Future<Output = ()> + Send + 'static) {
        let aloft = self.flights.take_off();
        self.flights.runtime.spawn(async move {
            work.await;
            drop(aloft);
        });
    }

    async fn fly(&self, connection: &Arc<ConnectionRecord>, why: Why, ticket: Ticket) {
        let settings = self.token_settings();
        let (about, lease) = (Mutex::default(), OnceLock::new());
        let flight =
            Flight { vault: self, connection, why, ticket: &ticket, settings, about, lease };
        let landing = match flight.go().await {
            Ok(landing) => landing,
            Err(error) => Landing::Refused(Refused::Failed(Arc::new(error))),
        };
        self.note(connection, &landing);
        let Flight { about, lease, .. } = flight;
        let lasting = matches!(landing, Landing::Failed(_));
        if ticket.land(landing).is_some() && lasting {
            let backoff = self.fresh.cell(&connection.org, &connection.id).backoff();
            if let Some(about) = about.into_inner() {
                self.keep_trouble((&connection.org, &connection.id), about, &backoff).await;
            }
            self.alert(connection);
        }
        drop(lease);
    }

    /// A connection that has failed for long is reported, at most once for each failure's pause.
    fn alert(&self, connection: &ConnectionRecord) {
        let Some(failing) = self.failing(connection) else { return };
        if failing.alert {
            tracing::warn!(
                connection = %connection.id, name = connection.name, since = %failing.since,
                count = failing.count, code = failing.code,
                "refreshes have failed for long: look at the authorization server"
            );
        }
    }

    pub(super) fn count(&self, outcome: &'static str) {
        if let Some(metrics) = self.metrics.get() {
            metrics.refreshed(outcome);
        }
    }

    /// What is said of a flight's end; never what was sent or answered.
    fn note(&self, connection: &ConnectionRecord, landing: &Landing) {
        let (name, provider) = (&connection.name, &connection.provider);
        match landing {
            Landing::Brought | Landing::Paused(_) => {}
            Landing::Failed(failed) => {
                self.count("failed");
                tracing::info!(
                connection = %connection.id, name, provider, code = failed.code,
                    "a refresh failed; it is tried again"
                );
            }
            Landing::Refused(Refused::Broken { reason, detail }) => {
                self.count("broken");
                tracing::warn!(
                connection = %connection.id, name, provider, reason = reason.code(), detail,
                    "a connection is broken: reconnect it"
                );
            }
            Landing::Refused(Refused::Failed(error)) => tracing::warn!(
                connection = %connection.id, name, provider, %error, "no credential could be made"
            ),
        }
    }
}

impl Flight<'_> {
    async fn go(&self) -> Result<Landing, VaultError> {
        let stored = self.vault.stored(self.connection).await?;
        if let Some(landing) = self.what_is_there(&stored).await? {
            return Ok(landing);
        }
        let asked = self.vault.asked(&self.vault.basis(self.connection)?);
        let turn = self.vault.servers.turn(&asked, &self.vault.clock, &self.settings);
        let turn = match turn.await {
            Ok(turn) => turn,
            Err(pause) => return Ok(Landing::Paused(pause)),
        };
        match self.claim().await? {
            Claimed::Lease(lease) => drop(self.lease.set(lease)),
            Claimed::Landed(landing) => return Ok(landing),
        }
        let claimed = Instant::now();
        for round in 0..ROUNDS_MAX {
            if round > 0 && claimed.elapsed() + self.one_more() > self.settings.lease {
                break;
            }
            let stored = self.vault.stored(self.connection).await?;
            if let Some(landing) = self.what_is_there(&stored).await? {
                return Ok(landing);
            }
            // What is to be stored has been asked for already.
            let asks = self.ticket.unstored(stored.version).is_none();
            let had_trouble = match self.pause(&stored).await?.filter(|_| asks) {
                Some(Paused::Still(rest)) => return Ok(Landing::Paused(rest)),
                paused => paused.is_some(),
            };
            match self.ask(&stored, (&asked, &turn)).await? {
                Came::Landed(landing) => return Ok(landing),
                Came::Overtaken => {}
                Came::Stored => {
                    if had_trouble {
                        let (org, id) = (&self.connection.org, &self.connection.id);
                        self.vault.forget_trouble(org, id).await;
                    }
                    let stored = self.vault.stored(self.connection).await?;
                    let landing = self.what_is_there(&stored).await?;
                    // What is dead when it comes is no reason to ask on and on.
                    return Ok(landing.unwrap_or_else(|| Landing::Failed(Failed::default())));
                }
            }
        }
        Ok(Landing::Failed(Failed::default()))
    }

    /// The pause after failures that were stored: before this start, or by another replica.
    async fn pause(&self, stored: &Stored) -> Result<Option<Paused>, VaultError> {
        let basis = self.vault.basis(self.connection)?;
        let about = self.vault.about(&basis, stored).await?;
        let place = (&self.connection.org, &self.connection.id);
        let trouble = self.vault.trouble(place, &about).await;
        *self.about.lock() = Some(about);
        Ok(trouble.map(|backoff| {
            let rest = backoff.rest(self.vault.clock.moment());
            self.ticket.adopt(backoff);
            rest.map_or(Paused::Before, Paused::Still)
        }))
    }

    /// What asking and storing may take: with less left of the lease, another replica would ask meanwhile.
    fn one_more(&self) -> Duration {
        self.settings.exchange_timeout + STORE_AGAIN.iter().sum::<Duration>()
    }

    /// The lease that every replica takes before it asks. Whoever waits for it looks whether the one who
    /// holds it has brought something.
    async fn claim(&self) -> Result<Claimed, VaultError> {
        let name = lease_name(&self.connection.id);
        let until = Instant::now() + self.settings.lease;
        loop {
            if let Some(lease) = self.vault.store.lease(&name, self.settings.lease).await? {
                return Ok(Claimed::Lease(lease));
            }
            if Instant::now() >= until {
                return Ok(Claimed::Landed(Landing::Failed(Failed::default())));
            }
            tokio::time::sleep(LEASE_POLL).await;
            let stored = self.vault.stored(self.connection).await?;
            if let Some(landing) = self.what_is_there(&stored).await? {
                return Ok(Claimed::Landed(landing));
            }
        }
    }

    /// What the row gives without asking anybody; `None` when somebody must be asked.
    async fn what_is_there(&self, stored: &Stored) -> Result<Option<Landing>, VaultError> {
        if let Some(Verdict { reason, detail, .. }) = stored.broken.clone() {
            // A crash, or another replica, left the record as it was.
            self.vault.project(self.connection).await?;
            return Ok(Some(Landing::Refused(Refused::Broken { reason, detail })));
        }
        let grant = stored.grant(self.connection)?;
        // Its hosts may have moved with the answer of a moment ago.
        let basis = self.vault.basis(&self.connection_now())?;
        let other = stored.other_grant(self.connection)?;
        let of = (&grant, other.as_ref(), stored.version);
        if let Some(held) = self.vault.held(self.connection, &basis, of)? {
            let now = self.vault.clock.moment();
            let does = self.why.takes(&held) && !held.is_dead(now);
            let enough = does && (self.why != Why::Needed || !held.ages(now));
            if does {
                self.ticket.publish(held);
            }
            if enough {
                return Ok(Some(Landing::Brought));
            }
        }
        let (connection, by_hand) = (self.connection.name.clone(), self.why.is_by_hand());
        let failed = |error| Ok(Some(Landing::Refused(Refused::Failed(Arc::new(error)))));
        match (self.vault.renews(&basis, &grant), by_hand) {
            (true, false) if !basis.is_automatic() => {
                return failed(VaultError::ByHand { connection });
            }
            (true, _) => return Ok(None),
            (false, true) => return failed(VaultError::NotRefreshable { connection }),
            (false, false) => {}
        }
        let verdict = Verdict { reason: BrokenReason::NoRefreshToken, detail: None, asked: None };
        self.condemned(stored, verdict).await
    }

    /// `None` when the grant is another one by now.
    async fn condemned(
        &self,
        stored: &Stored,
        verdict: Verdict,
    ) -> Result<Option<Landing>, VaultError> {
        let Verdict { reason, detail, .. } = verdict.clone();
        match self.vault.condemn(self.connection, stored, verdict).await {
            Ok(()) => Ok(Some(Landing::Refused(Refused::Broken { reason, detail }))),
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for a newer one and stores it.
    async fn ask(
        &self,
        stored: &Stored,
        (asked, turn): (&Asked, &Turn),
    ) -> Result<Came, VaultError> {
        if let Some(unstored) = self.ticket.unstored(stored.version) {
            return self.keep(unstored).await;
        }
        let grant = stored.grant(self.connection)?;
        let basis = self.vault.basis(self.connection)?;
        let answer = self.vault.ask(self.connection, &basis, &grant).await?;
        let now = self.vault.clock.moment();
        let (failed, whole_client) = match answer {
            Ok(newer) => {
                turn.answered();
                return self.keep(Unstored::of(self.connection, stored, newer.encode())).await;
            }
            Err(Fault::Dead(verdict)) => {
                turn.answered();
                if verdict.reason == BrokenReason::ClientRejected {
                    self.vault.moves.tell(&self.connection.org, &self.connection.id);
                }
                let about = self.about.lock().as_ref().map(|about| about.asked.clone());
                let asked = about.filter(|_| verdict.reason == BrokenReason::ClientRejected);
                let verdict = Verdict { asked, ..verdict };
                return self.came_of(self.condemned(stored, verdict).await?);
            }
            Err(Fault::Passing { failed, whole_client }) => (failed, whole_client),
        };
        if failed.code.as_deref().is_some_and(|code| matches!(code, "http_404" | "http_405")) {
            self.vault.moves.tell(&self.connection.org, &self.connection.id);
        }
        match failed.limited {
            true => turn.answered(),
            false => turn.failed(&self.connection.id, now, &self.settings),
        }
        if let Some(detail) = self.ticket.would_believe(&failed) {
            let verdict =
                Verdict { reason: BrokenReason::Revoked, detail: Some(detail), asked: None };
            return self.came_of(self.condemned(stored, verdict).await?);
        }
        if let Some(pause) = whole_client {
            self.vault.servers.silence(asked, (now, pause), &self.settings);
        }
        Ok(Came::Landed(Landing::Failed(failed)))
    }

    fn came_of(&self, landing: Option<Landing>) -> Result<Came, VaultError> {
        Ok(landing.map_or(Came::Overtaken, Came::Landed))
    }

    /// The connection, as others may have changed it since the flight began.
    fn connection_now(&self) -> Arc<ConnectionRecord> {
        let now = self.vault.connection(&self.connection.org, &self.connection.id);
        now.unwrap_or_else(|_| self.connection.clone())
    }

    /// Stores what was answered, durably, before anybody sees it. A store that fails is asked again, now
    /// and by the next flight: the old token may be spent.
    async fn keep(&self, newer: Arc<Unstored>) -> Result<Came, VaultError> {
        let mut pauses = STORE_AGAIN.iter();
        loop {
            let written = self.vault.store_over(self.connection, &newer, newer.over).await;
            match (written, pauses.next()) {
                (Ok(()), _) => return Ok(Came::Stored),
                (Err(error), _) if is_conflict(&error) => return Ok(Came::Overtaken),
                (Err(_), Some(pause)) => tokio::time::sleep(*pause).await,
                (Err(error), None) => {
                    if self.ticket.keep_unstored(&newer) {
                        self.vault.goes_on_storing(self.connection, newer);
                    }
                    return Err(error);
                }
            }
        }
    }
}

fn lease_name(id: &ConnectionId) -> String {
    format!("refresh/{id}")
}

/// For who cannot wait any longer.
fn late(cell: &Cell, why: Why, clock: &Clock) -> Option<Arc<Credential>> {
    cell.usable(why, clock.moment())
}

fn unavailable(connection: &ConnectionRecord, rest: Duration) -> VaultError {
    let connection = connection.name.clone();
    VaultError::RefreshUnavailable { connection, retry_after: rest.max(RETRY_AFTER_MIN) }
}
