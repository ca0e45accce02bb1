//! [`Attempts`]: why and how one exchange is sent again. Two causes exist:
//!
//! - a retryable status or a lost stream, where the connection's settings allow retries ([`Retries`]): idempotent
//!   requests (RFC 9110 §9.2.2) with a short body;
//! - a credential that the upstream refuses and that is renewed, or answers the upstream's challenge, once, or that is
//!   too new to be known everywhere: safe requests, or all where the service accepts repeated ones.
//!
//! Each further attempt passes all stages of [`super::run`] again. The agent sees the last answer only. `upstream`
//! takes another stream for a request that no upstream has processed: that is the same attempt.
//!
//! [`send`] is one attempt. [`rejected_credential`] detects answers by which an upstream refuses a credential: 401, its gRPC
//! equivalent, and what the provider's file says.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::guard::ExchangeGuard;
use crate::authorize::connection_limits::Admitted;
use crate::body::ReceiveError;
use crate::body::replay::BodyCopy;
use crate::gateway::{Core, Gateway};
use crate::record::Record;
use crate::refusal::{Refusal, RefusalFormat};
use crate::request::inbound::Inbound;
use crate::upstream::outbound::Outbound;
use crate::upstream::retries::Retries;
use crate::upstream::sent::SentRequest;
use keyward_rules::inject::credential::{Credential, RenewalConditions};

/// The attempts of an exchange that may be sent again.
pub struct Attempts {
    cause: AttemptCause,
    renewal: Renewal,
    /// What an attempt after a refusal of the credential would send.
    copy: Option<RequestCopy>,
    /// How often the request waited, because its token was too new.
    waits: u32,
    /// The retries that the settings allow with the present credential.
    retries: Option<Arc<Retries>>,
    /// What a retry of the current attempt would send.
    retry_copy: Option<RequestCopy>,
}

/// What the exchange does next.
pub enum NextStep {
    /// Passes this answer on.
    Answer(SentRequest),
    /// Sends this request again.
    Again(Box<Inbound>),
}

/// Why the current attempt is made.
enum AttemptCause {
    First,
    Retry,
    Renewal,
}

/// Whether a refused credential is renewed.
enum Renewal {
    Never,
    /// Once.
    Possible,
    /// It was, because this credential was refused.
    Done(Arc<Credential>),
}

/// A copy of a request, for sending it again once the sent one has been dropped.
struct RequestCopy {
    head: Box<Inbound>,
    body: BodyCopy,
}

impl Attempts {
    /// Prepares an attempt: keeps a copy of the request where it may be sent again. `None` when the exchange is sent
    /// only once.
    pub fn prepare(
        attempts: Option<Box<Self>>,
        core: &Core,
        admitted: &mut Admitted,
        exchange: &mut ExchangeGuard,
    ) -> Option<Box<Self>> {
        let mut attempts = match attempts {
            None => Self::begin(&core.gateway, admitted, exchange)?,
            Some(attempts) => attempts,
        };
        if let AttemptCause::Renewal = attempts.cause {
            core.gateway.metrics.renewed.inc();
            attempts.retries = begin_retries(&core.gateway, admitted, exchange);
            attempts.copy_again(&core.gateway, admitted);
        }
        if attempts.retries.is_some() {
            attempts.retry_copy = RequestCopy::for_retry(core, admitted);
        }
        Some(attempts)
    }

    fn begin(
        gateway: &Gateway,
        admitted: &mut Admitted,
        exchange: &mut ExchangeGuard,
    ) -> Option<Box<Self>> {
        let renews = admitted.permitted().credential().and_then(|credential| credential.renews);
        let retries = begin_retries(gateway, admitted, exchange);
        let (renewal, copy) = match renews {
            None if retries.is_none() => return None,
            None => (Renewal::Never, None),
            Some(renews) => {
                (Renewal::Possible, RequestCopy::for_renewal(gateway, admitted, renews))
            }
        };
        let (cause, retry_copy) = (AttemptCause::First, None);
        Some(Box::new(Self { cause, renewal, copy, waits: 0, retries, retry_copy }))
    }

    /// Copies a request that is sent again: before the renewal, and after it while the token is new.
    fn copy_again(&mut self, gateway: &Gateway, admitted: &mut Admitted) {
        let Some(credential) = admitted.permitted().credential() else { return };
        let is_sent_again = matches!(self.renewal, Renewal::Possible)
            || gateway.vault.refresh().wait_while_new(credential, self.waits).is_some();
        if let Some(renews) = credential.renews.filter(|_| is_sent_again) {
            self.copy = RequestCopy::for_renewal(gateway, admitted, renews);
        }
    }

    /// The retries that this attempt is one of.
    pub fn retries(&self) -> Option<&Arc<Retries>> {
        self.retries.as_ref()
    }

    /// Decides after an attempt whether the request is sent again, and waits until it may be.
    ///
    /// # Errors
    /// When there is no answer, or only the owner can renew the connection.
    pub async fn after(
        &mut self,
        gateway: &Gateway,
        result: Result<SentRequest, Refusal>,
        format: RefusalFormat,
    ) -> Result<NextStep, Refusal> {
        if let Some((again, wait)) = self.retry(gateway, &result) {
            if let Ok(sent) = result {
                sent.discard().await;
            }
            tokio::time::sleep(wait).await;
            self.cause = AttemptCause::Retry;
            return Ok(NextStep::Again(again));
        }
        let sent = result?;
        if let Renewal::Never = self.renewal {
            return Ok(NextStep::Answer(sent));
        }
        match rejected_credential(gateway, sent, format).await {
            (sent, None) => Ok(NextStep::Answer(sent)),
            (sent, Some(refused)) => self.renew(gateway, sent, refused).await,
        }
    }

    /// The request to retry and the wait before it, if another attempt may succeed and is allowed.
    fn retry(
        &mut self,
        gateway: &Gateway,
        result: &Result<SentRequest, Refusal>,
    ) -> Option<(Box<Inbound>, Duration)> {
        let (copy, retries) = (self.retry_copy.take()?, self.retries.as_ref()?);
        let may_succeed = match result {
            Ok(sent) => retries.applies_to(sent.status().as_u16()),
            Err(refusal) => is_lost_stream(refusal),
        };
        if !may_succeed {
            return None;
        }
        let again = copy.into_request()?;
        let now = gateway.clock.now();
        let asked = result.as_ref().ok().and_then(|sent| sent.requested_wait(now));
        let wait = retries.next_wait(gateway, asked)?;
        Some((again, wait))
    }

    /// Renews the refused credential, if the request can be sent again. A token that was issued a moment ago is sent again
    /// first: another one would be as new.
    async fn renew(
        &mut self,
        gateway: &Gateway,
        mut sent: SentRequest,
        refused: Arc<Credential>,
    ) -> Result<NextStep, Refusal> {
        let challenge = sent.learn_challenge();
        if challenge == Some(false) {
            return Ok(NextStep::Answer(sent));
        }
        let wait = match challenge {
            None => gateway.vault.refresh().wait_while_new(&refused, self.waits),
            Some(_) => None,
        };
        if let (Renewal::Done(stale), None) = (&self.renewal, wait) {
            if refused.generation > stale.generation {
                gateway.vault.refresh().rejected_again(&refused);
            }
            return Ok(NextStep::Answer(sent));
        }
        let copy = self.copy.take();
        let Some(copy) = copy.filter(|copy| copy.body.is_complete()) else {
            if challenge.is_none() && wait.is_none() {
                gateway.vault.refresh().renew_later(&refused);
            }
            return Ok(NextStep::Answer(sent));
        };
        if copy.body.is_being_sent() {
            // The agent gets this answer if the credential is not renewed. Its stream may end before.
            (sent, _) = sent.peek_body().await;
        }
        // The same credential answers the challenge.
        if challenge.is_none() && wait.is_none() {
            match gateway.vault.refresh().renew(&refused).await {
                Ok(Some(_)) => {}
                Err(error) if error.needs_a_person() => return Err(error.into()),
                Ok(None) | Err(_) => return Ok(NextStep::Answer(sent)),
            }
        }
        let Some(mut again) = copy.take_back(&mut sent).await else {
            return Ok(NextStep::Answer(sent));
        };
        again.put_upgrade(sent.take_upgrade());
        sent.discard().await;
        self.cause = AttemptCause::Renewal;
        match wait {
            Some(wait) => {
                self.waits += 1;
                tokio::time::sleep(wait).await;
            }
            None => self.renewal = Renewal::Done(refused),
        }
        Ok(NextStep::Again(again))
    }
}

impl RequestCopy {
    /// Copies the request if it may be retried.
    fn for_retry(core: &Core, admitted: &mut Admitted) -> Option<Self> {
        let head = Box::new(admitted.permitted().inbound().copy()?);
        Some(Self { head, body: BodyCopy::of(admitted.body_mut(), &core.replays) })
    }

    /// Copies the request if the service accepts it repeated.
    fn for_renewal(
        gateway: &Gateway,
        admitted: &mut Admitted,
        renews: RenewalConditions,
    ) -> Option<Self> {
        let inbound = admitted.permitted().inbound();
        if !renews.unsafe_too && !inbound.is_safe() {
            return None;
        }
        let head = Box::new(inbound.copy_of_head());
        let bytes_max = gateway.vault.token_settings().replay_bytes_max;
        let body = BodyCopy::up_to(bytes_max, admitted.body_mut(), &gateway.renewal_bodies);
        Some(Self { head, body })
    }

    /// The request to send again. The rest of a body that is still being sent is taken back from its upstream, which has
    /// refused the request. `None` when the body was too long to keep; its upload and the answer go on then.
    async fn take_back(self, sent: &mut SentRequest) -> Option<Box<Inbound>> {
        if self.body.is_being_sent() && self.body.is_complete() {
            sent.end_upload().await;
        }
        self.into_request()
    }

    /// The request to send again; `None` while its body is still being sent, or when the body was too long to keep.
    fn into_request(self) -> Option<Box<Inbound>> {
        let mut whole = self.head;
        whole.body = self.body.into_body()?;
        Some(whole)
    }
}

/// The retries that the settings of the permit's connection allow. The record counts them.
fn begin_retries(
    gateway: &Gateway,
    admitted: &Admitted,
    exchange: &mut ExchangeGuard,
) -> Option<Arc<Retries>> {
    let permit = admitted.permitted().permit();
    let retries = Retries::begin(gateway, permit, exchange.admission.meter())?;
    exchange.record.follow_attempts(retries.counter());
    Some(retries)
}

/// Whether the upstream ended its stream before it answered.
fn is_lost_stream(refusal: &Refusal) -> bool {
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

/// Sends one attempt. The test of a connection uses it too, so every request is sent in the same way.
///
/// # Errors
/// When there is no answer.
pub async fn send(
    core: &Arc<Core>,
    admitted: Admitted,
    retries: Option<&Arc<Retries>>,
    record: &mut Record,
) -> Result<SentRequest, Refusal> {
    let admitted = begin_attempt(admitted, retries, record);
    let outbound = Outbound::prepare(&core.gateway, admitted, retries).await?;
    let sent = outbound.send(core).await;
    if let Some(trace) = record.trace() {
        trace.end_attempt(sent.as_ref().ok().map(|sent| sent.status().as_u16()));
    }
    let sent = sent?;
    record.set_answer(sent.status(), sent.stated_limit(&core.gateway.clock));
    Ok(sent)
}

/// Records that the attempt begins. A function, because the future of [`send`] has room for whatever it borrows.
fn begin_attempt(
    mut admitted: Admitted,
    retries: Option<&Arc<Retries>>,
    record: &mut Record,
) -> Admitted {
    record.set_credential(admitted.permitted().credential().map(|credential| &**credential));
    match retries {
        None => record.count_attempt(),
        Some(retries) => retries.count(),
    }
    if let Some(trace) = record.trace() {
        admitted.set_trace(&trace.begin_attempt());
    }
    admitted
}

/// UNAUTHENTICATED, <https://grpc.io/docs/guides/status-codes/>: the gRPC status for 401.
const UNAUTHENTICATED: &[u8] = b"16";

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The answer, and the credential if the answer refuses it.
pub async fn rejected_credential(
    gateway: &Gateway,
    sent: SentRequest,
    format: RefusalFormat,
) -> (SentRequest, Option<Arc<Credential>>) {
    let Some(credential) = sent.credential().cloned() else { return (sent, None) };
    let may_ask = matches!(sent.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if may_ask && gateway.vault.refresh().note_challenge(&credential, sent.headers()) {
        // Another token would lack it too.
        return (sent, None);
    }
    if is_rejection(&sent, format) {
        return (sent, Some(credential));
    }
    let status = sent.status().as_u16();
    let may_mean_it = credential.renews.is_some_and(|it| it.expired_status == Some(status));
    if !may_mean_it || !is_json(sent.headers()) {
        return (sent, None);
    }
    let (sent, beginning) = sent.peek_body().await;
    let whole =
        beginning.filter(|body| gateway.vault.refresh().means_expired(&credential, status, body));
    (sent, whole.map(|_| credential))
}

/// Whether the head of the answer refuses the credential.
pub fn is_rejection(sent: &SentRequest, format: RefusalFormat) -> bool {
    sent.status() == StatusCode::UNAUTHORIZED || is_unauthenticated(sent.headers(), format)
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
