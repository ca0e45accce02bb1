//! A flight fetches a credential once for all requests that wait for it. It runs in its own task, so that a
//! client that disconnects does not cancel it.
//!
//! A flight reads the row of the grant and uses its token while that is valid. Otherwise it takes a slot at the
//! server and the lease that excludes other replicas, reads the row again, sends the request, and stores the
//! response over exactly the version that it read. Only then is the credential used. `flight/lease.rs` holds the
//! lease and waits for late responses; `flight/verdict.rs` marks grants as broken.

mod lease;
mod verdict;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use self::lease::Claimed;
use super::Vault;
use super::backoff::Failed;
use super::cache::{Cell, Landing, Lookup, Ticket, Trigger};
use super::error::{Refused, VaultError};
use super::failure_rows::FailureSubject;
use super::grants::{Stored, is_conflict};
use super::late::PendingRefreshes;
use super::record::Verdict;
use super::servers::{Asked, Turn};
use super::token_request::{RequestFailure, StoredGrants, TokenContext};
use super::unsaved_tokens::UnsavedTokens;
use keyward_base::tokens::TokenSettings;
use keyward_net::call::Cause;
use keyward_rules::inject::credential::Credential;
use keyward_state::directory::{BrokenReason, ConnectionRecord, Need};
use keyward_state::store::Lease;

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
    refreshes: PendingRefreshes,
}

/// Counts a flight as under way until it is dropped.
struct InFlight(Arc<watch::Sender<usize>>);

/// One flight.
struct Flight<'a> {
    vault: &'a Vault,
    connection: &'a Arc<ConnectionRecord>,
    why: Trigger,
    ticket: &'a Ticket,
    settings: Arc<TokenSettings>,
    /// What the request was about, once it was sent.
    about: Mutex<Option<FailureSubject>>,
    /// Until what came of it is remembered, no other replica asks.
    lease: OnceLock<Lease>,
}

/// The result of a token request.
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
    /// They have, and requests are paused for so long.
    Still(Duration),
    /// They have, and it may be tried again.
    Before,
}

impl Flights {
    /// On the runtime that this is called in, which must outlive all requests.
    pub fn here() -> Self {
        let under_way = Arc::new(watch::Sender::new(0));
        Self { runtime: Handle::current(), under_way, refreshes: PendingRefreshes::default() }
    }

    /// Those that are under way, by connection.
    pub(super) fn refreshes(&self) -> &PendingRefreshes {
        &self.refreshes
    }

    fn begin_flight(&self) -> InFlight {
        self.under_way.send_modify(|count| *count += 1);
        InFlight(self.under_way.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Vault {
    /// How long a flight that is under way takes, unless its answer is late: its request, and storing what
    /// came.
    pub fn flight_time(&self) -> Duration {
        self.token_settings().exchange_timeout + STORE_AGAIN.iter().sum::<Duration>()
    }

    /// How long one takes at most, where the answer is late.
    pub fn late_flight_time(&self) -> Duration {
        self.flight_time() + self.token_settings().answer_timeout
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
        why: Trigger,
    ) -> Result<Arc<Credential>, VaultError> {
        let cell = self.cache.cell(&connection.org, &connection.id);
        let settings = self.token_settings();
        let deadline = Instant::now() + settings.wait_timeout;
        let mut waited = None;
        loop {
            let mut news = cell.news();
            match cell.lookup(why, waited, &self.clock, &settings) {
                Lookup::Use(credential) => return Ok(credential),
                Lookup::UseAndBegin(credential, ticket) => {
                    self.begin_flight(&connection, why, ticket);
                    return Ok(credential);
                }
                Lookup::Refuse(refused) => return Err(refused.of(&connection, self)),
                Lookup::Pause(rest) => return Err(unavailable(&connection, &cell, rest)),
                Lookup::Wait(number) => waited = Some(number),
                Lookup::Begin(ticket) => {
                    waited = Some(ticket.number());
                    self.begin_flight(&connection, why, ticket);
                }
            }
            if tokio::time::timeout_at(deadline, news.changed()).await.is_err() {
                return cell
                    .usable(why, self.clock.moment())
                    .ok_or_else(|| unavailable(&connection, &cell, RETRY_AFTER_MIN));
            }
        }
    }

    pub(super) fn begin_flight(
        &self,
        connection: &Arc<ConnectionRecord>,
        why: Trigger,
        ticket: Ticket,
    ) {
        let (vault, connection) = (self.clone(), connection.clone());
        let pending = self.flights.refreshes.register(&connection.id);
        self.in_flight(async move {
            let _pending = pending;
            vault.fly(&connection, why, ticket).await;
        });
    }

    /// Goes on whoever hangs up, on the runtime that outlives all requests, and counts as under way until it
    /// ends: [`Vault::landed`] waits for it.
    pub fn in_flight(&self, work: impl Future<Output = ()> + Send + 'static) {
        let aloft = self.flights.begin_flight();
        self.flights.runtime.spawn(async move {
            work.await;
            drop(aloft);
        });
    }

    async fn fly(&self, connection: &Arc<ConnectionRecord>, why: Trigger, ticket: Ticket) {
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
            let backoff = self.cache.cell(&connection.org, &connection.id).backoff();
            if let Some(about) = about.into_inner() {
                self.store_failures(&connection.org, &connection.id, about, &backoff).await;
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
                let cause = failed.cause.map_or("http_answer", Cause::as_str);
                if let Some(metrics) = self.metrics.get() {
                    metrics.refresh_failed(cause);
                }
                tracing::info!(
                    connection = %connection.id, name, provider, code = failed.code, cause,
                    why = failed.message, "a refresh failed; it is tried again"
                );
            }
            Landing::Refused(Refused::Broken { reason, detail, .. }) => {
                self.count("broken");
                let need = Need::Broken { reason: *reason, detail: detail.as_deref() };
                let remedy = self.remedy(connection, need);
                let what = match reason {
                    BrokenReason::ClientRejected => {
                        "a connection is broken: its client is refused; it is tried again after a while"
                    }
                    _ => "a connection is broken",
                };
                tracing::warn!(
                    connection = %connection.id, name, provider, reason = reason.code(), detail,
                    remedy, "{what}"
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
        if let Some(landing) = self.lacks_endpoints(&stored).await? {
            return Ok(landing);
        }
        let asked = self.vault.asked(&self.token_context()?);
        let turn = self.vault.servers.turn(&asked, &self.vault.clock, &self.settings);
        let turn = match turn.await {
            Ok(turn) => turn,
            Err(pause) => return Ok(Landing::Paused(pause)),
        };
        match self.claim().await? {
            Claimed::Lease(lease) => drop(self.lease.set(lease)),
            Claimed::Landed(landing) => return Ok(landing),
        }
        for round in 0..ROUNDS_MAX {
            // Asking and storing take a whole lease at most, but for a late answer, which renews it.
            if round > 0 && !self.renews_lease().await {
                break;
            }
            let stored = self.vault.stored(self.connection).await?;
            if let Some(landing) = self.what_is_there(&stored).await? {
                return Ok(landing);
            }
            // What is to be stored has been asked for already.
            let asks = self.ticket.unsaved(stored.version).is_none();
            let has_failed = match self.pause(&stored).await?.filter(|_| asks) {
                Some(Paused::Still(rest)) => return Ok(Landing::Paused(rest)),
                paused => paused.is_some(),
            };
            match self.ask(&stored, &asked, &turn).await? {
                Came::Landed(landing) => return Ok(landing),
                Came::Overtaken => {}
                Came::Stored => {
                    if has_failed {
                        let (org, id) = (&self.connection.org, &self.connection.id);
                        self.vault.delete_failures(org, id).await;
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

    /// The present context of a token request.
    fn token_context(&self) -> Result<TokenContext, VaultError> {
        self.vault.token_context(&self.connection_now())
    }

    /// The pause after failures that were stored: before this start, or by another replica.
    async fn pause(&self, stored: &Stored) -> Result<Option<Paused>, VaultError> {
        let token_context = self.token_context()?;
        let about = self.vault.failure_subject(&token_context, stored).await?;
        let row =
            self.vault.stored_failures(&self.connection.org, &self.connection.id, &about).await;
        *self.about.lock() = Some(about);
        Ok(row.map(|backoff| {
            let rest = backoff.rest(self.vault.clock.moment());
            self.ticket.adopt(backoff);
            rest.map_or(Paused::Before, Paused::Still)
        }))
    }

    /// What the row gives without asking anybody; `None` when somebody must be asked.
    async fn what_is_there(&self, stored: &Stored) -> Result<Option<Landing>, VaultError> {
        let tried_again = stored.broken.as_ref().is_some_and(|verdict| self.tries_again(verdict));
        if let (Some(verdict), false) = (&stored.broken, tried_again) {
            // A crash, or another replica, left the record as it was.
            self.vault.project(self.connection).await?;
            return Ok(Some(Landing::Refused(self.refused(verdict))));
        }
        let grant = stored.grant(self.vault, self.connection)?;
        // Its hosts may have moved with the answer of a moment ago.
        let token_context = self.vault.guarded_token_context(&self.connection_now()).await?;
        let other = stored.other_grant(self.vault, self.connection)?;
        let grants = StoredGrants { grant: &grant, other: other.as_ref(), version: stored.version };
        if let Some(held) =
            self.vault.held(self.connection, &token_context, grants)?.filter(|_| !tried_again)
        {
            let now = self.vault.clock.moment();
            let does = self.why.takes(&held) && !held.is_dead(now);
            let enough = does && (self.why != Trigger::Needed || !held.ages(now));
            if does {
                self.ticket.publish(held);
            }
            if enough {
                return Ok(Some(Landing::Brought));
            }
        }
        let connection = self.connection.name.clone();
        let remedy = || self.vault.remedy(self.connection, Need::Token);
        let failed = |error| Ok(Some(Landing::Refused(Refused::Failed(Arc::new(error)))));
        match (self.vault.renews(&token_context, &grant), self.why.is_of_request()) {
            (true, true) if !token_context.is_automatic() => {
                return failed(VaultError::ByHand { connection, remedy: remedy() });
            }
            (true, _) => return Ok(None),
            (false, false) => return failed(VaultError::NotRefreshable { connection }),
            (false, true) => {}
        }
        let verdict = Verdict::new(BrokenReason::NoRefreshToken, None);
        self.condemned(stored, verdict).await
    }

    /// Asks for a newer one and stores it.
    async fn ask(&self, stored: &Stored, asked: &Asked, turn: &Turn) -> Result<Came, VaultError> {
        if let Some(unsaved) = self.ticket.unsaved(stored.version) {
            return self.keep(unsaved).await;
        }
        let grant = stored.grant(self.vault, self.connection)?;
        let token_context = self.token_context()?;
        let asking = Box::pin(self.vault.ask(self.connection, &token_context, &grant));
        let answer = self.awaited(asking, turn).await?;
        let now = self.vault.clock.moment();
        let (failed, whole_client) = match answer {
            Ok(newer) => {
                turn.answered();
                return self.keep(UnsavedTokens::of(self.connection, stored, newer.encode())).await;
            }
            Err(RequestFailure::Dead(verdict)) => {
                turn.answered();
                let is_of_client = verdict.reason == BrokenReason::ClientRejected;
                if !is_of_client {
                    return self.came_of(self.condemned(stored, verdict).await?);
                }
                self.vault.endpoint_changes.report(&self.connection.org, &self.connection.id);
                let verdict = self.rejected(verdict, stored.broken.as_ref());
                if self.vault.asks_otherwise(self.connection, verdict.asked.as_ref()).await? {
                    return Ok(Came::Overtaken);
                }
                let landing = self.condemned(stored, verdict).await?;
                // It may have changed between the look and the verdict.
                return match self.vault.is_tried_again(self.connection).await? {
                    true => Ok(Came::Overtaken),
                    false => self.came_of(landing),
                };
            }
            Err(RequestFailure::Passing { failed, whole_client }) => (failed, whole_client),
        };
        if failed.code.as_deref().is_some_and(|code| matches!(code, "http_404" | "http_405")) {
            self.vault.endpoint_changes.report(&self.connection.org, &self.connection.id);
        }
        self.warn_of(&failed, asked);
        match failed.limited {
            true => turn.answered(),
            false => turn.failed(&self.connection.id, now, &self.settings),
        }
        if let Some(detail) = self.ticket.would_believe(&failed) {
            let verdict = Verdict::new(BrokenReason::Revoked, Some(detail));
            return self.came_of(self.condemned(stored, verdict).await?);
        }
        if let Some(pause) = whole_client {
            self.vault.servers.silence(asked, now, pause, &self.settings);
        }
        Ok(Came::Landed(Landing::Failed(failed)))
    }

    /// Logs an unreachable server once for each cause, whatever connection notices it.
    fn warn_of(&self, failed: &Failed, asked: &Asked) {
        let Some(cause) = failed.cause else { return };
        let now = self.vault.clock.moment();
        if !self.vault.servers.is_news(&asked.server, cause, now, &self.settings) {
            return;
        }
        tracing::warn!(
            connection = %self.connection.id, name = self.connection.name,
            provider = self.connection.provider, cause = cause.as_str(), why = failed.message,
            remedy = cause.remedy(), "the authorization server cannot be asked for a token"
        );
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
    async fn keep(&self, newer: Arc<UnsavedTokens>) -> Result<Came, VaultError> {
        let mut pauses = STORE_AGAIN.iter();
        loop {
            let written = self.vault.store_over(self.connection, &newer, newer.over).await;
            match (written, pauses.next()) {
                (Ok(()), _) => return Ok(Came::Stored),
                (Err(error), _) if is_conflict(&error) => {
                    self.vault.keep_answer_if_gone(self.connection, &newer.bytes);
                    return Ok(Came::Overtaken);
                }
                (Err(_), Some(pause)) => tokio::time::sleep(*pause).await,
                (Err(error), None) => {
                    if self.ticket.keep_unsaved(&newer) {
                        self.vault.keep_saving(self.connection, newer);
                    }
                    return Err(error);
                }
            }
        }
    }
}

/// The refusal for a request without a credential, with the known cause.
fn unavailable(connection: &ConnectionRecord, cell: &Cell, rest: Duration) -> VaultError {
    let backoff = cell.backoff();
    let late =
        cell.late_since().map(|_| "the authorization server has not answered yet".to_owned());
    VaultError::RefreshUnavailable {
        connection: connection.name.clone(),
        why: late.or_else(|| backoff.message().map(ToOwned::to_owned)),
        remedy: backoff.cause().map(Cause::remedy),
        retry_after: rest.max(RETRY_AFTER_MIN),
    }
}
