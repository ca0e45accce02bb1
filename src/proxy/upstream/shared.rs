//! HTTP/2: exchanges share a stream. One of those that need a new one dials it, the others wait.

use std::sync::Arc;

use http::{Request, Response};

use super::dial::{Offer, dial};
use super::protocols::Known;
use super::{Way, alone, copy};
use crate::proxy::Core;
use crate::proxy::arriving::Arriving;
use crate::proxy::body::RequestBody;
use crate::proxy::error::Refusal;
use crate::proxy::h2::upstream::{Dialling, Shared, Stay, Turn, Unanswered, head as head_of};
use crate::proxy::pool::Lease;
use crate::proxy::replay::Kept;

/// How often a request is sent that the upstream says it did not process.
const TRIES_MAX: usize = 3;

/// What can be done for a request.
enum Found {
    /// To send it on this stream.
    Shared(Shared, Stay),
    /// To send it over HTTP/1.1: the upstream speaks nothing else.
    OnlyHttp1,
}

/// Sends the request on a stream that has room, and again when the upstream did not process it.
///
/// # Errors
/// When there is no stream, or no answer.
pub async fn send(
    core: &Arc<Core>,
    request: Box<Request<RequestBody>>,
    way: Way,
) -> Result<(Lease, Response<Arriving>), Refusal> {
    let (mut request, mut tries) = (request, 0);
    loop {
        tries += 1;
        let (shared, mut stay) = match find(core, &way).await? {
            Found::Shared(shared, stay) => (shared, stay),
            Found::OnlyHttp1 => return Box::pin(alone::send(core, request, way)).await,
        };
        let spare = copy(&request);
        let (head, mut body) = (*request).into_parts();
        let kept = Kept::of(&mut body, &core.replays);
        let head = head_of(&way.key.target, head)?;
        let why = match shared.send(&mut stay, (head, body), &way.interim).await {
            Ok(response) => {
                kept.forget();
                return Ok((Lease::shared(stay, core.clone()), response));
            }
            Err(why) => why,
        };
        stay.stop().await;
        let again = kept.again().filter(|_| tries < TRIES_MAX && may_go_again(&why, &way));
        let Some(body) = again else { return Err(refusal(why)) };
        request = Box::new(spare.map(|_| body));
        if matches!(why, Unanswered::WantsHttp1) {
            core.protocols.learn(&way.key.target, Known::OnlyHttp1);
            return Box::pin(alone::send(core, request, way)).await;
        }
    }
}

fn may_go_again(why: &Unanswered, way: &Way) -> bool {
    match why {
        Unanswered::Unprocessed(_) | Unanswered::WantsHttp1 => true,
        Unanswered::Broken { gone, .. } => *gone && way.repeatable,
    }
}

fn refusal(why: Unanswered) -> Refusal {
    match why {
        Unanswered::Unprocessed(refusal) | Unanswered::Broken { refusal, .. } => refusal,
        Unanswered::WantsHttp1 => {
            Refusal::Protocol { what: "it wants HTTP/1.1 after all", source: None }
        }
    }
}

async fn find(core: &Arc<Core>, way: &Way) -> Result<Found, Refusal> {
    loop {
        let number = core.gateway.outward.load().number;
        let fits = |shared: &Shared| shared.number == number && way.allows(shared.private);
        match core.shared.turn(core, &way.key, fits) {
            Turn::Send(shared, stay) => {
                core.gateway.metrics.reused.inc();
                return Ok(Found::Shared(shared, stay));
            }
            Turn::Dial(dialling) => return Box::pin(open(core, way, Some(dialling))).await,
            Turn::Wait(dial) if dial.ended().await => {}
            // Whoever dialled had no success: each tries by itself, and has its own reason.
            Turn::Wait(_) => return Box::pin(open(core, way, None)).await,
        }
        if core.protocols.of(&way.key.target) == Known::OnlyHttp1 {
            return Ok(Found::OnlyHttp1);
        }
    }
}

/// Dials. What was dialled is there for all before the others are told.
async fn open(core: &Arc<Core>, way: &Way, dialling: Option<Dialling>) -> Result<Found, Refusal> {
    let fresh = dial(core, way, Offer::Either).await?;
    if !fresh.http2 {
        core.protocols.learn(&way.key.target, Known::OnlyHttp1);
        let stream = alone::begin(core, fresh).await?;
        core.pool.put(way.key.clone(), stream);
        if let Some(dialling) = dialling {
            dialling.succeeded();
        }
        return Ok(Found::OnlyHttp1);
    }
    let of = (fresh.private, fresh.number);
    let shared = Shared::begin(fresh.io, &core.gateway.limits, of).await?;
    let stay = shared.stay();
    core.shared.add(way.key.clone(), shared.clone());
    if let Some(dialling) = dialling {
        dialling.succeeded();
    }
    Ok(Found::Shared(shared, stay))
}
