//! [`Sessions`]: tokens of logins at sources, in memory until they end. One login at a time for each source.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::error::SourceError;
use keyward_base::id::SourceId;
use keyward_base::secret::Secret;
use keyward_base::time::{Clock, Moment};
use keyward_model::{Record, Source};

/// A session is not used for a last tenth of its time, for requests that are on their way.
const UNUSED_PART: u32 = 10;

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<SourceId, Arc<Slot>>>);

type Slot = tokio::sync::Mutex<Option<SourceSession>>;

/// A login that is used again.
#[derive(Debug)]
struct SourceSession {
    login: SourceLogin,
    /// The version of the source that it was made with.
    of: Option<Timestamp>,
    since: Moment,
}

/// What a login gave.
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

    /// Reads the value with what a login gave.
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
    /// Reads with the session's login, after one if there is none. A login that is refused, or has another key, is replaced
    /// once.
    pub(super) async fn read<T: Protected>(&self, value: &T) -> Result<T::Answer, SourceError> {
        let mut slot = self.slot.lock().await;
        if let Some(session) = slot.as_ref().filter(|it| it.is_usable(self.version, self.clock)) {
            match value.read(&session.login).await {
                Err(error) if error.needs_login() => {}
                other => return other,
            }
        }
        let login = value.log_in().await?;
        let since = self.clock.moment();
        let session = slot.insert(SourceSession { login, of: self.version, since });
        value.read(&session.login).await
    }
}

impl SourceSession {
    fn is_usable(&self, version: Option<Timestamp>, clock: &Clock) -> bool {
        let age = clock.moment().since(&self.since);
        let life = Duration::from_secs(self.login.seconds);
        self.of == version && (life.is_zero() || age < life - life / UNUSED_PART)
    }
}
