//! [`CredentialCache`]: the credentials in memory, which the warm data path reads without a lock. One
//! [`CredentialCell`] for each connection decides about each request: it gets the credential, waits for the flight that
//! fetches a newer one, or is refused.

mod cached;
mod map;
mod refusals;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::cached::Phase;
pub use self::cached::{CachedCredential, Lifetime};
pub use self::map::CredentialCache;
use super::backoff::{Backoff, FailureDetails};
use super::challenge::AskedMore;
use super::unsaved_tokens::UnsavedTokens;
use crate::error::FlightRefusal;
use keyward_base::id::OrgId;
use keyward_base::time::{Clock, Moment};
use keyward_base::tokens::TokenSettings;
use keyward_rules::inject::credential::Credential;

/// The retry time for agents while a response is late.
const LATE_PAUSE: Duration = Duration::from_secs(5);

/// The state of one connection's credential.
#[derive(Debug)]
pub struct CredentialCell {
    /// The org of the connection.
    pub org: OrgId,
    held: ArcSwapOption<CachedCredential>,
    state: Mutex<CellState>,
    changes: watch::Sender<()>,
    /// Whether the cell was used since its creation, or since the last eviction pass.
    is_used: AtomicBool,
}

#[derive(Debug, Default)]
struct CellState {
    /// Incremented when anything but a flight changes the grant. Results of older flights are dropped.
    epoch: u64,
    flying: Option<u64>,
    /// When the response to the running flight became late. New requests do not wait for it.
    late: Option<Timestamp>,
    begun: u64,
    /// The highest generation that a flight has stored.
    stored: u64,
    /// Number and refusal of the last flight that published no credential.
    ended: Option<(u64, Option<FlightRefusal>)>,
    backoff: Backoff,
    /// Begin and length of the time in which requests do not retry a rejected client.
    quiet: Option<(Moment, Duration)>,
    /// Begin and length of the time in which a 401 does not mark the credential as rejected.
    rejections_ignored: Option<(Moment, Duration)>,
    /// What the upstream asks for beyond a valid token.
    asked: Option<AskedMore>,
    /// A response that the store did not accept yet.
    unsaved: Option<Arc<UnsavedTokens>>,
    /// Whether the cell was evicted from the map. No flight begins in it, because the connection may have another cell.
    retired: bool,
}

/// Why a credential is looked up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trigger {
    /// A request needs one.
    Needed,
    /// The upstream rejected the credential of this generation.
    Rejected(u64),
    /// A person requests one that is newer than this generation.
    Requested(u64),
    /// The keep-alive job requests one that is newer than this generation.
    KeepAlive(u64),
}

/// The result of a lookup.
#[derive(Debug)]
pub enum Lookup {
    Use(Arc<Credential>),
    /// Use this credential, and begin a flight.
    UseAndBegin(Arc<Credential>, Ticket),
    /// Begin a flight, and look up again when it has ended.
    Begin(Ticket),
    /// Wait for the flight of this number.
    Wait(u64),
    Refuse(FlightRefusal),
    /// Refuse; retry after this time.
    Pause(Duration),
    /// Look up again, in the cell that the map has now.
    Moved,
}

/// The right to run one flight. Dropping it without [`Ticket::land`], as a panic does, is a temporary
/// failure.
#[derive(Debug)]
pub struct Ticket {
    cell: Arc<CredentialCell>,
    number: u64,
    epoch: u64,
    landed: bool,
    clock: Clock,
    settings: Arc<TokenSettings>,
}

#[derive(Debug)]
pub enum FlightResult {
    /// A credential is in the cell.
    Published,
    /// A failure; retry after a pause.
    Failed(FailureDetails),
    /// Retry after this pause. The connection is not the cause.
    Paused(Duration),
    /// No credential until a person acts, or an error.
    Refused(FlightRefusal),
}

impl CredentialCell {
    fn new(org: OrgId) -> Self {
        Self {
            org,
            held: ArcSwapOption::empty(),
            state: Mutex::default(),
            changes: watch::channel(()).0,
            is_used: AtomicBool::new(false),
        }
    }

    /// Protects the cell from the next eviction.
    fn mark_used(&self) {
        // Written once, so that requests do not contend for it.
        if !self.is_used.load(Relaxed) {
            self.is_used.store(true, Relaxed);
        }
    }

    /// Retires the cell for eviction, unless it has state that is not stored: a running flight, an unsaved response, or
    /// failures. Returns whether it is retired.
    fn retire(&self) -> bool {
        let mut state = self.state.lock();
        let is_idle = state.flying.is_none() && state.unsaved.is_none() && state.backoff.is_empty();
        state.retired |= is_idle;
        is_idle
    }

    /// The result for a caller that has waited for the flight `waited`.
    pub fn lookup(
        self: &Arc<Self>,
        why: Trigger,
        waited: Option<u64>,
        clock: &Clock,
        settings: &Arc<TokenSettings>,
    ) -> Lookup {
        let now = clock.moment();
        let mut state = self.state.lock();
        if state.retired {
            return Lookup::Moved;
        }
        let held = self.held.load_full().filter(|held| why.takes(held));
        let phase = held.as_ref().map_or(Phase::Dead, |held| held.phase(now));
        let usable = held.filter(|_| phase != Phase::Dead).map(|held| held.credential.clone());
        let ticket = |state: &mut CellState| {
            state.begun += 1;
            state.flying = Some(state.begun);
            state.late = None;
            let (cell, number, epoch) = (self.clone(), state.begun, state.epoch);
            Ticket {
                cell,
                number,
                epoch,
                landed: false,
                clock: clock.clone(),
                settings: settings.clone(),
            }
        };
        // A rejected client whose token lives is retried when its pause has ended.
        let quiet = usable.as_ref().and_then(|_| state.quiet_rest(now));
        let pause = state.backoff.rest(now).or(quiet);
        match (&usable, phase) {
            (Some(credential), Phase::Young) => return Lookup::Use(credential.clone()),
            (Some(credential), _) if why != Trigger::Needed => {
                return Lookup::Use(credential.clone());
            }
            (Some(credential), Phase::Ageing) => {
                return match state.flying.is_none() && pause.is_none() {
                    true => Lookup::UseAndBegin(credential.clone(), ticket(&mut state)),
                    false => Lookup::Use(credential.clone()),
                };
            }
            _ => {}
        }
        let is_awaited = |number: u64| waited.is_some_and(|waited| waited <= number);
        let ended = state.ended.as_ref().filter(|(number, _)| is_awaited(*number));
        if let (Some(number), None) = (state.flying, ended) {
            return match (usable, state.late, waited) {
                (Some(credential), Some(_), _) => Lookup::Use(credential),
                (None, Some(_), None) => Lookup::Pause(LATE_PAUSE),
                _ => Lookup::Wait(number),
            };
        }
        match (usable, ended, pause) {
            (Some(credential), Some(_), _) | (Some(credential), _, Some(_)) => {
                Lookup::Use(credential)
            }
            (None, Some((_, Some(refused))), _) => Lookup::Refuse(refused.clone()),
            (None, _, Some(pause)) => Lookup::Pause(pause),
            (None, Some((_, None)), None) => Lookup::Pause(Duration::ZERO),
            (_, None, None) => Lookup::Begin(ticket(&mut state)),
        }
    }

    /// The generation of the cached credential; 0 without one.
    pub fn generation(&self) -> u64 {
        self.held.load().as_ref().map_or(0, |held| held.credential.generation)
    }

    /// Whether a rejected client must not be tried again yet.
    pub fn is_quiet(&self, now: Moment) -> bool {
        self.state.lock().quiet_rest(now).is_some()
    }

    /// A credential that is still valid, regardless of running flights.
    pub fn usable(&self, why: Trigger, now: Moment) -> Option<Arc<Credential>> {
        let held = self.held.load_full().filter(|held| why.takes(held) && !held.is_dead(now))?;
        Some(held.credential.clone())
    }

    /// Since when the response to the running flight is late.
    pub fn late_since(&self) -> Option<Timestamp> {
        let state = self.state.lock();
        state.late.filter(|_| state.flying.is_some())
    }

    /// Notifies when a flight ends or its response is late, and when the grant changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Called after a change of the grant: results of running flights are discarded, and pauses end. An unsaved
    /// response stays, because the token that it replaces is spent.
    pub fn reset(&self, held: Option<CachedCredential>) {
        let mut state = self.state.lock();
        self.replace(&mut state, held);
        drop(state);
        self.changes.send_modify(|()| {});
    }

    /// Replaces the credential. An unsaved response stays.
    fn replace(&self, state: &mut CellState, held: Option<CachedCredential>) {
        let unsaved = state.unsaved.take();
        *state = CellState { unsaved, ..state.next_epoch() };
        self.held.store(held.map(Arc::new));
    }

    /// The number of changes of the grant so far.
    pub fn epoch(&self) -> u64 {
        self.state.lock().epoch
    }

    /// Like [`Self::reset`], with the credential of the new grant, unless the cached one is newer. If the grant was
    /// changed again since `epoch`, or a flight has stored another row over it, the next request reads the row.
    pub fn reset_with(&self, held: CachedCredential, epoch: u64) {
        let mut state = self.state.lock();
        let generation = held.credential.generation;
        if self.generation() > generation {
            return;
        }
        let held = (state.epoch == epoch && state.stored <= generation).then_some(held);
        self.replace(&mut state, held);
        drop(state);
        self.changes.send_modify(|()| {});
    }

    /// Adopts failures from the store or from another replica, if there are more of them than in the cell.
    pub fn adopt(&self, backoff: Backoff) {
        let mut state = self.state.lock();
        match backoff.failures() > state.backoff.failures() {
            true => state.backoff = backoff,
            false => state.backoff.adopt_unanswered(&backoff),
        }
    }

    /// See [`Backoff::end_pause_of_secret`].
    pub fn end_pause_of_secret(&self) {
        self.state.lock().backoff.end_pause_of_secret();
    }

    pub fn backoff(&self) -> Backoff {
        self.state.lock().backoff.clone()
    }
}

impl CellState {
    fn quiet_rest(&self, now: Moment) -> Option<Duration> {
        let (since, long) = self.quiet.as_ref()?;
        long.checked_sub(now.since(since)).filter(|rest| !rest.is_zero())
    }

    /// The state after a change of the grant.
    fn next_epoch(&self) -> Self {
        let Self { epoch, begun, stored, retired, .. } = *self;
        Self { epoch: epoch + 1, begun, stored, retired, ..Self::default() }
    }
}

impl Trigger {
    /// Whether a person requested it.
    pub fn is_by_hand(self) -> bool {
        matches!(self, Self::Requested(_))
    }

    /// Whether a request waits for it; any valid credential is accepted.
    pub fn is_of_request(self) -> bool {
        matches!(self, Self::Needed | Self::Rejected(_))
    }

    /// Whether this credential satisfies the trigger.
    pub fn takes(self, held: &CachedCredential) -> bool {
        match self {
            Self::Needed => true,
            Self::Rejected(generation)
            | Self::Requested(generation)
            | Self::KeepAlive(generation) => held.credential.generation > generation,
        }
    }
}

impl Ticket {
    /// The number of the flight.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Publishes the credential, unless the grant was changed meanwhile or a newer one is cached. If another flight has
    /// stored a later row, the next request reads the row, whatever its version then: a failover may take rows back.
    pub fn publish(&self, held: CachedCredential) {
        let mut state = self.cell.state.lock();
        let generation = held.credential.generation;
        if state.epoch != self.epoch {
            drop(state);
            return self.note_stored(generation);
        }
        let cached = self.cell.generation();
        if cached < state.stored && generation < state.stored {
            self.cell.replace(&mut state, None);
            state.stored = 0;
        } else if cached <= generation {
            self.cell.held.store(Some(Arc::new(held)));
        } else {
            return;
        }
        drop(state);
        self.cell.changes.send_modify(|()| {});
    }

    /// Notes that this generation is stored. If a change of the grant has ended this flight and published an older one,
    /// that is forgotten: the next request reads the row.
    pub fn note_stored(&self, generation: u64) {
        let mut state = self.cell.state.lock();
        state.stored = state.stored.max(generation);
        if state.epoch != self.epoch && (1..generation).contains(&self.cell.generation()) {
            self.cell.replace(&mut state, None);
            drop(state);
            self.cell.changes.send_modify(|()| {});
        }
    }

    /// Marks the response as late. New requests do not wait for it.
    pub fn mark_late(&self) {
        let mut state = self.cell.state.lock();
        if state.epoch == self.epoch && state.flying == Some(self.number) {
            state.late = Some(self.clock.now());
            drop(state);
            self.cell.changes.send_modify(|()| {});
        }
    }

    /// Ends the flight. Returns the pause, if there is one.
    pub fn land(mut self, result: FlightResult) -> Option<Duration> {
        self.landed = true;
        self.ends(result)
    }

    fn ends(&self, result: FlightResult) -> Option<Duration> {
        let now = self.clock.moment();
        let mut state = self.cell.state.lock();
        if state.epoch != self.epoch {
            return None;
        }
        state.flying = None;
        state.late = None;
        let mut pause = None;
        let refused = match result {
            FlightResult::Published => {
                state.backoff = Backoff::default();
                None
            }
            FlightResult::Failed(failed) => {
                pause = Some(state.backoff.failed(now, &failed, random(), &self.settings));
                None
            }
            FlightResult::Paused(long) => {
                state.backoff.pauses(now, long);
                pause = Some(long);
                None
            }
            FlightResult::Refused(refused) => {
                if let FlightRefusal::Broken { rest, keeps_token, .. } = &refused {
                    state.quiet = rest.map(|rest| (now, rest));
                    // The failures before it are not retried any more.
                    state.backoff = Backoff::default();
                    // The other replicas forget the credential too, when the feed of changes names the row of the
                    // verdict.
                    if !keeps_token {
                        self.cell.held.store(None);
                    }
                }
                Some(refused)
            }
        };
        state.ended = Some((self.number, refused));
        drop(state);
        self.cell.changes.send_modify(|()| {});
        pause
    }

    /// Adopts stored failures, unless the grant was changed meanwhile.
    pub fn adopt(&self, backoff: Backoff) {
        let stands = self.cell.state.lock().epoch == self.epoch;
        if stands {
            self.cell.adopt(backoff);
        }
    }

    /// Keeps a response until the store accepts it, also if the grant was changed meanwhile: the change may
    /// be one of settings, with the same tokens. Returns whether it is new.
    pub fn keep_unsaved(&self, unsaved: &Arc<UnsavedTokens>) -> bool {
        let mut state = self.cell.state.lock();
        if state.unsaved.as_ref().is_some_and(|kept| kept.over == unsaved.over) {
            return false;
        }
        state.unsaved = Some(unsaved.clone());
        true
    }

    /// The unsaved response to the token of this grant.
    pub fn unsaved(&self, grant: &[u8]) -> Option<Arc<UnsavedTokens>> {
        self.cell.state.lock().unsaved.clone().filter(|kept| kept.is_of(grant))
    }

    /// The unknown code that is accepted as final, if this failure is counted too.
    pub fn would_accept_code(&self, failed: &FailureDetails) -> Option<String> {
        let now = self.clock.moment();
        let mut backoff = self.cell.state.lock().backoff.clone();
        backoff.failed(now, failed, 0, &self.settings);
        backoff.believed(now, &self.settings).map(ToOwned::to_owned)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.landed {
            self.ends(FlightResult::Failed(FailureDetails::default()));
        }
    }
}

/// The jitter; without randomness all pauses have their maximum.
pub(crate) fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
