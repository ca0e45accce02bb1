//! [`Sessions`]: tokens of logins at sources, in memory until they expire. Each source has one login at a time; values
//! are read concurrently.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::error::SourceError;
use keyward_base::id::SourceId;
use keyward_base::secret::Secret;
use keyward_base::time::{Clock, Moment};
use keyward_model::{Record, Source};

/// A session is not used in the last tenth of its lifetime, so that it does not expire during a request.
const UNUSED_PART: u32 = 10;

/// A new login does not help if the credentials may not read the value. If a value was refused right after a login, the
/// next refusal causes another login only after this time, which doubles while refusals continue. The number of logins
/// may be limited, as by `secret_id_num_uses` of Vault.
const LOGIN_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// The longest such time: a revoked token is replaced after this time at the latest.
const LOGIN_AGAIN_AFTER_MAX: Duration = Duration::from_secs(900);

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<SourceId, Arc<Slot>>>);

/// Locked for logins, and not while a value is read.
type Slot = tokio::sync::Mutex<Option<Arc<SourceSession>>>;

/// A login that is used again.
#[derive(Debug)]
struct SourceSession {
    login: SourceLogin,
    /// The version of the source at the login.
    of: Option<Timestamp>,
    since: Moment,
    /// Whether a value was refused right after the login.
    refused_at_once: AtomicBool,
    /// The time from the login to the next one, if a value was refused at once.
    login_again_after: Duration,
}

/// The result of a login.
#[derive(Debug)]
pub(super) struct SourceLogin {
    pub(super) token: Secret,
    /// Decrypts the values of a source that encrypts them.
    pub(super) key: Option<Secret>,
    /// How long the token is valid; zero: until it is refused.
    pub(super) seconds: u64,
}

/// A value that is read after a login.
pub(super) trait Protected: Sync {
    /// The answer of the source.
    type Answer: Send;

    fn log_in(&self) -> impl Future<Output = Result<SourceLogin, SourceError>> + Send;

    /// Reads the value with the result of a login.
    fn read(
        &self,
        login: &SourceLogin,
    ) -> impl Future<Output = Result<Self::Answer, SourceError>> + Send;
}

/// The session of one source.
pub(super) struct LoginSlot<'a> {
    slot: Arc<Slot>,
    version: Option<Timestamp>,
    clock: &'a Clock,
}

impl Sessions {
    pub(super) fn of<'a>(&self, source: &Record<Source>, clock: &'a Clock) -> LoginSlot<'a> {
        let slot = self.0.lock().entry(source.id.clone()).or_default().clone();
        LoginSlot { slot, version: source.updated, clock }
    }

    pub(super) fn forget(&self, id: &SourceId) {
        self.0.lock().remove(id);
    }
}

impl LoginSlot<'_> {
    /// Reads with the login of the session; logs in first if there is none. A login that is refused, or whose key is
    /// outdated, is replaced once, unless a new login did not help a moment ago.
    pub(super) async fn read<T: Protected>(&self, value: &T) -> Result<T::Answer, SourceError> {
        let current = self.slot.lock().await.clone();
        let mut refused = None;
        if let Some(session) = current.filter(|it| it.is_usable(self.version, self.clock)) {
            match value.read(&session.login).await {
                Err(error) if error.needs_login() && session.may_be_replaced(self.clock) => {
                    refused = Some(session);
                }
                other => return other,
            }
        }
        let session = self.renewed(refused.as_ref(), value).await?;
        let answer = value.read(&session.login).await;
        if answer.as_ref().is_err_and(SourceError::needs_login) {
            session.refused_at_once.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// A session that replaces the refused one: one that another caller created meanwhile, or a new one.
    async fn renewed<T: Protected>(
        &self,
        refused: Option<&Arc<SourceSession>>,
        value: &T,
    ) -> Result<Arc<SourceSession>, SourceError> {
        let mut slot = self.slot.lock().await;
        if let Some(session) = slot.as_ref()
            && session.is_usable(self.version, self.clock)
            && refused.is_none_or(|refused| !Arc::ptr_eq(refused, session))
        {
            return Ok(session.clone());
        }
        let login = value.log_in().await?;
        let login_again_after = match slot.as_ref() {
            Some(before) if before.of == self.version && before.was_refused_at_once() => {
                (before.login_again_after * 2).min(LOGIN_AGAIN_AFTER_MAX)
            }
            _ => LOGIN_AGAIN_AFTER,
        };
        let session = Arc::new(SourceSession {
            login,
            of: self.version,
            since: self.clock.moment(),
            refused_at_once: AtomicBool::new(false),
            login_again_after,
        });
        *slot = Some(session.clone());
        Ok(session)
    }
}

impl SourceSession {
    fn is_usable(&self, version: Option<Timestamp>, clock: &Clock) -> bool {
        let life = Duration::from_secs(self.login.seconds);
        self.of == version && (life.is_zero() || self.age(clock) < life - life / UNUSED_PART)
    }

    /// Whether a refusal may lead to another login.
    fn may_be_replaced(&self, clock: &Clock) -> bool {
        !self.was_refused_at_once() || self.age(clock) >= self.login_again_after
    }

    fn was_refused_at_once(&self) -> bool {
        self.refused_at_once.load(Ordering::Relaxed)
    }

    fn age(&self, clock: &Clock) -> Duration {
        clock.moment().since(&self.since)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize};

    use http::StatusCode;

    use super::*;

    /// A source with a clock that the test sets.
    struct FakeSource {
        logins: AtomicUsize,
        ms: Arc<AtomicI64>,
        clock: Clock,
        slot: Arc<Slot>,
    }

    #[derive(Clone, Copy)]
    enum Conduct {
        Given,
        /// The credentials may not read it.
        Refused,
        /// Only the login of this number may read it.
        GivenTo(usize),
        Unanswered,
    }

    struct FakeValue<'a> {
        source: &'a FakeSource,
        conduct: Conduct,
    }

    impl FakeSource {
        fn new() -> Self {
            let ms = Arc::new(AtomicI64::new(0));
            let clock = Clock::Fixed(ms.clone());
            Self { logins: AtomicUsize::new(0), ms, clock, slot: Arc::default() }
        }

        async fn read(&self, conduct: Conduct) -> Result<(), SourceError> {
            let slot = LoginSlot { slot: self.slot.clone(), version: None, clock: &self.clock };
            slot.read(&FakeValue { source: self, conduct }).await
        }

        fn advance(&self, seconds: i64) {
            self.ms.fetch_add(seconds * 1_000, Ordering::SeqCst);
        }

        fn logins(&self) -> usize {
            self.logins.load(Ordering::SeqCst)
        }
    }

    impl Protected for FakeValue<'_> {
        type Answer = ();

        async fn log_in(&self) -> Result<SourceLogin, SourceError> {
            let number = self.source.logins.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(SourceLogin { token: Secret::from(number.to_string()), key: None, seconds: 0 })
        }

        async fn read(&self, login: &SourceLogin) -> Result<(), SourceError> {
            let is_given = match self.conduct {
                Conduct::Given => true,
                Conduct::Refused => false,
                Conduct::GivenTo(number) => {
                    login.token.expose_text() == Some(number.to_string().as_str())
                }
                Conduct::Unanswered => std::future::pending().await,
            };
            match is_given {
                true => Ok(()),
                false => Err(SourceError::Status { status: StatusCode::FORBIDDEN, detail: None }),
            }
        }
    }

    #[tokio::test]
    async fn a_value_that_no_login_may_read_makes_few_logins() {
        let source = FakeSource::new();
        source.read(Conduct::Given).await.unwrap();
        for _ in 0..5 {
            source.read(Conduct::Refused).await.unwrap_err();
            source.read(Conduct::Given).await.unwrap();
            source.advance(10);
        }
        assert_eq!(source.logins(), 2, "one after the first refusal");
        for _ in 0..24 * 120 {
            source.advance(30);
            source.read(Conduct::Refused).await.unwrap_err();
        }
        assert!(source.logins() < 110, "{} within a day", source.logins());
    }

    #[tokio::test]
    async fn a_login_that_ended_early_is_replaced_also_after_a_value_was_refused() {
        let source = FakeSource::new();
        source.read(Conduct::GivenTo(1)).await.unwrap();
        source.read(Conduct::GivenTo(2)).await.unwrap();
        source.read(Conduct::Refused).await.unwrap_err();
        assert_eq!(source.logins(), 3);
        source.advance(59);
        source.read(Conduct::GivenTo(4)).await.unwrap_err();
        source.advance(1);
        source.read(Conduct::GivenTo(4)).await.unwrap();
        assert_eq!(source.logins(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_without_an_answer_does_not_delay_the_others() {
        let source = FakeSource::new();
        let others = async {
            tokio::select! {
                biased;
                _ = source.read(Conduct::Unanswered) => unreachable!("it has no answer"),
                read = source.read(Conduct::Given) => read,
            }
        };
        let read = tokio::time::timeout(Duration::from_secs(60), others).await;
        read.expect("it does not wait").unwrap();
        assert_eq!(source.logins(), 1);
    }
}
