//! [`Watchdog`] records the activity of an agent's stream and detects timeouts. Reads, writes and exchanges store a
//! phase and a time in atomics; one timer for each stream checks them, so no timer is set per read or request. It also
//! has the interim answers of the exchange, because both sides of the exchange know it.
//!
//! [`InterimAnswers`]: interim (1xx) answers on their way to an agent (RFC 9110 §15.2). The task of the upstream's stream adds
//! them; the server of the agent's stream sends them before the final answer.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::BytesMut;
use http::Response;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use keyward_base::limits::Limits;

/// Phases. `phase` stores one of them and its begin.
const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;
const OPEN: u64 = 3;

/// The activity of one stream: a phase, its begin, and whether bytes moved lately.
#[derive(Debug)]
pub struct Watchdog {
    base: Instant,
    /// Milliseconds since `base`, times four, plus the phase.
    phase: AtomicU64,
    moved: AtomicBool,
    /// How long the exchange may be silent, if longer than `body_idle_timeout`; in milliseconds.
    silence_ms: AtomicU64,
    /// Set when the gateway ends the stream.
    cut: AtomicBool,
    /// Of the running exchange.
    pub interim: InterimAnswers,
}

/// The timeout that has expired.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Overdue {
    /// A head took longer than `head_timeout`.
    Head,
    /// No request came within `idle_timeout`.
    Idle,
    /// No byte moved within `body_idle_timeout`.
    Body,
}

impl Watchdog {
    /// A stream that must send a request head.
    pub fn awaiting_head() -> Self {
        Self::new(HEAD)
    }

    /// A stream that may be idle for `idle_timeout`.
    pub fn idle() -> Self {
        Self::new(IDLE)
    }

    fn new(phase: u64) -> Self {
        Self {
            base: Instant::now(),
            phase: AtomicU64::new(phase),
            moved: AtomicBool::new(false),
            silence_ms: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            interim: InterimAnswers::default(),
        }
    }

    fn enter(&self, phase: u64) {
        let ms = u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.phase.store((ms << 2) | phase, Relaxed);
    }

    /// Marks the stream as multiplexed, without exchanges so far: received bytes do not begin a head.
    pub fn multiplex(&self) {
        self.enter(OPEN);
    }

    /// Sets whether a multiplexed stream carries exchanges.
    pub fn set_busy(&self, some: bool) {
        self.enter(if some { BUSY } else { OPEN });
    }

    /// Whether bytes have moved since the last call.
    pub fn has_moved(&self) -> bool {
        self.moved.swap(false, Relaxed)
    }

    /// Bytes were received from the agent.
    pub fn on_read(&self) {
        self.moved.store(true, Relaxed);
        if self.phase.load(Relaxed) & 3 == IDLE {
            self.enter(HEAD);
        }
    }

    /// Bytes were sent to the agent.
    pub fn on_write(&self) {
        self.moved.store(true, Relaxed);
    }

    pub fn begin_exchange(&self) {
        self.enter(BUSY);
    }

    pub fn end_exchange(&self) {
        self.allow_silence(Duration::ZERO);
        self.enter(IDLE);
    }

    /// Sets how long the running exchange may be silent, if longer than `body_idle_timeout`.
    pub fn allow_silence(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.silence_ms.store(ms, Relaxed);
    }

    /// How long the running exchange may be silent.
    pub fn silence_max(&self, body_idle: Duration) -> Duration {
        body_idle.max(Duration::from_millis(self.silence_ms.load(Relaxed)))
    }

    /// Whether an exchange is running.
    pub fn is_busy(&self) -> bool {
        self.phase.load(Relaxed) & 3 == BUSY
    }

    /// Whether the stream has been idle for at least `time`.
    pub fn is_idle_for(&self, time: Duration) -> bool {
        let word = self.phase.load(Relaxed);
        let since = self.base + Duration::from_millis(word >> 2);
        word & 3 == IDLE && since.elapsed() >= time
    }

    /// Marks that the gateway ends the stream.
    pub fn cut(&self) {
        self.cut.store(true, Relaxed);
    }

    /// Whether the gateway ended the stream.
    pub fn was_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    /// Resolves when a timeout has expired, late by at most the shortest of the three.
    pub async fn overdue(&self, limits: &Limits) -> Overdue {
        // A phase that begins during a sleep may end earlier than the one before it.
        let longest_sleep =
            limits.head_timeout.min(limits.idle_timeout).min(limits.body_idle_timeout);
        let mut quiet_since = Instant::now();
        loop {
            let now = Instant::now();
            if self.moved.swap(false, Relaxed) {
                quiet_since = now;
            }
            let word = self.phase.load(Relaxed);
            let since = self.base + Duration::from_millis(word >> 2);
            let (since, limit, overdue) = match word & 3 {
                HEAD => (since, limits.head_timeout, Overdue::Head),
                BUSY => {
                    let limit = self.silence_max(limits.body_idle_timeout);
                    (quiet_since.max(since), limit, Overdue::Body)
                }
                _ => (since, limits.idle_timeout, Overdue::Idle),
            };
            let left = (since + limit).saturating_duration_since(now);
            if left.is_zero() {
                return overdue;
            }
            tokio::time::sleep(left.min(longest_sleep)).await;
        }
    }
}

/// The interim answers of one exchange that were not sent yet.
#[derive(Debug, Default)]
pub struct InterimAnswers {
    waiting: Mutex<Vec<Response<()>>>,
    /// Whether some are waiting, or being written. Most exchanges have none.
    pending: AtomicBool,
    sent: Notify,
}

impl InterimAnswers {
    pub fn add(&self, answer: Response<()>) {
        self.waiting.lock().push(answer);
        self.pending.store(true, SeqCst);
    }

    pub fn is_pending(&self) -> bool {
        self.pending.load(SeqCst)
    }

    /// Those to send now, in order.
    pub fn take(&self) -> Vec<Response<()>> {
        std::mem::take(&mut self.waiting.lock())
    }

    /// All that [`InterimAnswers::take`] has returned were sent.
    pub fn were_sent(&self) {
        let waiting = self.waiting.lock();
        if waiting.is_empty() {
            self.pending.store(false, SeqCst);
            self.sent.notify_one();
        }
    }

    /// Resolves when none is waiting or being written.
    pub async fn all_sent(&self) {
        while self.is_pending() {
            self.sent.notified().await;
        }
    }
}

/// Appends the head of an interim answer in HTTP/1.1.
pub fn write_head(answer: &Response<()>, out: &mut BytesMut) {
    out.extend_from_slice(format!("HTTP/1.1 {}\r\n", answer.status()).as_bytes());
    for (name, value) in answer.headers() {
        out.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let seconds = Duration::from_secs;
        Limits {
            head_timeout: seconds(30),
            idle_timeout: seconds(300),
            body_idle_timeout: seconds(900),
            ..Limits::default()
        }
    }

    async fn ends_after(watchdog: &Watchdog) -> (Overdue, u64) {
        let begun = Instant::now();
        let overdue = watchdog.overdue(&limits()).await;
        (overdue, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn slow_bytes_do_not_extend_the_head_timeout() {
        let watchdog = Watchdog::awaiting_head();
        let drip = async {
            for _ in 0..60 {
                tokio::time::advance(Duration::from_secs(1)).await;
                watchdog.on_read();
            }
        };
        tokio::select! {
            (overdue, seconds) = ends_after(&watchdog) => {
                assert_eq!(overdue, Overdue::Head);
                // The drip may be some seconds ahead.
                assert!((29..=32).contains(&seconds), "{seconds}");
            }
            () = drip => panic!("the bytes extend the head timeout"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_stream_ends_at_its_limit_and_not_before() {
        assert_eq!(ends_after(&Watchdog::idle()).await, (Overdue::Idle, 300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_limit_holds_although_its_phase_began_between_two_checks() {
        let limits = Limits { idle_timeout: Duration::from_secs(2), ..limits() };
        let (watchdog, begun) = (Watchdog::awaiting_head(), Instant::now());
        let becomes_idle = async {
            tokio::time::advance(Duration::from_secs(1)).await;
            watchdog.end_exchange();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = watchdog.overdue(&limits) => assert_eq!(ended, Overdue::Idle),
            () = becomes_idle => {}
        }
        assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_without_traffic_ends_after_the_body_idle_timeout() {
        let watchdog = Watchdog::idle();
        watchdog.begin_exchange();
        assert_eq!(ends_after(&watchdog).await, (Overdue::Body, 900));
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_that_may_be_silent_for_longer_has_that_time_and_the_next_one_has_not() {
        let watchdog = Watchdog::idle();
        watchdog.begin_exchange();
        watchdog.allow_silence(Duration::from_secs(1_800));
        assert_eq!(ends_after(&watchdog).await, (Overdue::Body, 1_800));
        watchdog.end_exchange();
        watchdog.begin_exchange();
        assert_eq!(ends_after(&watchdog).await, (Overdue::Body, 900));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ended_exchange_makes_the_stream_idle_again() {
        let watchdog = Watchdog::awaiting_head();
        watchdog.begin_exchange();
        watchdog.end_exchange();
        assert_eq!(ends_after(&watchdog).await.0, Overdue::Idle);
    }
}
