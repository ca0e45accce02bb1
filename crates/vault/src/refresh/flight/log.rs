//! Logs and counts the results of flights.

use std::sync::Arc;

use super::Flight;
use crate::error::FlightRefusal;
use crate::refresh::Refresh;
use crate::refresh::backoff::FailureDetails;
use crate::refresh::cache::FlightResult;
use crate::refresh::servers::ClientAtServer;
use keyward_base::system_error;
use keyward_net::call::CallFailure;
use keyward_state::directory::{BrokenReason, ConnectionRecord, RemedyCause};
use keyward_state::observe::metrics::Metrics;

/// The cause of failures that an answer of the authorization server reports.
const HTTP_ANSWER: &str = "http_answer";

impl Refresh {
    /// Counts refreshes in `metrics`.
    pub fn count_in(&self, metrics: &Arc<Metrics>) {
        metrics.expect_refresh_failures(&CallFailure::ALL.map(CallFailure::as_str));
        metrics.expect_refresh_failures(&[HTTP_ANSWER]);
        // Only the first call has an effect: a vault belongs to one gateway.
        let _ = self.metrics.set(metrics.clone());
    }

    /// Reports a connection that has failed for long, at most once per pause.
    pub(super) fn alert(&self, connection: &ConnectionRecord) {
        let Some(failing) = self.failing(connection) else { return };
        if failing.alert {
            tracing::warn!(
                id = "refresh_failing_long",
                connection = %connection.id, name = connection.name, since = %failing.since,
                count = failing.count, code = failing.code,
                "refreshes have failed for long: look at the authorization server"
            );
        }
    }

    /// Logs the result of a flight, without anything that was sent or received.
    pub(super) fn note(&self, connection: &ConnectionRecord, result: &FlightResult) {
        let (name, provider) = (&connection.name, &connection.provider);
        match result {
            FlightResult::Published | FlightResult::Paused(_) => {}
            FlightResult::Failed(failed) if !connection.references.is_empty() => tracing::warn!(
                id = "source_failed",
                connection = %connection.id, name, provider, why = failed.message,
                "a secret source gives no value; it is asked again, and the last value is used for as long as it is kept"
            ),
            FlightResult::Failed(failed) => {
                self.count("failed");
                let cause = failed.cause.map_or(HTTP_ANSWER, CallFailure::as_str);
                if let Some(metrics) = self.metrics.get() {
                    metrics.refresh_failed(cause);
                }
                tracing::info!(
                    id = "refresh_failed",
                    connection = %connection.id, name, provider, code = failed.code, cause,
                    why = failed.message, "a refresh failed; it is tried again"
                );
            }
            FlightResult::Refused(FlightRefusal::Broken { reason, detail, .. }) => {
                self.count("broken");
                let need = RemedyCause::Broken { reason: *reason, detail: detail.as_deref() };
                let remedy = self.context.remedy(connection, need);
                let what = match reason {
                    BrokenReason::ClientRejected => {
                        "a connection is broken: its client is refused; it is tried again after a while"
                    }
                    _ => "a connection is broken",
                };
                tracing::warn!(
                    id = "connection_broken",
                    connection = %connection.id, name, provider, reason = reason.code(), detail,
                    remedy, "{what}"
                );
            }
            FlightResult::Refused(FlightRefusal::Failed(error)) => tracing::warn!(
                connection = %connection.id, name, provider,
                error = system_error::chain(error), "no credential could be made"
            ),
        }
    }
}

impl Flight<'_> {
    /// Warns about an unreachable server once per cause, not once per connection.
    pub(super) fn warn_of(&self, failed: &FailureDetails, asked: &ClientAtServer) {
        let Some(cause) = failed.cause else { return };
        let now = self.refresh.clock.moment();
        if !self.refresh.servers.should_warn(&asked.server, cause, now, &self.settings) {
            return;
        }
        tracing::warn!(
            id = "authorization_server_unreachable",
            connection = %self.connection.id, name = self.connection.name,
            provider = self.connection.provider, cause = cause.as_str(), why = failed.message,
            remedy = cause.remedy(), "the authorization server cannot be asked for a token"
        );
    }
}
