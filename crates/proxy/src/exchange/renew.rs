//! Renews a credential that the upstream refuses, and sends the request once more if all of its body is still
//! available. The agent sees the second answer only.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::guard::ExchangeGuard;
use super::retry;
use crate::authorize::connection_limits::Admitted;
use crate::authorize::decide;
use crate::authorize::requester::Requester;
use crate::body::replay::BodyCopy;
use crate::gateway::{Core, Gateway};
use crate::refusal::Refusal;
use crate::refusal::grpc::RefusalFormat;
use crate::request::inbound::Inbound;
use crate::upstream::sent::Sent;
use keyward_rules::inject::credential::{Credential, Renews};

/// The part of an answer that is read to find out whether it means 401.
const BEGINNING_BYTES_MAX: usize = 8 * 1024;
const BEGINNING_WITHIN: Duration = Duration::from_millis(500);

/// The time to wait until a body that is no longer polled is dropped.
const LEFT_WITHIN: Duration = Duration::from_secs(1);

/// UNAUTHENTICATED, <https://grpc.io/docs/guides/status-codes/>: the gRPC status for 401.
const UNAUTHENTICATED: &[u8] = b"16";

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A copy of a request, for sending it again.
struct ReplayableRequest {
    copy: Box<Inbound>,
    kept: BodyCopy,
}

/// Sends a request, and again if the upstream refuses its credential.
///
/// # Errors
/// When there is no answer, the exchange is no longer permitted, or only the owner can renew the connection.
pub async fn send(
    core: &Arc<Core>,
    requester: Requester<'_>,
    inbound: Box<Inbound>,
    admitted: Admitted,
    exchange: &mut ExchangeGuard,
) -> Result<Sent, Refusal> {
    match admitted.permitted.1.as_ref().and_then(|credential| credential.renews) {
        None => retry::send(core, requester, inbound, admitted, exchange).await,
        // On the heap: most credentials are not renewed.
        Some(renews) => {
            Box::pin(renewing((core, requester), inbound, admitted, renews, exchange)).await
        }
    }
}

async fn renewing(
    (core, requester): (&Arc<Core>, Requester<'_>),
    mut inbound: Box<Inbound>,
    admitted: Admitted,
    renews: Renews,
    exchange: &mut ExchangeGuard,
) -> Result<Sent, Refusal> {
    let (gw, meter) = (&core.gateway, admitted.meter.clone());
    let spare = ReplayableRequest::of(gw, &mut inbound, renews);
    let sent = retry::send(core, requester, inbound, admitted, exchange).await?;
    let (mut sent, refused) = refused(gw, sent, exchange.format).await;
    let Some(stale) = refused else { return Ok(sent) };
    if let Some(spare) = spare.as_ref().filter(|_| sent.is_before_body()) {
        sent = spare.taken_back(sent).await;
    }
    let Some(spare) = spare.and_then(|spare| spare.whole(&mut sent)) else {
        gw.vault.renew_later(&stale);
        return Ok(sent);
    };
    match gw.vault.renew(&stale).await {
        Ok(Some(_)) => {}
        Err(error) if error.needs_a_person() => return Err(error.into()),
        // The agent gets the upstream's answer.
        Ok(None) | Err(_) => {
            give_back(spare, &mut sent);
            return Ok(sent);
        }
    }
    retry::discard(sent).await;
    requester.check_still_valid(gw)?;
    let permitted = decide::decide(gw, requester, &spare, &mut exchange.record).await?;
    gw.metrics.renewed.inc();
    let sent = retry::send(core, requester, spare, Admitted { permitted, meter }, exchange).await?;
    let (sent, refused) = self::refused(gw, sent, exchange.format).await;
    if let Some(fresh) = refused.filter(|fresh| fresh.generation > stale.generation) {
        gw.vault.refused_again(&fresh);
    }
    Ok(sent)
}

/// Returns the agent's side of a handshake that is not sent again.
fn give_back(mut spare: Box<Inbound>, sent: &mut Sent) {
    sent.put_upgrade(spare.take_upgrade());
}

impl ReplayableRequest {
    /// Copies the request if the service accepts repeated requests.
    fn of(gateway: &Gateway, inbound: &mut Inbound, renews: Renews) -> Option<Self> {
        if !renews.unsafe_too && !inbound.is_safe() {
            return None;
        }
        let copy = Box::new(inbound.copy_of_head());
        let bytes_max = gateway.vault.token_settings().replay_bytes_max;
        let kept = BodyCopy::up_to(bytes_max, &mut inbound.body, &gateway.renewal_bodies);
        Some(Self { copy, kept })
    }

    /// Gets the body back from a request that was refused before the upstream wanted its body (RFC 9110 §10.1.1).
    /// The answer is read first, because its stream ends with the body.
    async fn taken_back(&self, sent: Sent) -> Sent {
        let (sent, _) = sent.begun(BEGINNING_BYTES_MAX, BEGINNING_WITHIN).await;
        sent.abandon_body();
        self.kept.wait_until_dropped(LEFT_WITHIN).await;
        sent
    }

    /// The request to send again; `None` when a part of its body is missing.
    fn whole(self, sent: &mut Sent) -> Option<Box<Inbound>> {
        let mut whole = self.copy;
        whole.body = self.kept.into_body()?;
        whole.put_upgrade(sent.take_upgrade());
        Some(whole)
    }
}

/// The answer, and the credential if the answer refuses it.
async fn refused(
    gateway: &Gateway,
    sent: Sent,
    format: RefusalFormat,
) -> (Sent, Option<Arc<Credential>>) {
    let Some(credential) = sent.credential().cloned() else { return (sent, None) };
    if sent.status() == StatusCode::UNAUTHORIZED || is_unauthenticated(sent.headers(), format) {
        return (sent, Some(credential));
    }
    let status = sent.status().as_u16();
    let may_mean_it = credential.renews.is_some_and(|it| it.expired_status == Some(status));
    if !may_mean_it || !is_json(sent.headers()) {
        return (sent, None);
    }
    let (sent, beginning) = sent.begun(BEGINNING_BYTES_MAX, BEGINNING_WITHIN).await;
    let whole = beginning.filter(|body| gateway.vault.means_expired(&credential, status, body));
    (sent, whole.map(|_| credential))
}

/// Whether a gRPC call was refused as unauthenticated: its status is in the head then.
fn is_unauthenticated(fields: &HeaderMap, format: RefusalFormat) -> bool {
    format == RefusalFormat::Grpc
        && fields.get(&GRPC_STATUS).is_some_and(|status| status.as_bytes() == UNAUTHENTICATED)
}

fn is_json(fields: &HeaderMap) -> bool {
    let coded = fields.contains_key(header::CONTENT_ENCODING);
    let kind = fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    !coded && kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}
