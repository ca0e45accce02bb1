//! A background job that uses refresh tokens before they expire from disuse, where the operator or the app
//! enables it. Each step visits some of the connections; a due refresh runs in a flight, so that leases, back-off and
//! server limits apply.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::cache::{Lookup, Trigger, random};
use super::status::after;
use super::{Vault, method};
use crate::grant::Grant;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_rules::provider::oauth::GrantText;
use keyward_state::directory::ConnectionRecord;

/// Average time between two steps; jitter separates replicas that start together.
const STEP_EVERY: Duration = Duration::from_secs(60);

/// Connections whose grants one step opens.
const LOOKS_MAX: usize = 250;

/// Refreshes per step. With this number, ten thousand due connections take less than four hours.
const FLIGHTS_MAX: usize = 50;

/// Longest pause between two refreshes of a step.
const APART_MAX: Duration = Duration::from_secs(1);

/// The largest part of the period that is subtracted, a different part for each connection, so that
/// connections made together are not refreshed together.
const SPREAD_PERCENT: u32 = 20;

/// The position of the keep-alive job among all connections.
#[derive(Clone, Debug, Default)]
pub struct KeepAliveCursor(Option<(OrgId, ConnectionId)>);

impl KeepAliveCursor {
    /// Whether the next step begins at the first connection.
    pub fn is_whole(&self) -> bool {
        self.0.is_none()
    }
}

impl Vault {
    /// Runs until it is dropped.
    pub async fn keep_alive(&self) {
        let mut walk = KeepAliveCursor::default();
        loop {
            let part = 0.5 + f64::from(random()) / f64::from(u32::MAX);
            tokio::time::sleep(STEP_EVERY.mul_f64(part)).await;
            self.keep_alive_step(&mut walk).await;
        }
    }

    /// Runs one step. Returns the number of started refreshes.
    pub async fn keep_alive_step(&self, walk: &mut KeepAliveCursor) -> usize {
        let mut begun = 0;
        let all = self.kept_alive();
        let rest = all.partition_point(|it| walk.0.as_ref().is_some_and(|at| place(it) <= *at));
        for connection in all[rest..].iter().take(LOOKS_MAX) {
            if begun == FLIGHTS_MAX {
                return begun;
            }
            walk.0 = Some(place(connection));
            let Some((generation, at)) = self.idle_until(connection).await else { continue };
            if at > self.clock.now() {
                continue;
            }
            if begun > 0 {
                tokio::time::sleep(APART_MAX.mul_f64(f64::from(random()) / f64::from(u32::MAX)))
                    .await;
            }
            begun += usize::from(self.begins(connection, generation));
        }
        if all.len() <= rest + LOOKS_MAX {
            walk.0 = None;
        }
        begun
    }

    /// When the connection is refreshed at the latest; `None` without keep-alive.
    pub(super) fn kept_until(
        &self,
        connection: &ConnectionRecord,
        last: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let every = self.keep_alive_every(connection)?;
        let digest = Sha256::digest(connection.id.to_string());
        let drawn = u32::from_be_bytes([0, 0, digest[0], digest[1]]);
        let off = every * SPREAD_PERCENT / 100 * drawn / u32::from(u16::MAX);
        Some(after(last.unwrap_or(connection.created), every.saturating_sub(off)))
    }

    /// All connections with keep-alive, in order.
    fn kept_alive(&self) -> Vec<Arc<ConnectionRecord>> {
        let view = self.directory.view();
        let wanted = view.connections().filter(|it| self.keep_alive_every(it).is_some());
        let mut wanted: Vec<_> = wanted.cloned().collect();
        wanted.sort_by_cached_key(place);
        wanted
    }

    fn keep_alive_every(&self, connection: &ConnectionRecord) -> Option<Duration> {
        if !connection.facts.state.is_usable() {
            return None;
        }
        let catalogue = self.catalogue(&connection.org);
        let (_, auth) =
            method(&catalogue, &connection.provider, connection.auth.as_deref()).ok()?;
        let oauth = auth.oauth.as_deref()?;
        // Grants without a refresh token do not expire from disuse.
        if !matches!(oauth.grant, GrantText::AuthorizationCode | GrantText::DeviceCode) {
            return None;
        }
        let view = self.directory.view();
        let app = connection.app_id().and_then(|id| view.app(&connection.org, id));
        let settings = app.map(|app| (app.facts.paused, &app.settings.tokens));
        match settings {
            Some((true, _)) => None,
            Some((_, settings)) if settings.keep_alive.is_some() => {
                settings.keep_alive.filter(|every| !every.is_zero())
            }
            Some((_, settings)) if settings.auto_refresh == Some(false) => None,
            _ => oauth.says.keep_alive.filter(|_| self.token_settings().keep_alive),
        }
    }

    /// The stored generation, and when it must be refreshed; `None` without a refresh token.
    async fn idle_until(&self, connection: &Arc<ConnectionRecord>) -> Option<(u64, Timestamp)> {
        let told = |error| {
            tracing::debug!(connection = %connection.id, %error, "nothing to keep alive");
        };
        let stored = self.stored(connection).await.map_err(told).ok()?;
        let grant = stored.grant(self, connection).map_err(told).ok()?;
        let token_context = self.token_context(connection).map_err(told).ok()?;
        if stored.broken.is_some() || !self.renews(&token_context, &grant) {
            return None;
        }
        let Grant::OAuth(tokens) = &grant else { return None };
        let until = self.kept_until(connection, tokens.facts().sent)?;
        Some((stored.version.0, until))
    }

    /// Whether a flight for a newer generation started: not if one is running, or during a pause.
    fn begins(&self, connection: &Arc<ConnectionRecord>, generation: u64) -> bool {
        let cell = self.cache.cell(&connection.org, &connection.id);
        let why = Trigger::KeepAlive(generation);
        match cell.lookup(why, None, &self.clock, &self.token_settings()) {
            Lookup::Begin(ticket) => {
                tracing::debug!(connection = %connection.id, "idle for long: refreshed");
                self.begin_flight(connection, why, ticket);
                true
            }
            _ => false,
        }
    }
}

fn place(connection: &Arc<ConnectionRecord>) -> (OrgId, ConnectionId) {
    (connection.org.clone(), connection.id.clone())
}
