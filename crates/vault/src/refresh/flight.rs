//! A flight fetches a credential once for all requests that wait for it. It runs in its own task, so that a
//! client that disconnects does not cancel it.
//!
//! A flight reads the row of the grant and uses its token while that is valid. Otherwise it takes a slot at the
//! server and the lease that excludes other replicas, reads the row again, sends the request, and stores the
//! response over the version that it read, or a later one with the same token. Only then is the credential used. `flight/lease.rs` holds the
//! lease and waits for late responses; `flight/saving.rs` stores them, and notes requests before; `flight/verdict.rs` marks grants as broken;
//! `flight/refusal.rs` says why a request gets no credential.

mod held_lease;
mod lease;
mod log;
mod refusal;
mod saving;
mod verdict;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::held_lease::{HeldLease, LeaseResult};
use self::refusal::{RETRY_AFTER_MIN, unavailable};
use super::Refresh;
use super::backoff::{Backoff, FailureDetails};
use super::cache::{CachedCredential, FlightResult, Lookup, Ticket, Trigger};
use super::failures::FailureSubject;
use super::flights::STORE_AGAIN;
use super::servers::{ClientAtServer, RequestSlot};
use super::token_request::{RequestFailure, StoredGrants, TokenContext};
use crate::error::{FlightRefusal, VaultError};
use crate::grant::Grant;
use crate::grant::oauth::OAuthGrant;
use crate::grants::StoredGrant;
use crate::grants::record::GrantVerdict;
use keyward_base::tokens::TokenSettings;
use keyward_rules::inject::credential::Credential;
use keyward_state::directory::{BrokenReason, ConnectionRecord, RemedyCause};

/// A flight ends after this many rounds in which another write overtook its own.
const ROUNDS_MAX: usize = 8;

struct Flight<'a> {
    refresh: &'a Refresh,
    connection: &'a Arc<ConnectionRecord>,
    why: Trigger,
    ticket: &'a Ticket,
    settings: Arc<TokenSettings>,
    /// The grant and configuration that failures belong to; known once a request is needed.
    about: Mutex<Option<FailureSubject>>,
    /// Held until the result is stored, so that no other replica sends a request.
    lease: OnceLock<HeldLease>,
    sent: SentRequests,
}

/// What the store knows of requests with the token of the grant.
#[derive(Default)]
struct SentRequests {
    /// Whether the answer to an earlier one is not known: the token may be spent.
    is_unanswered: AtomicBool,
    /// Whether this flight has stored that it sends one.
    is_noted: AtomicBool,
}

/// What becomes of a response.
enum KeptAnswer {
    Landed(RequestResult),
    /// The row of its refresh token, and why it has no usable access token.
    Unusable(Box<StoredGrant>, RequestFailure),
}

/// The result of a token request.
enum RequestResult {
    /// The flight ends with this result.
    Landed(FlightResult),
    /// The response is stored.
    Stored,
    /// The grant was replaced meanwhile.
    Overtaken,
}

/// Whether refreshes have failed before.
enum Paused {
    /// Refreshes have failed; no request is sent for this time.
    Still(Duration),
    /// Refreshes have failed, and the pause has ended.
    Before,
}

impl Refresh {
    /// How long a flight takes at most, unless its response is late: the request, and storing the response.
    pub fn flight_time(&self) -> Duration {
        self.context.token_settings().exchange_timeout + STORE_AGAIN.iter().sum::<Duration>()
    }

    /// How long a flight takes at most if its response is late.
    pub fn late_flight_time(&self) -> Duration {
        self.flight_time() + self.context.token_settings().answer_timeout
    }

    /// Waits until no flight runs. Returns whether that was within the time.
    pub async fn wait_for_flights(&self, within: Duration) -> bool {
        let mut in_progress = self.flights.in_progress.subscribe();
        tokio::time::timeout(within, in_progress.wait_for(|count| *count == 0)).await.is_ok()
    }

    /// Whether the result of a refresh would be lost if the process ended now. That of a removed connection is not needed.
    pub fn is_refreshing(&self) -> bool {
        let view = self.directory.view();
        self.flights.refreshes().is_pending(view.connections().map(|it| &it.id))
    }

    /// A credential from the cache or from a flight. `since`: when the request began to wait.
    pub(crate) async fn fetch(
        &self,
        connection: Arc<ConnectionRecord>,
        why: Trigger,
        since: Instant,
    ) -> Result<Arc<Credential>, VaultError> {
        let mut cell = self.cache.cell(&connection.org, &connection.id);
        let settings = self.settings_of(&connection);
        let deadline = since + settings.wait_timeout;
        let mut waited = None;
        // A flight that began before the rejection cannot help this request: it published the rejected credential, or
        // one that another change had stored. So the request may begin one more flight. A person may, too, after the flight
        // of a request, which does not try a rejected client again.
        let mut may_repeat = matches!(why, Trigger::Rejected(_) | Trigger::Requested(_));
        loop {
            let mut changes = cell.changes();
            match cell.lookup(why, waited, &self.clock, &settings) {
                Lookup::Pause(rest) if rest.is_zero() && may_repeat => {
                    (may_repeat, waited) = (false, None);
                    continue;
                }
                Lookup::Refuse(_) if why.is_by_hand() && may_repeat => {
                    (may_repeat, waited) = (false, None);
                    continue;
                }
                Lookup::Moved => {
                    cell = self.cache.cell(&connection.org, &connection.id);
                    waited = None;
                    continue;
                }
                Lookup::Use(credential) => return Ok(credential),
                Lookup::UseAndBegin(credential, ticket) => {
                    self.begin_flight(&connection, why, ticket);
                    return Ok(credential);
                }
                Lookup::Refuse(refused) => return Err(refused.of(&connection, &self.context)),
                Lookup::Pause(rest) => return Err(unavailable(&connection, &cell, rest)),
                Lookup::Wait(number) => waited = Some(number),
                Lookup::Begin(ticket) => {
                    waited = Some(ticket.number());
                    may_repeat &= !why.is_by_hand();
                    self.begin_flight(&connection, why, ticket);
                }
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return cell
                    .usable(why, self.clock.moment())
                    .ok_or_else(|| unavailable(&connection, &cell, RETRY_AFTER_MIN));
            }
        }
    }

    pub(crate) fn begin_flight(
        &self,
        connection: &Arc<ConnectionRecord>,
        why: Trigger,
        ticket: Ticket,
    ) {
        let (refresh, connection) = (self.clone(), connection.clone());
        let pending = self.flights.refreshes.register(&connection.id);
        self.spawn_as_flight(async move {
            let _pending = pending;
            refresh.fly(&connection, why, ticket).await;
        });
    }

    /// Runs `work` on the runtime that outlives all requests, even if the caller is dropped, and counts it
    /// as a flight: [`Refresh::wait_for_flights`] waits for it.
    pub fn spawn_as_flight<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let aloft = self.flights.begin_flight();
        let flight = async move {
            let done = work.await;
            drop(aloft);
            done
        };
        self.flights.runtime.spawn(flight.boxed())
    }

    async fn fly(&self, connection: &Arc<ConnectionRecord>, why: Trigger, ticket: Ticket) {
        let settings = self.settings_of(connection);
        let (about, lease, sent) = (Mutex::default(), OnceLock::new(), SentRequests::default());
        let flight = Flight {
            refresh: self,
            connection,
            why,
            ticket: &ticket,
            settings,
            about,
            lease,
            sent,
        };
        let result = match flight.go().await {
            Ok(result) => result,
            Err(error) => FlightResult::Refused(FlightRefusal::Failed(Arc::new(error))),
        };
        self.note(connection, &result);
        let Flight { about, lease, .. } = flight;
        let lasting = matches!(result, FlightResult::Failed(_));
        if ticket.land(result).is_some() && lasting {
            let backoff = self.cache.cell(&connection.org, &connection.id).backoff();
            // Failures of secret sources are not stored: after a start the gateway tries again at once, which costs a
            // source little.
            if let (Some(about), Some(failures)) = (
                about
                    .into_inner()
                    .filter(|_| connection.references.is_empty() && !backoff.is_of_secret()),
                backoff.written(),
            ) {
                self.failures.store(&connection.org, &connection.id, about, failures).await;
            }
            self.alert(connection);
        }
        drop(lease);
    }

    pub(crate) fn count(&self, outcome: &'static str) {
        if let Some(metrics) = self.metrics.get() {
            metrics.refreshed(outcome);
        }
    }
}

impl Flight<'_> {
    async fn go(&self) -> Result<FlightResult, VaultError> {
        let stored = self.refresh.grants.stored(self.connection).await?;
        if let Some(result) = self.result_of_row(&stored).await? {
            return Ok(result);
        }
        if let Some(result) = self.read_endpoints(&stored).await? {
            return Ok(result);
        }
        // Storing an unsaved response needs no request. The task of `save_again.rs` holds the lease.
        if let Some(unsaved) = self.ticket.unsaved(&stored.bytes)
            && let RequestResult::Stored = self.keep(unsaved).await?
        {
            return self.result_of_stored(false).await;
        }
        let client = self.refresh.client_at_server(&self.token_context()?);
        let slot = self.refresh.servers.slot(&client, &self.refresh.clock, &self.settings);
        let slot = match slot.await {
            Ok(slot) => slot,
            Err(pause) => return Ok(FlightResult::Paused(pause)),
        };
        match self.claim().await? {
            LeaseResult::Lease(lease) => drop(self.lease.set(lease)),
            LeaseResult::Landed(result) => return Ok(result),
        }
        for round in 0..ROUNDS_MAX {
            // A request and the write of its response take at most one lease time; while a late response is awaited,
            // the lease is renewed.
            if round > 0 {
                if self.renews_lease().await != Some(true) {
                    break;
                }
                // The former holder may have been cut off from the store when this flight got the lease, and may have
                // stored its note since.
                if let Some(pause) = self.pause_for_note().await? {
                    return Ok(pause);
                }
            }
            let stored = self.refresh.grants.stored(self.connection).await?;
            if let Some(result) = self.result_of_row(&stored).await? {
                return Ok(result);
            }
            // An unsaved response needs no new request.
            let asks = self.ticket.unsaved(&stored.bytes).is_none();
            let has_failed = match self.pause(&stored).await?.filter(|_| asks) {
                Some(Paused::Still(rest)) => return Ok(FlightResult::Paused(rest)),
                paused => paused.is_some(),
            };
            let asked = self.ask(&stored, &client, &slot).await?;
            let has_failed = has_failed || self.sent.is_noted.load(Relaxed);
            match asked {
                RequestResult::Landed(result) => return Ok(result),
                RequestResult::Overtaken => {}
                RequestResult::Stored => return self.result_of_stored(has_failed).await,
            }
        }
        Ok(FlightResult::Failed(FailureDetails::default()))
    }

    /// The current context of a token request.
    fn token_context(&self) -> Result<TokenContext, VaultError> {
        self.refresh.token_context(&self.connection_now())
    }

    /// The pause after stored failures, of an earlier process or another replica.
    async fn pause(&self, stored: &StoredGrant) -> Result<Option<Paused>, VaultError> {
        let token_context = self.token_context()?;
        let about = self.refresh.failure_subject(&token_context, stored).await?;
        let row = self.refresh.failures.of(&self.connection.org, &self.connection.id, &about).await;
        *self.about.lock() = Some(about);
        let is_unanswered = row.as_ref().is_some_and(Backoff::is_unanswered);
        self.sent.is_unanswered.store(is_unanswered, Relaxed);
        Ok(row.map(|backoff| {
            let rest = backoff.rest(self.refresh.clock.moment());
            self.ticket.adopt(backoff);
            rest.map_or(Paused::Before, Paused::Still)
        }))
    }

    /// The result from the stored row; `None` if a token request is needed.
    async fn result_of_row(
        &self,
        stored: &StoredGrant,
    ) -> Result<Option<FlightResult>, VaultError> {
        let broken = stored.broken.as_ref().filter(|verdict| verdict.prevents_test());
        let tried_again = broken.is_some_and(|verdict| self.tries_again(verdict));
        if let (Some(verdict), false) = (broken, tried_again) {
            return self.refused_by(stored, verdict).await.map(Some);
        }
        let app = stored.app.as_ref();
        if app.is_some() && self.connection_now().app_id() != app {
            // The same after a consent with another app: the request must be sent with that app.
            self.refresh.sync_record(self.connection).await?;
        }
        let ((grant, token_context), held) = self.held_of(stored).await?;
        if let Some(held) = held.filter(|_| !tried_again) {
            let now = self.refresh.clock.moment();
            let does = self.why.takes(&held) && !held.is_dead(now);
            let enough = does && (self.why != Trigger::Needed || !held.ages(now));
            // The last fetched values are used while newer ones are requested, also after a start.
            let is_kept = matches!(grant, Grant::Referred(_)) && !held.is_dead(now);
            if does || is_kept {
                self.ticket.publish(held);
            }
            if enough {
                return Ok(Some(FlightResult::Published));
            }
        }
        let connection = self.connection.name.clone();
        let remedy = || self.refresh.context.remedy(self.connection, RemedyCause::Token);
        let failed =
            |error| Ok(Some(FlightResult::Refused(FlightRefusal::Failed(Arc::new(error)))));
        match (self.refresh.renews(&token_context, &grant), self.why.is_of_request()) {
            (true, true) if !token_context.is_automatic() => {
                return failed(VaultError::ByHand { connection, remedy: remedy() });
            }
            (true, _) => return Ok(None),
            (false, false) => return failed(VaultError::NotRefreshable { connection }),
            (false, true) => {}
        }
        let verdict = GrantVerdict::new(BrokenReason::NoRefreshToken, None);
        self.store_verdict(stored, verdict).await
    }

    /// The stored grant, its context, and its credential, if it gives one without a request.
    async fn held_of(
        &self,
        stored: &StoredGrant,
    ) -> Result<((Grant, TokenContext), Option<CachedCredential>), VaultError> {
        let grant = stored.grant(&self.refresh.context, self.connection)?;
        // The previous response may have changed its hosts.
        let token_context = self.refresh.guarded_token_context(&self.connection_now()).await?;
        let other = stored.other_grant(&self.refresh.context, self.connection)?;
        let grants = StoredGrants { grant: &grant, other: other.as_ref(), version: stored.version };
        let held = self.refresh.held(self.connection, &token_context, grants)?;
        Ok(((grant, token_context), held))
    }

    /// Requests a newer token and stores it.
    async fn ask(
        &self,
        stored: &StoredGrant,
        asked: &ClientAtServer,
        slot: &RequestSlot,
    ) -> Result<RequestResult, VaultError> {
        if let Some(unsaved) = self.ticket.unsaved(&stored.bytes) {
            return self.keep(unsaved).await;
        }
        let grant = stored.grant(&self.refresh.context, self.connection)?;
        let token_context = self.token_context()?.with_check(self.lease_check());
        if grant.tokens().is_some_and(OAuthGrant::may_be_spent) {
            self.note_sent().await;
        }
        // Last: nothing that waits may come between this and the request.
        if !self.is_sure_of_lease().await {
            return Ok(RequestResult::Overtaken);
        }
        let asking = self.refresh.ask(self.connection, &token_context, &grant).boxed();
        let answer = self.awaited(asking, slot, &stored.bytes).await?;
        let before = stored.broken.as_ref();
        let of_answer;
        let (stored, failure) = match answer {
            Err(failure) => (stored, failure),
            Ok(newer) => match self.keep_answer(stored, &newer).await? {
                KeptAnswer::Landed(result) => {
                    slot.answered();
                    return Ok(result);
                }
                KeptAnswer::Unusable(row, failure) => {
                    of_answer = row;
                    (&*of_answer, failure)
                }
            },
        };
        let now = self.refresh.clock.moment();
        let (failed, whole_client) = match failure {
            RequestFailure::Dead(verdict) => {
                slot.answered();
                return self.result_of_verdict(stored, *verdict, before).await;
            }
            RequestFailure::Temporary { failed, whole_client } => (*failed, whole_client),
        };
        if failed.code.as_deref().is_some_and(|code| matches!(code, "http_404" | "http_405")) {
            self.refresh.endpoint_changes.report(&self.connection.org, &self.connection.id);
        }
        self.warn_of(&failed, asked);
        // A failing source says nothing about the authorization server. A server that rejects a secret is up.
        let is_of_source = failed.source.is_some() && token_context.oauth().is_some();
        match failed.unknown_code || failed.rejected || is_of_source {
            true => slot.answered(),
            false => slot.failed(&self.connection.id, now, &self.settings),
        }
        if let Some(detail) = self.final_code(&failed, &token_context, &grant) {
            let verdict = GrantVerdict::new(BrokenReason::Revoked, Some(detail));
            let verdict =
                GrantVerdict { said: failed.said, ..token_context.judged(&grant, verdict) };
            return self.result_of_verdict(stored, verdict, before).await;
        }
        if let Some(pause) = whole_client {
            self.refresh.servers.pause_client(asked, now, pause, &self.settings);
        }
        Ok(RequestResult::Landed(FlightResult::Failed(failed)))
    }

    /// The unknown code that ends the grant. The exchange of an access token begins at half of its life: while it
    /// lives, and no upstream rejects it, such a code does not mean that it is revoked.
    fn final_code(
        &self,
        failed: &FailureDetails,
        token_context: &TokenContext,
        grant: &Grant,
    ) -> Option<String> {
        let is_live = |tokens: &OAuthGrant| tokens.is_live(self.refresh.clock.now());
        let is_exchanged = token_context.exchanges_access_token();
        let is_accepted = !matches!(self.why, Trigger::Rejected(_));
        match is_exchanged && is_accepted && grant.tokens().is_some_and(is_live) {
            true => None,
            false => self.ticket.would_accept_code(failed),
        }
    }

    fn result_or_overtaken(
        &self,
        result: Option<FlightResult>,
    ) -> Result<RequestResult, VaultError> {
        Ok(result.map_or(RequestResult::Overtaken, RequestResult::Landed))
    }

    /// The current record of the connection.
    fn connection_now(&self) -> Arc<ConnectionRecord> {
        let now = self.refresh.context.connection(&self.connection.org, &self.connection.id);
        now.unwrap_or_else(|_| self.connection.clone())
    }
}
