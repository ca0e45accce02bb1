//! Notices secrets that the upstream rejects, such as revoked API keys. After repeated refusals of traffic the
//! connection is tested in the background, and marked as broken if its test is rejected too: an agent that provokes
//! refusals does not break a connection whose secret works.

use std::sync::Arc;

use super::attempts::is_rejection;
use super::test_request;
use crate::authorize::requester::Requester;
use crate::gateway::Gateway;
use crate::limits::secret_rejections::{ExaminationSlot, SecretVersion};
use crate::refusal::RefusalFormat;
use crate::upstream::sent::SentRequest;
use keyward_rules::inject::credential::Credential;
use keyward_state::directory::ConnectionRecord;

/// Counts the answer to an agent's request, and begins a test if one is due. The request does not wait for it.
pub fn observe(
    gateway: &Arc<Gateway>,
    requester: Requester<'_>,
    sent: &SentRequest,
    format: RefusalFormat,
) {
    let Requester::Agent(_) = requester else { return };
    let Some(credential) = sent.credential().filter(|credential| credential.renews.is_none())
    else {
        return;
    };
    if is_rejection(sent, format) {
        let version = SecretVersion {
            connection: credential.connection.clone(),
            generation: credential.generation,
        };
        if let Some(suspicion) = gateway.refusals.record_rejection(&version, &gateway.clock) {
            // On the runtime of this core, which ends before the audit log does.
            tokio::spawn(examine(gateway.clone(), credential.clone(), suspicion));
        }
    } else if sent.status().as_u16() < 400 {
        gateway.refusals.record_success(&credential.connection);
    }
}

/// Tests the secret, and marks its connection as broken if it is rejected.
async fn examine(gateway: Arc<Gateway>, credential: Arc<Credential>, suspicion: ExaminationSlot) {
    let Some(connection) = gateway.vault.refresh().active_with_secret(&credential) else { return };
    if !is_rejected(&gateway, &connection, &credential, &suspicion).await {
        return;
    }
    let vault = gateway.vault.clone();
    let rejecting = async move {
        if let Err(error) = vault.refresh().reject(&credential).await {
            tracing::warn!(
                connection = %connection.id, name = connection.name, %error,
                "its secret is rejected, and it cannot be marked as broken"
            );
        }
        drop(suspicion);
    };
    // The write survives the end of this core.
    gateway.vault.refresh().spawn_as_flight(rejecting);
}

/// Whether the secret is rejected: by the provider's test request, or, where no test decides, by long traffic.
async fn is_rejected(
    gateway: &Arc<Gateway>,
    connection: &Arc<ConnectionRecord>,
    credential: &Arc<Credential>,
    suspicion: &ExaminationSlot,
) -> bool {
    let is_untestable = match gateway.vault.grants().is_untestable(connection).await {
        Ok(is_untestable) => is_untestable,
        Err(error) => {
            tracing::debug!(connection = %connection.id, %error, "its secret cannot be tested");
            return false;
        }
    };
    let request = match is_untestable {
        true => Ok(None),
        false => gateway.vault.refresh().test_request(connection, None).await,
    };
    match request {
        Ok(Some(request)) => {
            let Some(_slot) = gateway.refusals.test_slot() else { return false };
            let trial = Some(credential.clone());
            let report = test_request::run(gateway, connection, request, trial).await;
            report.result.is_ok_and(|answer| answer.rejects_credential())
        }
        Ok(None) => suspicion.is_conclusive(),
        Err(error) => {
            tracing::debug!(connection = %connection.id, %error, "its secret cannot be tested");
            false
        }
    }
}
