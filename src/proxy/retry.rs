//! Further attempts, where the connection's settings want them: after a failure to connect, for every
//! request; after an answer that says "later" or none at all, for one that is idempotent
//! (RFC 9110 §9.2.2) and whose body, if it has one, is short. Each is decided anew: what was revoked
//! meanwhile is not sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderMap, header};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use tokio::time::Instant;

use super::admit::Admitted;
use super::answer::Sent;
use super::arriving::Cut;
use super::asker::Asker;
use super::error::Refusal;
use super::inbound::Inbound;
use super::meter::Meter;
use super::record::Record;
use super::replay::Kept;
use super::{Core, Gateway, exchange, permitted};
use crate::base::settings::{Retry, Settings};
use crate::base::time;
use crate::inject::credential::Credential;
use crate::net::client::HandshakeError;
use crate::net::dial::DialError;
use crate::policy::Permit;

/// The wait before the second attempt, about; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// No wait of our own is longer.
const OWN_WAIT_MAX: Duration = Duration::from_secs(10);

/// An answer that is not passed on is read so far and so long, so that its stream can be used again.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;
const DISCARDED_WITHIN: Duration = Duration::from_secs(1);

/// The attempts of one exchange.
#[derive(Debug)]
pub struct Tries {
    settings: Arc<Settings>,
    retry: Retry,
    meter: Arc<Meter>,
    /// When the head of an answer must be there.
    deadline: Instant,
    made: AtomicU32,
}

/// A request that may be sent again, when what was sent of it has been dropped.
struct Spare {
    copy: Box<Inbound>,
    kept: Kept,
}

/// Sends a request as often as its connection's settings want; once, where they want nothing.
///
/// # Errors
/// When there is no answer, or the exchange is not permitted any more.
pub async fn send(
    core: &Arc<Core>,
    asker: Asker<'_>,
    inbound: Box<Inbound>,
    Admitted { permitted, meter }: Admitted,
    record: &mut Record,
) -> Result<Sent, Refusal> {
    match Tries::begin(&core.gateway, &permitted.0, meter) {
        None => exchange::send(core, inbound, permitted, None, record).await,
        // On the heap: each stream of an agent keeps room for the largest of its exchanges.
        Some(tries) => Box::pin(several((core, asker), inbound, permitted, &tries, record)).await,
    }
}

async fn several(
    (core, asker): (&Arc<Core>, Asker<'_>),
    mut inbound: Box<Inbound>,
    mut permitted: (Permit, Option<Arc<Credential>>),
    tries: &Arc<Tries>,
    record: &mut Record,
) -> Result<Sent, Refusal> {
    let gw = &core.gateway;
    loop {
        let spare = Spare::of(core, &mut inbound);
        let result = exchange::send(core, inbound, permitted, Some(tries), record).await;
        let Some(spare) = spare.filter(|_| tries.is_worth_another(&result)) else { return result };
        let again = spare.whole().and_then(|spare| Some((spare, tries.after(gw, &result)?)));
        let Some((spare, wait)) = again else { return result };
        if let Ok(sent) = result {
            discard(sent).await;
        }
        tokio::time::sleep(wait).await;
        asker.still_holds(gw)?;
        permitted = permitted::decide(gw, asker, &spare, record).await?;
        inbound = spare;
    }
}

/// Dials as often as the settings want: no byte of the request is sent before.
///
/// # Errors
/// Of the last attempt.
pub async fn dialled<T, F>(
    gateway: &Gateway,
    tries: Option<&Tries>,
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
        let tries = tries.filter(|_| is_unreachable(&refusal));
        let another = tries.and_then(|tries| Some((tries, tries.another(gateway, None)?)));
        let Some((tries, wait)) = another else { return Err(refusal) };
        tokio::time::sleep(wait).await;
        tries.count();
    }
}

impl Spare {
    fn of(core: &Core, inbound: &mut Inbound) -> Option<Self> {
        let copy = inbound.copy()?;
        Some(Self { copy: Box::new(copy), kept: Kept::of(&mut inbound.body, &core.replays) })
    }

    /// The request once more; `None` while its body is still on its way, or when it was too long to keep.
    fn whole(self) -> Option<Box<Inbound>> {
        let mut whole = self.copy;
        whole.body = self.kept.again()?;
        Some(whole)
    }
}

impl Tries {
    fn begin(gateway: &Gateway, permit: &Permit, meter: Option<Arc<Meter>>) -> Option<Arc<Self>> {
        let settings = permit.settings()?;
        let (retry, meter) = (settings.retry.clone()?, meter?);
        let within = settings.timeout.map_or(gateway.limits.answer_timeout, |wait| wait.duration());
        Some(Arc::new(Self {
            settings: settings.clone(),
            retry,
            meter,
            deadline: Instant::now() + within,
            made: AtomicU32::new(0),
        }))
    }

    /// One more begins.
    pub fn count(&self) {
        self.made.fetch_add(1, Relaxed);
    }

    /// How many there were.
    pub fn made(&self) -> u32 {
        self.made.load(Relaxed)
    }

    /// What is left of the time for all of them.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether the next one may end otherwise.
    fn is_worth_another(&self, result: &Result<Sent, Refusal>) -> bool {
        match result {
            Ok(sent) => self.retry.is_on(sent.status().as_u16()),
            Err(refusal) => hung_up(refusal),
        }
    }

    /// How long to wait before the next one; `None` when there is none.
    fn after(&self, gateway: &Gateway, result: &Result<Sent, Refusal>) -> Option<Duration> {
        let fields = result.as_ref().ok().map(Sent::headers);
        self.another(gateway, fields.and_then(|it| retry_after(it, gateway.clock.now())))
    }

    /// The same, after a wait that the upstream asked for.
    fn another(&self, gateway: &Gateway, asked: Option<Duration>) -> Option<Duration> {
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

/// How long to wait after so many attempts: what was asked for, or twice as long each time; with a part
/// that is drawn (`random` of 2^32), so that those who failed together do not come back together.
/// `None` when more is asked for than `max`.
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

/// Without a source of randomness all wait the longest.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

/// `Retry-After`, where there is one.
fn retry_after(fields: &HeaderMap, now: Timestamp) -> Option<Duration> {
    time::retry_after(fields.get(header::RETRY_AFTER)?.to_str().ok()?, now)
}

/// No byte of the request was sent, and the next attempt may find what this one did not.
fn is_unreachable(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Dial(error) => !matches!(error, DialError::Refused { .. }),
        Refusal::Tls(HandshakeError::Certificate { .. }) => false,
        Refusal::Tls(error) => !error.is_of_protocol(),
        _ => false,
    }
}

/// The upstream ended its stream before it answered.
fn hung_up(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Protocol { source: Some(Cut::Http1(error)), .. } => {
            !error.is_parse() && !error.is_user()
        }
        Refusal::Protocol { source: Some(Cut::Http2(error)), .. } => {
            error.is_io() || error.is_go_away()
        }
        _ => false,
    }
}

/// Reads what is left of an answer, if that is little.
pub async fn discard(sent: Sent) {
    let (response, lease) = sent.into_parts();
    let all = Limited::new(response.into_body(), DISCARDED_BYTES_MAX).collect();
    if let Ok(Ok(_)) = tokio::time::timeout(DISCARDED_WITHIN, all).await {
        lease.finish();
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn more_than_the_longest_wait_is_not_waited_for() {
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

    #[test]
    fn seconds_and_dates_are_read_and_nothing_else() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        let read = |text: &'static str| {
            let mut fields = HeaderMap::new();
            fields.insert(header::RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&fields, now)
        };
        for none in ["", "soon", "-1", "1.5", "+1", "1994-11-06", "Sun, 06 Nov", "1 s"] {
            assert_eq!(read(none), None, "{none}");
        }
        for (text, seconds) in [
            ("0", 0),
            (" 120 ", 120),
            ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
            ("Sun, 06 Nov 1994 08:49:07 GMT", 0),
        ] {
            assert_eq!(read(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(read("99999999999999999999999"), Some(Duration::MAX));
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
