//! What follows when the upstream refuses a credential that can be renewed: one newer credential, and the
//! request once more with it, where all of it is still there. The agent sees the second answer only.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::admit::Admitted;
use super::answer::Sent;
use super::asker::Asker;
use super::error::Refusal;
use super::grpc::Dialect;
use super::inbound::Inbound;
use super::record::Record;
use super::replay::Kept;
use super::{Core, Gateway, permitted, retry};
use crate::inject::credential::{Credential, Renews};

/// Of an answer whose body says whether it means 401, so much is read before it goes on.
const BEGINNING_BYTES_MAX: usize = 8 * 1024;
const BEGINNING_WITHIN: Duration = Duration::from_millis(500);

/// UNAUTHENTICATED, <https://grpc.io/docs/guides/status-codes/>: what 401 is in gRPC.
const UNAUTHENTICATED: &[u8] = b"16";

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A request that may be sent again.
struct Spare {
    copy: Box<Inbound>,
    kept: Kept,
}

/// Sends a request, and once more where the upstream refuses its credential.
///
/// # Errors
/// When there is no answer, the exchange is not permitted any more, or nothing but its owner can renew the
/// connection.
pub async fn send(
    core: &Arc<Core>,
    asker: Asker<'_>,
    inbound: Box<Inbound>,
    admitted: Admitted,
    record: &mut Record,
) -> Result<Sent, Refusal> {
    match admitted.permitted.1.as_ref().and_then(|credential| credential.renews) {
        None => retry::send(core, asker, inbound, admitted, record).await,
        // On the heap: most credentials are not renewed.
        Some(renews) => Box::pin(renewing((core, asker), inbound, admitted, renews, record)).await,
    }
}

async fn renewing(
    (core, asker): (&Arc<Core>, Asker<'_>),
    mut inbound: Box<Inbound>,
    admitted: Admitted,
    renews: Renews,
    record: &mut Record,
) -> Result<Sent, Refusal> {
    let (gw, meter) = (&core.gateway, admitted.meter.clone());
    let spare = Spare::of(gw, &mut inbound, renews);
    let sent = retry::send(core, asker, inbound, admitted, record).await?;
    let (mut sent, refused) = refused(gw, sent, record.dialect()).await;
    let Some(stale) = refused else { return Ok(sent) };
    let Some(spare) = spare.and_then(|spare| spare.whole(&mut sent)) else {
        gw.vault.renew_later(&stale);
        return Ok(sent);
    };
    match gw.vault.renew(&stale).await {
        Ok(Some(_)) => {}
        Err(error) if error.needs_a_person() => return Err(error.into()),
        // The agent is told what the upstream said.
        Ok(None) | Err(_) => {
            give_back(spare, &mut sent);
            return Ok(sent);
        }
    }
    retry::discard(sent).await;
    asker.still_holds(gw)?;
    let permitted = permitted::decide(gw, asker, &spare, record).await?;
    gw.metrics.renewed.inc();
    let sent = retry::send(core, asker, spare, Admitted { permitted, meter }, record).await?;
    let (sent, refused) = self::refused(gw, sent, record.dialect()).await;
    if let Some(fresh) = refused.filter(|fresh| fresh.generation > stale.generation) {
        gw.vault.refused_again(&fresh);
    }
    Ok(sent)
}

/// The handshake that was to be sent again is answered as it is.
fn give_back(mut spare: Box<Inbound>, sent: &mut Sent) {
    sent.put_upgrade(spare.take_upgrade());
}

impl Spare {
    /// Where the service does not mind requests that come twice.
    fn of(gateway: &Gateway, inbound: &mut Inbound, renews: Renews) -> Option<Self> {
        if !renews.unsafe_too && !inbound.head.method.is_safe() {
            return None;
        }
        let copy = Box::new(inbound.copy_of_head());
        let bytes_max = gateway.vault.token_settings().replay_bytes_max;
        let kept = Kept::up_to(bytes_max, &mut inbound.body, &gateway.renewals);
        Some(Self { copy, kept })
    }

    /// The request once more; `None` when not all of its body is here.
    fn whole(self, sent: &mut Sent) -> Option<Box<Inbound>> {
        let mut whole = self.copy;
        whole.body = self.kept.again()?;
        whole.put_upgrade(sent.take_upgrade());
        Some(whole)
    }
}

/// The answer, and the credential that it refuses, if it does.
async fn refused(
    gateway: &Gateway,
    sent: Sent,
    dialect: Dialect,
) -> (Sent, Option<Arc<Credential>>) {
    let Some(credential) = sent.credential().cloned() else { return (sent, None) };
    if sent.status() == StatusCode::UNAUTHORIZED || is_unauthenticated(sent.headers(), dialect) {
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

/// A call that ended before it began: its status stands in the head.
fn is_unauthenticated(fields: &HeaderMap, dialect: Dialect) -> bool {
    dialect == Dialect::Grpc
        && fields.get(&GRPC_STATUS).is_some_and(|status| status.as_bytes() == UNAUTHENTICATED)
}

fn is_json(fields: &HeaderMap) -> bool {
    let coded = fields.contains_key(header::CONTENT_ENCODING);
    let kind = fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    !coded && kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}
