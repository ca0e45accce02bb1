//! Sends a request several times, if the connection's settings allow it: after a failed connect for every request,
//! and after a retryable status or a lost stream for idempotent requests (RFC 9110 §9.2.2) with a short body. Each
//! attempt is authorized again, so nothing is sent with a revoked permission.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::attempt;
use super::guard::ExchangeGuard;
use crate::authorize::connection_limits::Admitted;
use crate::authorize::decide;
use crate::authorize::requester::Requester;
use crate::body::body_error::ReceiveError;
use crate::body::replay::BodyCopy;
use crate::gateway::Core;
use crate::refusal::Refusal;
use crate::request::inbound::Inbound;
use crate::upstream::retries::Retries;
use crate::upstream::sent::Sent;
use keyward_rules::inject::credential::Credential;
use keyward_rules::policy::Permit;

/// Limits for reading the rest of a discarded answer, so that its stream can be reused.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;
const DISCARDED_WITHIN: Duration = Duration::from_secs(1);

/// A copy of a request, for sending it again once the sent one has been dropped.
struct ReplayableRequest {
    copy: Box<Inbound>,
    kept: BodyCopy,
}

/// Sends a request, with retries if its connection's settings allow them.
///
/// # Errors
/// When there is no answer, or the exchange is no longer permitted.
pub async fn send(
    core: &Arc<Core>,
    requester: Requester<'_>,
    inbound: Box<Inbound>,
    Admitted { permitted, meter }: Admitted,
    exchange: &mut ExchangeGuard,
) -> Result<Sent, Refusal> {
    match Retries::begin(&core.gateway, &permitted.0, meter) {
        None => attempt::send(core, inbound, permitted, None, &mut exchange.record).await,
        // On the heap: each stream of an agent keeps room for the largest of its exchanges.
        Some(attempts) => {
            exchange.record.follow_attempts(attempts.counter());
            Box::pin(several((core, requester), inbound, permitted, &attempts, exchange)).await
        }
    }
}

async fn several(
    (core, requester): (&Arc<Core>, Requester<'_>),
    mut inbound: Box<Inbound>,
    mut permitted: (Permit, Option<Arc<Credential>>),
    attempts: &Arc<Retries>,
    exchange: &mut ExchangeGuard,
) -> Result<Sent, Refusal> {
    let gw = &core.gateway;
    loop {
        let spare = ReplayableRequest::of(core, &mut inbound);
        let result =
            attempt::send(core, inbound, permitted, Some(attempts), &mut exchange.record).await;
        let Some(spare) = spare.filter(|_| is_worth_another(attempts, &result)) else {
            return result;
        };
        let again = spare.whole().and_then(|spare| {
            Some((spare, attempts.wait_after(gw, result.as_ref().ok().map(Sent::headers))?))
        });
        let Some((spare, wait)) = again else { return result };
        if let Ok(sent) = result {
            discard(sent).await;
        }
        tokio::time::sleep(wait).await;
        requester.check_still_valid(gw)?;
        permitted = decide::decide(gw, requester, &spare, &mut exchange.record).await?;
        inbound = spare;
    }
}

impl ReplayableRequest {
    fn of(core: &Core, inbound: &mut Inbound) -> Option<Self> {
        let copy = inbound.copy()?;
        Some(Self { copy: Box::new(copy), kept: BodyCopy::of(&mut inbound.body, &core.replays) })
    }

    /// The request to send again; `None` while its body is still being sent, or when the body was too long to keep.
    fn whole(self) -> Option<Box<Inbound>> {
        let mut whole = self.copy;
        whole.body = self.kept.into_body()?;
        Some(whole)
    }
}

/// Whether another attempt may succeed.
fn is_worth_another(attempts: &Retries, result: &Result<Sent, Refusal>) -> bool {
    match result {
        Ok(sent) => attempts.is_on(sent.status().as_u16()),
        Err(refusal) => hung_up(refusal),
    }
}

/// Whether the upstream ended its stream before it answered.
fn hung_up(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Protocol { source: Some(ReceiveError::Http1(error)), .. } => {
            !error.is_parse() && !error.is_user()
        }
        Refusal::Protocol { source: Some(ReceiveError::Http2(error)), .. } => {
            error.is_io() || error.is_go_away()
        }
        _ => false,
    }
}

/// Reads the rest of an answer if it is short.
pub async fn discard(sent: Sent) {
    let (response, lease) = sent.into_parts();
    let mut body = response.into_body();
    let ended = async {
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.ok()?.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARDED_BYTES_MAX {
                return None;
            }
        }
        Some(())
    };
    if let Ok(Some(())) = tokio::time::timeout(DISCARDED_WITHIN, ended).await {
        lease.finish();
    }
}
