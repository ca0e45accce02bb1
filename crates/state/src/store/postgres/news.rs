//! News of changes: what makes a replica look for changes at once, instead of at its next poll. Nothing relies on it: a
//! notification that is lost costs the rest of a poll's interval.

use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::holder::random_number;
use crate::store::StoreError;

/// On this channel of the database, replicas notify each other: [`super::sql::LISTEN`] and [`super::sql::NOTIFY`].
const CHANNEL: &str = "keyward_changes";

/// Between two notifications of a replica, and between two looks because of them: changes meanwhile are one piece of news.
pub(super) const PAUSE: Duration = Duration::from_millis(25);

/// Between two looks without news: a change is in force everywhere within a second, also when a look is slow.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// What one replica tells and hears.
pub(super) struct ChangeNotice {
    /// What its own notifications say.
    pub(super) own: String,
    /// It has committed a change.
    pub(super) committed: Notify,
    /// One of its streams to the database has ended.
    pub(super) stream_ended: Notify,
    heard: watch::Sender<()>,
}

/// The task that tells and listens. It ends when dropped.
pub(super) struct Listening(JoinHandle<()>);

impl ChangeNotice {
    pub(super) fn new() -> Result<Self, StoreError> {
        Ok(Self {
            own: format!("{:016x}", random_number()?.cast_unsigned()),
            committed: Notify::new(),
            stream_ended: Notify::new(),
            heard: watch::Sender::new(()),
        })
    }

    /// A notification of the database has come.
    pub(super) fn notified(&self, channel: &str, by: &str) {
        if channel == CHANNEL && by != self.own {
            self.may_have_changed();
        }
    }

    /// There may be changes of others.
    pub(super) fn may_have_changed(&self) {
        self.heard.send_replace(());
    }

    /// Hears of what comes from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.heard.subscribe()
    }
}

impl Listening {
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::sql;

    #[test]
    fn what_a_replica_tells_itself_and_what_comes_on_other_channels_is_no_news() {
        let news = ChangeNotice::new().unwrap();
        let heard = news.subscribe();
        news.notified(CHANNEL, &news.own);
        news.notified("other", "0");
        assert!(!heard.has_changed().unwrap());
        news.notified(CHANNEL, &ChangeNotice::new().unwrap().own);
        assert!(heard.has_changed().unwrap());
    }

    #[test]
    fn the_statements_name_the_channel() {
        assert!(sql::LISTEN.ends_with(&format!("; LISTEN {CHANNEL}")));
        assert!(sql::NOTIFY.contains(&format!("('{CHANNEL}', ")));
    }
}
