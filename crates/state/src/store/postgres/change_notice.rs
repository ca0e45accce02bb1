//! [`ChangeNotice`]: notifications of changes, after which a replica reads the changes at once instead of at its next poll.
//! Nothing relies on them: a lost notification delays the changes until that poll.

use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::holder::random_number;
use crate::store::StoreError;

/// The channel of the database on which replicas notify each other: [`super::sql::LISTEN`] and [`super::sql::NOTIFY`].
const CHANNEL: &str = "keyward_changes";

/// The pause between two notifications of a replica, and between two polls that notifications cause. Changes within a
/// pause share one notification.
pub(super) const PAUSE: Duration = Duration::from_millis(25);

/// The poll interval without a notification. A change is in force at all replicas within a second, even if a poll is
/// slow.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// The notifications that one replica sends and receives.
pub(super) struct ChangeNotice {
    /// The content of its own notifications.
    pub(super) own: String,
    /// Notified when this replica has committed a change.
    pub(super) committed: Notify,
    /// Notified when a stream of this replica to the database has ended.
    pub(super) stream_ended: Notify,
    received: watch::Sender<()>,
}

/// The task that sends notifications and listens. It ends when dropped.
pub(super) struct Listening(JoinHandle<()>);

impl ChangeNotice {
    pub(super) fn new() -> Result<Self, StoreError> {
        Ok(Self {
            own: format!("{:016x}", random_number()?.cast_unsigned()),
            committed: Notify::new(),
            stream_ended: Notify::new(),
            received: watch::Sender::new(()),
        })
    }

    /// Handles a notification of the database.
    pub(super) fn notified(&self, channel: &str, by: &str) {
        if channel == CHANNEL && by != self.own {
            self.may_have_changed();
        }
    }

    /// Tells the feed that other replicas may have made changes.
    pub(super) fn may_have_changed(&self) {
        self.received.send_replace(());
    }

    /// Receives notifications from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.received.subscribe()
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
    fn notifications_of_a_replica_itself_and_on_other_channels_are_ignored() {
        let notice = ChangeNotice::new().unwrap();
        let received = notice.subscribe();
        notice.notified(CHANNEL, &notice.own);
        notice.notified("other", "0");
        assert!(!received.has_changed().unwrap());
        notice.notified(CHANNEL, &ChangeNotice::new().unwrap().own);
        assert!(received.has_changed().unwrap());
    }

    #[test]
    fn the_statements_name_the_channel() {
        assert!(sql::LISTEN.ends_with(&format!("; LISTEN {CHANNEL}")));
        assert!(sql::NOTIFY.contains(&format!("('{CHANNEL}', ")));
    }
}
