//! [`Retries`]: how often one exchange is sent, by the settings of its connection, and how long it waits in between.
//!
//! [`SpareRequest`]: a copy of a request that is being sent, for another stream in case the upstream does not process it. The copy
//! was authorized as the request was, and is not another attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use http::Request;
use tokio::time::Instant;

use crate::body::replay::BodyCopy;
use crate::body::request_body::RequestBody;
use crate::gateway::{Core, Gateway};
use crate::limits::meter::Meter;
use crate::refusal::Refusal;
use keyward_base::settings::{Retry, Settings};
use keyward_net::client::HandshakeError;
use keyward_net::dial::DialError;
use keyward_rules::policy::Permit;

/// The approximate wait before the second attempt. It doubles with each further attempt.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest wait that Keyward chooses itself.
const OWN_WAIT_MAX: Duration = Duration::from_secs(10);

/// The attempts of one exchange.
#[derive(Debug)]
pub struct Retries {
    settings: Arc<Settings>,
    retry: Retry,
    meter: Arc<Meter>,
    /// The time for all attempts together.
    within: Duration,
    /// The deadline for the head of the answer.
    deadline: Instant,
    made: Arc<AtomicU32>,
}

/// Dials, with retries if the settings allow them. No byte of the request is sent before.
///
/// # Errors
/// The error of the last attempt.
pub async fn dial_with_retries<T, F>(
    gateway: &Gateway,
    retries: Option<&Retries>,
    mut dial: impl FnMut() -> F,
) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    loop {
        let refusal = match dial().await {
            Ok(stream) => return Ok(stream),
            Err(refusal) => refusal,
        };
        let retries = retries.filter(|_| is_unreachable(&refusal));
        let next = retries.and_then(|retries| Some((retries, retries.next_wait(gateway, None)?)));
        let Some((retries, wait)) = next else { return Err(refusal) };
        tokio::time::sleep(wait).await;
        retries.count();
    }
}

impl Retries {
    /// The time for all attempts together.
    pub fn within(&self) -> Duration {
        self.within
    }

    /// The attempts that the connection's settings allow. `None` when they allow only one.
    pub fn begin(
        gateway: &Gateway,
        permit: &Permit,
        meter: Option<&Arc<Meter>>,
    ) -> Option<Arc<Self>> {
        let settings = permit.settings()?;
        let (retry, meter) = (settings.retry.clone()?, meter?.clone());
        let within = settings.timeout.map_or(gateway.limits.answer_timeout, |wait| wait.duration());
        Some(Arc::new(Self {
            settings: settings.clone(),
            retry,
            meter,
            within,
            deadline: Instant::now() + within,
            made: Arc::default(),
        }))
    }

    pub fn count(&self) {
        self.made.fetch_add(1, Relaxed);
    }

    /// The counter of attempts.
    pub fn counter(&self) -> Arc<AtomicU32> {
        self.made.clone()
    }

    /// How many there were.
    fn made(&self) -> u32 {
        self.made.load(Relaxed)
    }

    /// The time left for all attempts together.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether the settings ask for another attempt after an answer with this status.
    pub fn applies_to(&self, status: u16) -> bool {
        self.retry.applies_to(status)
    }

    /// The wait before the next attempt. `asked` is the wait that the upstream asked for. `None` when there is no
    /// further attempt.
    pub fn next_wait(&self, gateway: &Gateway, asked: Option<Duration>) -> Option<Duration> {
        if self.made() >= self.retry.attempts() || *gateway.draining.borrow() {
            return None;
        }
        let wait = wait(self.made(), asked, self.retry.wait_max(), random())?;
        if wait >= self.left() || !self.meter.again(&self.settings, Instant::now()) {
            return None;
        }
        gateway.metrics.retried.inc();
        Some(wait)
    }
}

/// The wait after `made` attempts: `asked`, or else a doubled wait. A random part (`random` of 2^32) spreads
/// clients that failed together. `None` when `asked` exceeds `max`.
fn wait(made: u32, asked: Option<Duration>, max: Duration, random: u32) -> Option<Duration> {
    let part = f64::from(random) / f64::from(u32::MAX);
    match asked {
        Some(asked) if asked > max => None,
        Some(asked) => Some(asked + FIRST_WAIT.mul_f64(part)),
        None => {
            let doubled = FIRST_WAIT.saturating_mul(1 << made.saturating_sub(1).min(16));
            Some(doubled.min(OWN_WAIT_MAX).min(max).mul_f64(0.5 + part / 2.0))
        }
    }
}

/// The longest wait when the system gives no random number.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

/// Whether no byte of the request was sent and another dial may succeed.
fn is_unreachable(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Dial(error) => !matches!(error, DialError::Refused { .. }),
        Refusal::Tls(HandshakeError::Certificate { .. }) => false,
        Refusal::Tls(error) => !error.is_of_protocol(),
        _ => false,
    }
}

/// The time to wait until a body that is no longer polled is dropped.
const BODY_DROPPED_WITHIN: Duration = Duration::from_secs(1);

/// A copy of a request, whose body is copied while it is sent.
pub struct SpareRequest {
    head: Request<RequestBody>,
    body: BodyCopy,
}

impl SpareRequest {
    pub fn of(core: &Core, request: &mut Request<RequestBody>) -> Self {
        let mut head = Request::new(RequestBody::empty());
        head.method_mut().clone_from(request.method());
        head.uri_mut().clone_from(request.uri());
        head.headers_mut().clone_from(request.headers());
        head.extensions_mut().clone_from(request.extensions());
        Self { head, body: BodyCopy::of(request.body_mut(), &core.replays) }
    }

    /// The request to send again; `None` when a part of its body was not kept.
    pub async fn into_request(self) -> Option<Box<Request<RequestBody>>> {
        self.body.wait_until_dropped(BODY_DROPPED_WITHIN).await;
        let body = self.body.into_body()?;
        Some(Box::new(self.head.map(|_| body)))
    }

    /// Drops the copy: the request was answered, and the rest of its body need not be kept.
    pub fn discard(self) {
        self.body.discard();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn a_retry_after_above_the_longest_wait_is_not_waited_for() {
        let seconds = Duration::from_secs;
        assert_eq!(wait(1, Some(seconds(31)), MAX, 0), None);
        assert_eq!(wait(1, Some(Duration::MAX), MAX, u32::MAX), None);
        assert_eq!(wait(1, Some(seconds(30)), MAX, 0), Some(seconds(30)));
        assert_eq!(wait(1, None, seconds(1), u32::MAX), Some(FIRST_WAIT));
        assert_eq!(wait(9, None, seconds(1), u32::MAX), Some(seconds(1)), "ours is cut");
    }

    #[test]
    fn waits_double_and_are_drawn_from_their_upper_half() {
        for (made, ms) in [(1, 200), (2, 400), (3, 800), (6, 6_400), (7, 10_000), (99, 10_000)] {
            let most = Duration::from_millis(ms);
            assert_eq!(wait(made, None, MAX, u32::MAX), Some(most), "{made}");
            assert_eq!(wait(made, None, MAX, 0), Some(most / 2), "{made}");
        }
    }
}
