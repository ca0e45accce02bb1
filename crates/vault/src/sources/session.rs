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

/// The sessions by source.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<SourceId, Arc<Slot>>>);

type Slot = tokio::sync::Mutex<Option<Session>>;

/// The token of a login.
#[derive(Debug)]
struct Session {
    token: Secret,
    /// The version of the source that it was made with.
    of: Option<Timestamp>,
    since: Moment,
    /// `None`: until it is refused.
    life: Option<Duration>,
}

/// A token that a login gave.
pub(super) struct Issued {
    pub(super) token: Secret,
    /// How long it is valid; zero: until it is refused.
    pub(super) seconds: u64,
}

/// A value that is read after a login.
pub(super) trait Protected: Sync {
    /// The answer of the source.
    type Answer: Send;

    /// Logs in.
    fn log_in(&self) -> impl Future<Output = Result<Issued, SourceError>> + Send;

    /// Reads the value with the token of a login.
    fn read(
        &self,
        token: &Secret,
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
    /// Reads with the session's token, after a login if there is none. A token that is refused is replaced once.
    pub(super) async fn read<T: Protected>(&self, value: &T) -> Result<T::Answer, SourceError> {
        let mut slot = self.slot.lock().await;
        if let Some(session) = slot.as_ref().filter(|it| it.is_usable(self.version, self.clock)) {
            match value.read(&session.token).await {
                Err(error) if error.is_unauthenticated() => {}
                other => return other,
            }
        }
        let Issued { token, seconds } = value.log_in().await?;
        let life = (seconds > 0).then(|| Duration::from_secs(seconds));
        let since = self.clock.moment();
        let session = slot.insert(Session { token, of: self.version, since, life });
        value.read(&session.token).await
    }
}

impl Session {
    fn is_usable(&self, version: Option<Timestamp>, clock: &Clock) -> bool {
        let age = clock.moment().since(&self.since);
        self.of == version && self.life.is_none_or(|life| age < life - life / UNUSED_PART)
    }
}
