//! A background job that uses refresh tokens before they expire from disuse, where the operator or the app
//! enables it, and exchanges access tokens that only a live one can replace. Each step visits some of the
//! connections; a due refresh runs in a flight, so that leases, back-off and server limits apply. A timer for
//! each connection would be made again at each start, and all of them at once.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Refresh;
use super::cache::{Lookup, Trigger, random};
use super::status::after;
use crate::context::method;
use crate::grant::Grant;
use crate::grant::oauth::TokenFacts;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_rules::provider::oauth::GrantText;
use keyward_state::directory::ConnectionRecord;

/// Average time between two steps. Jitter spreads replicas that start at the same time.
const STEP_EVERY: Duration = Duration::from_secs(60);

/// Maximum number of steps of a walk: 3 hours, half of the shortest `keep_alive`.
const STEPS_MAX: usize = 180;

/// Connections whose grants one step opens; more if a walk would take longer than [`STEPS_MAX`].
const LOOKS: usize = 250;

/// Refreshes per step; more if a walk in which all are due would take longer than [`STEPS_MAX`].
const FLIGHTS: usize = 50;

/// Longest pause between two refreshes of a step.
const APART_MAX: Duration = Duration::from_secs(1);

/// The next walk begins one step later for every 50,000 connections, because choosing from a million connections takes
/// most of a second.
const CHOSEN_PER_STEP: usize = 50_000;

/// Up to this part of the period is subtracted, differently for each connection, so that connections that were added
/// together are not refreshed together.
const SPREAD_PERCENT: u32 = 20;

/// The walk of the keep-alive job over the connections with keep-alive.
#[derive(Clone, Debug, Default)]
pub struct KeepAliveCursor {
    /// The connections that it has not visited yet.
    rest: Vec<(OrgId, ConnectionId)>,
    /// The number of connections that it visits.
    all: usize,
    /// The number of connections that it chose these from.
    chosen_from: usize,
}

/// How long a connection may stay unused before it is refreshed.
#[derive(Clone, Copy, Debug)]
struct IdleLimit {
    /// As its app or provider says.
    every: Option<Duration>,
    /// Whether only a live access token gets a newer one: then half of its life, too.
    is_exchanged: bool,
    /// The life of an access token whose expiry is unknown, as the provider says; `None` without an app, because most
    /// servers exchange no token then.
    usual_life: Option<Duration>,
}

impl IdleLimit {
    /// The longest time between two refreshes of an access token with this life.
    fn longest(self, life: Option<Duration>) -> Option<Duration> {
        let life = life.or(self.usual_life).filter(|_| self.is_exchanged);
        self.every.into_iter().chain(life.map(|life| life / 2)).min()
    }
}

impl KeepAliveCursor {
    /// Whether the walk is complete, so that the next step begins another one.
    pub fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }

    /// `usual`, or more if a walk with that number per step takes too many steps.
    fn per_step(&self, usual: usize) -> usize {
        usual.max(self.all.div_ceil(STEPS_MAX))
    }

    /// The average time until the next step.
    fn pause(&self) -> Duration {
        let steps = if self.is_whole() { 1 + self.chosen_from / CHOSEN_PER_STEP } else { 1 };
        STEP_EVERY * u32::try_from(steps).unwrap_or(u32::MAX)
    }
}

impl Refresh {
    /// Runs until it is dropped.
    pub async fn keep_alive(&self) {
        let mut walk = KeepAliveCursor::default();
        loop {
            let part = 0.5 + f64::from(random()) / f64::from(u32::MAX);
            tokio::time::sleep(walk.pause().mul_f64(part)).await;
            self.keep_alive_step(&mut walk).await;
        }
    }

    /// Runs one step. Returns the number of started refreshes.
    pub async fn keep_alive_step(&self, walk: &mut KeepAliveCursor) -> usize {
        if walk.is_whole() {
            *walk = self.keep_alive_walk();
        }
        let (looks, flights) = (walk.per_step(LOOKS), walk.per_step(FLIGHTS));
        // The average pause is half of this, so the refreshes take half of a step.
        let apart = APART_MAX.min(STEP_EVERY / u32::try_from(flights).unwrap_or(u32::MAX));
        let mut begun = 0;
        for _ in 0..looks {
            if begun == flights {
                break;
            }
            let Some((org, id)) = walk.rest.pop() else { break };
            let Ok(connection) = self.context.connection(&org, &id) else { continue };
            let Some((generation, at)) = self.idle_until(&connection).await else { continue };
            if at > self.clock.now() {
                continue;
            }
            if begun > 0 {
                let part = f64::from(random()) / f64::from(u32::MAX);
                tokio::time::sleep(apart.mul_f64(part)).await;
            }
            begun += usize::from(self.begins(&connection, generation));
        }
        begun
    }

    /// When the connection is refreshed at the latest; `None` without keep-alive.
    pub(crate) fn kept_until(
        &self,
        connection: &ConnectionRecord,
        facts: &TokenFacts,
    ) -> Option<Timestamp> {
        let last = facts.sent.unwrap_or(connection.created);
        let life =
            facts.expires.and_then(|ends| Duration::try_from(ends.duration_since(last)).ok());
        let every = self.idle_limit(connection)?.longest(life)?;
        let digest = Sha256::digest(connection.id.to_string());
        let drawn = u32::from_be_bytes([0, 0, digest[0], digest[1]]);
        let off = every * SPREAD_PERCENT / 100 * drawn / u32::from(u16::MAX);
        Some(after(last, every.saturating_sub(off)))
    }

    /// A walk over all connections with keep-alive.
    fn keep_alive_walk(&self) -> KeepAliveCursor {
        let view = self.directory.view();
        let mut chosen_from = 0;
        let all = view.connections().inspect(|_| chosen_from += 1);
        let kept = all.filter(|it| self.idle_limit(it).is_some());
        let rest: Vec<_> = kept.map(|it| (it.org.clone(), it.id.clone())).collect();
        KeepAliveCursor { all: rest.len(), rest, chosen_from }
    }

    fn idle_limit(&self, connection: &ConnectionRecord) -> Option<IdleLimit> {
        if !connection.facts.state.is_usable() {
            return None;
        }
        let catalogue = self.context.catalogue(&connection.org);
        let (_, auth) =
            method(&catalogue, &connection.provider, connection.auth.as_deref()).ok()?;
        let oauth = auth.oauth.as_deref()?;
        // Other grants do not expire from disuse.
        if !matches!(oauth.grant, GrantText::AuthorizationCode | GrantText::DeviceCode) {
            return None;
        }
        let view = self.directory.view();
        let app = connection.app_id().and_then(|id| view.app(&connection.org, id));
        let settings = app.map(|app| (app.facts.paused, &app.settings.tokens));
        let is_exchanged = oauth.exchanges_access_token();
        let usual = oauth.says.keep_alive;
        let every = match settings {
            Some((true, _)) => return None,
            Some((_, settings)) if settings.keep_alive.is_some() => {
                Some(settings.keep_alive.filter(|every| !every.is_zero())?)
            }
            Some((_, settings)) if settings.auto_refresh == Some(false) => return None,
            // Without the job, the next use would find an expired token, and a person would have to consent again.
            _ if is_exchanged => usual,
            _ => Some(usual.filter(|_| self.context.token_settings().keep_alive)?),
        };
        let usual_life = oauth.access_ttl.filter(|_| app.is_some());
        Some(IdleLimit { every, is_exchanged, usual_life })
    }

    /// The stored generation, and when it must be refreshed; `None` if it cannot be refreshed.
    async fn idle_until(&self, connection: &Arc<ConnectionRecord>) -> Option<(u64, Timestamp)> {
        let told = |error| {
            tracing::debug!(connection = %connection.id, %error, "nothing to keep alive");
        };
        let stored = self.grants.stored(connection).await.map_err(told).ok()?;
        let grant = stored.grant(&self.context, connection).map_err(told).ok()?;
        let token_context = self.token_context(connection).map_err(told).ok()?;
        if stored.broken.is_some() || !self.renews(&token_context, &grant) {
            return None;
        }
        let Grant::OAuth(tokens) = &grant else { return None };
        let until = self.kept_until(connection, tokens.facts())?;
        Some((stored.version.0, until))
    }

    /// Whether a flight for a newer generation started: not if one is running, or during a pause.
    fn begins(&self, connection: &Arc<ConnectionRecord>, generation: u64) -> bool {
        let cell = self.cache.cell(&connection.org, &connection.id);
        let why = Trigger::KeepAlive(generation);
        match cell.lookup(why, None, &self.clock, &self.context.token_settings()) {
            Lookup::Begin(ticket) => {
                tracing::debug!(connection = %connection.id, "idle for long: refreshed");
                self.begin_flight(connection, why, ticket);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// oauth 7.exchanged: the usual life counts only where the expiry is unknown.
    #[test]
    fn half_of_its_life_limits_the_idle_time_of_an_exchanged_token_only() {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        for (is_exchanged, every, usual_life, life, longest) in [
            (true, None, None, days(60), days(30)),
            (true, None, days(60), days(10), days(5)),
            (true, None, days(60), None, days(30)),
            (true, days(7), days(60), days(60), days(7)),
            (true, days(45), None, days(60), days(30)),
            (true, None, None, None, None),
            (false, days(30), days(60), days(1), days(30)),
        ] {
            let kept = IdleLimit { every, is_exchanged, usual_life };
            assert_eq!(kept.longest(life), longest, "{kept:?} {life:?}");
        }
    }

    #[test]
    fn many_connections_are_scanned_rarely_and_visited_within_hours() {
        let id = || (OrgId::default_org(), ConnectionId::random());
        let walk = |rest, all| KeepAliveCursor { rest, all, chosen_from: 1_000_000 };
        assert_eq!(walk(vec![id()], 1).pause(), STEP_EVERY);
        assert_eq!(walk(Vec::new(), 1).pause(), STEP_EVERY * 21);
        assert_eq!(KeepAliveCursor::default().pause(), STEP_EVERY);
        for (all, per_step) in [(0, 50), (9_000, 50), (1_000_000, 5_556)] {
            assert_eq!(walk(Vec::new(), all).per_step(FLIGHTS), per_step, "{all}");
        }
    }
}
