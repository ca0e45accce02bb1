//! Sends a request over HTTP/2. Exchanges share a stream; when a new one is needed, one exchange dials it and the
//! others wait.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};

use super::http1;
use super::lease::StreamLease;
use super::plan::{SendPlan, TlsOffer, dial};
use super::retries::SpareRequest;
use crate::body::incoming_body::IncomingBody;
use crate::body::request_body::RequestBody;
use crate::gateway::Core;
use crate::pool::KnownProtocol;
use crate::pool::http2::head as head_of;
use crate::pool::http2::{AnswerWait, SendError, SharedStream, StreamUse};
use crate::pool::shared_streams::{DialGuard, StreamLookup};
use crate::refusal::Refusal;

/// The maximum number of attempts when the upstream reports that it did not process the request.
const TRIES_MAX: usize = 3;

/// The maximum number of further attempts because a new stream had more exchanges than it allows.
const OVER_LIMIT_MAX: usize = 5;

/// How a request can be sent.
enum SelectedStream {
    Http2(SharedStream, StreamUse),
    /// Over HTTP/1.1: the upstream does not speak HTTP/2.
    OnlyHttp1,
}

/// Sends the request on a stream that has room, and again if the upstream did not process it. One that is idempotent is
/// sent once more if its stream broke.
///
/// # Errors
/// When there is no stream or no answer.
pub async fn send(
    core: &Arc<Core>,
    request: Box<Request<RequestBody>>,
    plan: Box<SendPlan>,
) -> Result<(StreamLease, Response<IncomingBody>), Refusal> {
    let (mut request, mut tries, mut over_limit, mut is_repeated) = (request, 0, 0, false);
    loop {
        let (shared, mut stream_use) = match find(core, &plan).await? {
            SelectedStream::Http2(shared, stream_use) => (shared, stream_use),
            SelectedStream::OnlyHttp1 => return Box::pin(http1::send(core, request, plan)).await,
        };
        let spare = SpareRequest::of(core, &mut request);
        let (head, body) = (*request).into_parts();
        let head = head_of(&plan.key.target, head)?;
        let timeout = Duration::from_millis(plan.timeout_ms.into());
        let within = plan.retries.as_ref().map(|retries| retries.within());
        let wait = AnswerWait::new(&plan.interim, timeout, within);
        let why = match shared.send(&mut stream_use, head, body, wait).await {
            Ok(response) => {
                spare.discard();
                return Ok((StreamLease::shared(stream_use, core.clone()), response));
            }
            Err(why) => why,
        };
        stream_use.stop().await;
        match why {
            SendError::OverLimit(_) if over_limit < OVER_LIMIT_MAX => over_limit += 1,
            _ => tries += 1,
        }
        let may_go_again = match &why {
            SendError::Broken { gone, .. } => {
                *gone && plan.repeatable && !std::mem::replace(&mut is_repeated, true)
            }
            SendError::Unprocessed(_) | SendError::OverLimit(_) | SendError::WantsHttp1 => true,
        };
        if tries >= TRIES_MAX || !may_go_again {
            return Err(refusal(why));
        }
        request = match spare.into_request().await {
            Some(again) => again,
            None => return Err(refusal(why)),
        };
        if matches!(why, SendError::WantsHttp1) {
            core.protocols.learn(&plan.key.target, KnownProtocol::OnlyHttp1);
            return Box::pin(http1::send(core, request, plan)).await;
        }
    }
}

fn refusal(why: SendError) -> Refusal {
    match why {
        SendError::Unprocessed(refusal)
        | SendError::OverLimit(refusal)
        | SendError::Broken { refusal, .. } => refusal,
        SendError::WantsHttp1 => Refusal::Protocol { what: "it requires HTTP/1.1", source: None },
    }
}

async fn find(core: &Core, plan: &SendPlan) -> Result<SelectedStream, Refusal> {
    loop {
        let tls_generation = core.gateway.upstream_tls.load().generation;
        let fits = |shared: &SharedStream| {
            shared.tls_generation == tls_generation && plan.allows(shared.private)
        };
        match core.shared_streams.find(&plan.key, plan.window, fits) {
            StreamLookup::Send(shared, stream_use) => {
                core.gateway.metrics.reused.inc();
                return Ok(SelectedStream::Http2(shared, stream_use));
            }
            StreamLookup::Dial(dialling) => {
                return Box::pin(open(core, plan, Some(dialling))).await;
            }
            StreamLookup::Wait(dial) if dial.ended().await => {}
            // The dial failed: each waiting exchange dials by itself and gets its own error.
            StreamLookup::Wait(_) => return Box::pin(open(core, plan, None)).await,
        }
        if core.protocols.of(&plan.key.target) == KnownProtocol::OnlyHttp1 {
            return Ok(SelectedStream::OnlyHttp1);
        }
    }
}

/// Dials a new stream. It is shared before the waiting exchanges are woken.
async fn open(
    core: &Core,
    plan: &SendPlan,
    dialling: Option<DialGuard>,
) -> Result<SelectedStream, Refusal> {
    let fresh = dial(core, plan, TlsOffer::Either).await?;
    if !fresh.http2 {
        core.protocols.learn(&plan.key.target, KnownProtocol::OnlyHttp1);
        let stream = http1::begin(core, fresh).await?;
        core.pool.put(plan.key.clone(), stream);
        if let Some(dialling) = dialling {
            dialling.succeeded();
        }
        return Ok(SelectedStream::OnlyHttp1);
    }
    let expected = core.shared_streams.expected_exchanges_max(&plan.key);
    let limits = &core.gateway.limits;
    let begins = SharedStream::begin(fresh, limits, &core.idle, expected, plan.window);
    let shared = begins.await?;
    let stream_use = shared.begin_use();
    core.shared_streams.add(plan.key.clone(), shared.clone());
    if let Some(dialling) = dialling {
        dialling.succeeded();
    }
    Ok(SelectedStream::Http2(shared, stream_use))
}
