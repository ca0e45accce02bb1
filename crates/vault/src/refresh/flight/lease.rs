//! The lease of a flight excludes refreshes of the connection by other replicas. It is renewed while a response is
//! awaited; a late response gives its slot at the server to other connections.
//!
//! A replica that was paused for longer than its lease may lose it to another replica, which may crash in turn. So
//! while a replica awaits a late response, it keeps a note in the store with a digest of the grant that it sent. No
//! replica sends a request for a grant with a note, even if it holds the lease.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Flight;
use super::held_lease::{HeldLease, LeaseResult};
use crate::error::VaultError;
use crate::refresh::Refresh;
use crate::refresh::cache::FlightResult;
use crate::refresh::servers::RequestSlot;
use keyward_base::id::ConnectionId;
use keyward_state::store::PRESENCE_LEAST;

/// Renewals per lease time: one may be missed.
const LEASE_RENEWALS: u32 = 3;

/// The pause after a renewal that the store did not answer. If the lease were renewed only at the next due time, it
/// could end although the store is back.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// After the store was away for this part of a lease time (1/4), leases may end soon although their holders run.
const ENDS_WITHOUT: u32 = 4;

/// How often a row is read again while another replica holds its lease.
const LEASE_POLL: Duration = Duration::from_millis(100);

/// The retry time while another replica holds the lease for longer than usual.
const HELD_PAUSE: Duration = Duration::from_secs(5);

impl Flight<'_> {
    /// Renews the lease. Returns whether it was still held; `None` if the store does not answer.
    pub(super) async fn renews_lease(&self) -> Option<bool> {
        let Some(HeldLease { lease, since }) = self.lease.get() else { return Some(false) };
        let began = self.refresh.clock.moment();
        match self.refresh.store.renew_lease(lease, self.settings.lease).await {
            Ok(true) => {
                *since.lock() = began;
                Some(true)
            }
            Ok(false) => Some(false),
            Err(error) => {
                tracing::warn!(connection = %self.connection.id, %error, "a lease is not renewed");
                None
            }
        }
    }

    /// Whether the lease lasts until its next renewal. After a pause of the process, another replica may have it.
    pub(super) async fn is_sure_of_lease(&self) -> bool {
        let Some(held) = self.lease.get() else { return false };
        for _ in 0..LEASE_RENEWALS {
            let within = self.settings.lease / LEASE_RENEWALS;
            if held.is_renewed_within(within, self.refresh.clock.moment()) {
                return true;
            }
            if self.renews_lease().await != Some(true) {
                return false;
            }
        }
        false
    }

    /// Whether the lease lasts, for the moment at which a request is sent: connecting takes time, and the process may be
    /// paused meanwhile.
    pub(super) fn lease_check(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        // A lease ends with the presence of its replica, too.
        let within = self.settings.lease - self.settings.lease / LEASE_RENEWALS;
        let within = within.min(PRESENCE_LEAST);
        let check = self.lease.get().map(|held| held.check(within, self.refresh.clock.clone()));
        move || check.as_ref().is_some_and(|lasts| lasts())
    }

    /// Awaits the response, however late. Meanwhile the lease is renewed, so that no other replica sends
    /// the same token. When the response is late, other requests stop waiting for it.
    pub(super) async fn awaited<T>(
        &self,
        asking: impl Future<Output = T>,
        slot: &RequestSlot,
        sent: &[u8],
    ) -> T {
        let beside = async { tokio::join!(self.keep_lease(sent), self.mark_late(slot)).0 };
        tokio::select! {
            biased;
            answer = asking => answer,
            never = beside => match never {},
        }
    }

    async fn keep_lease(&self, sent: &[u8]) -> Infallible {
        let usual = self.settings.lease / LEASE_RENEWALS;
        let mut pause = usual;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.renews_lease().await {
                Some(true) => usual,
                Some(false) => {
                    self.note_request(sent).await;
                    usual
                }
                None => RENEW_AGAIN.min(usual),
            };
        }
    }

    /// Keeps the note that this replica has sent the token of this grant and awaits the response.
    async fn note_request(&self, sent: &[u8]) {
        let name = note_name(&self.connection.id);
        let note = Sha256::digest(sent);
        let kept = self.refresh.directory.keep(&name, &note, self.settings.lease);
        if let Err(error) = kept.await {
            tracing::warn!(
                connection = %self.connection.id, %error,
                "other replicas do not know that a response is awaited"
            );
        }
    }

    /// Whether another replica without the lease awaits a response for the token that is stored.
    async fn is_awaited_elsewhere(&self) -> Result<bool, VaultError> {
        let note = self.refresh.directory.kept(&note_name(&self.connection.id)).await?;
        let Some(note) = note else { return Ok(false) };
        let stored = self.refresh.grants.stored(self.connection).await?;
        Ok(note.as_slice() == Sha256::digest(&stored.bytes).as_slice())
    }

    /// The result of a flight that must not send the token, because another replica awaits a response for it.
    pub(super) async fn pause_for_note(&self) -> Result<Option<FlightResult>, VaultError> {
        let is_awaited = self.is_awaited_elsewhere().await?;
        Ok(is_awaited.then_some(FlightResult::Paused(HELD_PAUSE)))
    }

    async fn mark_late(&self, slot: &RequestSlot) {
        tokio::time::sleep(self.settings.exchange_timeout).await;
        let connection = &self.connection;
        tracing::info!(
            connection = %connection.id, name = connection.name, provider = connection.provider,
            "the authorization server has not answered a refresh yet: its answer is awaited"
        );
        slot.release_slot(&connection.id, self.refresh.clock.moment(), &self.settings);
        self.ticket.mark_late();
    }

    /// Takes the lease that excludes other replicas. While another replica holds it, checks whether that replica has
    /// stored a result.
    pub(super) async fn claim(&self) -> Result<LeaseResult, VaultError> {
        let name = lease_name(&self.connection.id);
        let until = Instant::now() + self.settings.lease;
        let mut examined = None;
        loop {
            // The former holder may still have to store an answer. It does so within this time; taking its lease
            // earlier would send the spent token.
            let lease = self.settings.lease;
            let settled = self.refresh.directory.has_recovered(lease / ENDS_WITHOUT, lease / 2);
            let began = self.refresh.clock.moment();
            // After a pause of the process, the lease of another flight of this process may have ended while it awaits a
            // response, or has one to store.
            if settled
                && !self.refresh.flights.has_lease(&self.connection.id)
                && let Some(lease) = self.refresh.store.lease(&name, self.settings.lease).await?
            {
                if let Some(pause) = self.pause_for_note().await? {
                    return Ok(LeaseResult::Landed(pause));
                }
                let held = HeldLease { lease: Arc::new(lease), since: Arc::new(Mutex::new(began)) };
                self.refresh.flights.note_lease(&self.connection.id, &held.lease);
                return Ok(LeaseResult::Lease(held));
            }
            if Instant::now() >= until {
                // The holder is alive, and waits for a response.
                return Ok(LeaseResult::Landed(FlightResult::Paused(HELD_PAUSE)));
            }
            tokio::time::sleep(LEASE_POLL).await;
            let stored = self.refresh.grants.stored(self.connection).await?;
            // An unchanged row cannot give a better result later: tokens only expire.
            let is_new = examined.replace(stored.version) != Some(stored.version);
            if is_new && let Some(result) = self.result_of_row(&stored).await? {
                return Ok(LeaseResult::Landed(result));
            }
        }
    }
}

impl Refresh {
    /// Whether a flight, of this replica or another one, may refresh the connection now; also if the store does not
    /// answer.
    pub(crate) async fn may_be_refreshed(&self, id: &ConnectionId) -> bool {
        let lease = self.store.lease(&lease_name(id), self.context.token_settings().lease).await;
        !matches!(lease, Ok(Some(_)))
    }
}

/// The name of the note of an awaited response.
fn note_name(id: &ConnectionId) -> String {
    format!("awaited/{id}")
}

fn lease_name(id: &ConnectionId) -> String {
    format!("refresh/{id}")
}
