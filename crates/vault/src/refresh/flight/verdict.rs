//! Verdicts of a flight: the grant is invalid, or the server rejects the client. A rejected client is tried
//! again later.

use std::time::Duration;

use jiff::Timestamp;

use super::refusal::RETRY_AFTER_MIN;
use super::{Flight, Paused, RequestResult};
use crate::error::{FlightRefusal, VaultError};
use crate::grants::record::GrantVerdict;
use crate::grants::{StoredGrant, is_conflict};
use crate::refresh::backoff::rejected_for;
use crate::refresh::cache::{FlightResult, Trigger, random};
use crate::refresh::endpoints::EndpointsUnknown;
use crate::refresh::status::after;
use crate::refresh::token_request::RequestFailure;
use keyward_state::directory::BrokenReason;

impl Flight<'_> {
    /// Reads the metadata first if only the issuer is known. Returns the result of the flight if that
    /// fails.
    pub(super) async fn read_endpoints(
        &self,
        stored: &StoredGrant,
    ) -> Result<Option<FlightResult>, VaultError> {
        let connection = self.connection_now();
        if !self.refresh.needs_metadata(&connection)? {
            return Ok(None);
        }
        if let Some(Paused::Still(rest)) = self.pause(stored).await? {
            return Ok(Some(FlightResult::Paused(rest)));
        }
        Ok(match self.refresh.find_endpoints(&connection, self.why).await? {
            None => None,
            Some(EndpointsUnknown::Paused(rest)) => Some(FlightResult::Paused(rest)),
            Some(EndpointsUnknown::RequestFailure(RequestFailure::Temporary {
                failed, ..
            })) => {
                self.warn_of(&failed, &self.refresh.client_at_server(&self.token_context()?));
                Some(FlightResult::Failed(*failed))
            }
            Some(EndpointsUnknown::RequestFailure(RequestFailure::Dead(verdict))) => {
                let verdict = self.rejected(*verdict, stored.broken.as_ref());
                let result = self.store_verdict(stored, verdict).await?;
                Some(result.unwrap_or(FlightResult::Paused(RETRY_AFTER_MIN)))
            }
        })
    }

    /// Whether a broken grant is tried again: a person requests it, or the pause of a rejected client has ended. Verdicts
    /// without a pause, of earlier versions, are tried at once.
    pub(super) fn tries_again(&self, verdict: &GrantVerdict) -> bool {
        let is_due = || verdict.retry_at.is_none_or(|at| at <= self.refresh.clock.now());
        self.why.is_by_hand() || verdict.reason == BrokenReason::ClientRejected && is_due()
    }

    /// The refusal by a verdict; publishes the access token if that is used to its end.
    pub(super) async fn refused_by(
        &self,
        stored: &StoredGrant,
        verdict: &GrantVerdict,
    ) -> Result<FlightResult, VaultError> {
        // After a crash, or a verdict of another replica, the record may differ from the row.
        self.refresh.sync_record(self.connection).await?;
        let mut refused = self.refused(verdict);
        if let FlightRefusal::Broken { keeps_token, .. } = &mut refused {
            // A token that an upstream has rejected is not used, whatever its end.
            let is_used = *keeps_token && !matches!(self.why, Trigger::Rejected(_));
            let held = if is_used { self.held_of(stored).await?.1 } else { None };
            *keeps_token = held.map(|held| self.ticket.publish(held)).is_some();
        }
        Ok(FlightResult::Refused(refused))
    }

    /// The end of the access token of a grant whose client is rejected: the verdict is not about the token, unless an
    /// upstream has rejected that too.
    fn usable_until(&self, stored: &StoredGrant) -> Option<Timestamp> {
        let grant = stored.grant(&self.refresh.context, self.connection).ok()?;
        let tokens = grant.tokens().filter(|tokens| tokens.is_live(self.refresh.clock.now()))?;
        let is_accepted = !matches!(self.why, Trigger::Rejected(_));
        is_accepted.then(|| tokens.facts().expires.unwrap_or(Timestamp::MAX))
    }

    /// The refusal by a verdict, and its shortest duration.
    pub(super) fn refused(&self, verdict: &GrantVerdict) -> FlightRefusal {
        let left = |at: Timestamp| Duration::try_from(at.duration_since(self.refresh.clock.now()));
        FlightRefusal::Broken {
            reason: verdict.reason,
            detail: verdict.detail.clone(),
            rest: verdict.retry_at.map(|at| left(at).unwrap_or_default()),
            keeps_token: verdict.usable_until.is_some_and(|end| self.refresh.clock.now() < end),
        }
    }

    /// The verdict on a rejected client, with the fingerprint of its requests and the time of the next try.
    pub(super) fn rejected(
        &self,
        verdict: GrantVerdict,
        before: Option<&GrantVerdict>,
    ) -> GrantVerdict {
        let before = before.filter(|it| it.reason == BrokenReason::ClientRejected);
        let tries = before.map_or(verdict.tries, |before| before.tries.saturating_add(1));
        let pause = rejected_for(tries, random(), &self.settings);
        let request_fingerprint =
            self.about.lock().as_ref().map(|about| about.request_fingerprint.clone());
        GrantVerdict {
            request_fingerprint,
            tries,
            retry_at: Some(after(self.refresh.clock.now(), pause)),
            ..verdict
        }
    }

    /// Stores the verdict that follows from a response. `before`: the verdict when the request was sent.
    pub(super) async fn result_of_verdict(
        &self,
        stored: &StoredGrant,
        verdict: GrantVerdict,
        before: Option<&GrantVerdict>,
    ) -> Result<RequestResult, VaultError> {
        let verdict = self.of_lost_answer(stored, verdict);
        if verdict.reason != BrokenReason::ClientRejected {
            return self.result_or_overtaken(self.store_verdict(stored, verdict).await?);
        }
        self.refresh.endpoint_changes.report(&self.connection.org, &self.connection.id);
        let usable_until = self.usable_until(stored);
        let verdict = GrantVerdict { usable_until, ..self.rejected(verdict, before) };
        // This flight may have read the endpoints itself.
        let asked = verdict.request_fingerprint.as_ref();
        if self.refresh.requests_changed(&self.connection_now(), asked).await? {
            return Ok(RequestResult::Overtaken);
        }
        let result = self.store_verdict(stored, verdict).await?;
        // The row may have changed since it was read.
        match self.refresh.clear_verdict_if_changed(&self.connection_now()).await? {
            true => Ok(RequestResult::Overtaken),
            false => self.result_or_overtaken(result),
        }
    }

    /// Stores the verdict; `None` if the grant was replaced meanwhile.
    pub(super) async fn store_verdict(
        &self,
        stored: &StoredGrant,
        verdict: GrantVerdict,
    ) -> Result<Option<FlightResult>, VaultError> {
        let refused = self.refused(&verdict);
        match self.refresh.mark_broken(self.connection, stored, verdict).await {
            Ok(version) => {
                self.ticket.note_stored(version.0);
                Ok(Some(FlightResult::Refused(refused)))
            }
            Err(error) if is_conflict(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
