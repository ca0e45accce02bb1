//! [`Change`]: the audit record of an administrative change, with its actor; and [`Changes`], through which
//! changes are recorded.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::audit::{Audit, AuditError, AuditUnavailable, Slot};
use super::event::{Event, Outcome};
use keyward_base::id::{ExchangeId, OrgId, UserId};

/// The author of a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Actor {
    /// The operator of the gateway, through the admin socket.
    Operator,
    /// A user, through a personal access token.
    User {
        /// The user's id.
        id: UserId,
        /// The user's name at the time of the change.
        name: String,
    },
    /// The configuration file.
    File,
    /// The gateway itself.
    Gateway,
}

/// A change and its author. It must not contain secrets.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// `operator`, `usr_…`, `file` or `gateway`.
    pub by: String,
    /// The name of the user, if a user made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The kind of resource: `connection`, `agent`, …
    pub what: String,
    /// The resource's id, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The resource's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was done (or refused, if the record's outcome is `refused`): `added`, `paused`, …
    pub action: String,
    /// The purpose that the creator gave; used for runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The event type, such as `connection.broken`, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// A further explanation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A handle to the log for changes; cheap to clone.
#[derive(Clone, Default)]
pub struct Changes(Option<Arc<Mutex<Log>>>);

/// Opens a log on first use.
type Opener = Box<dyn FnOnce() -> Result<Audit, AuditError> + Send>;

enum Log {
    Open(Audit),
    Waiting(Opener),
    Failed,
}

/// A reserved place for the record of one change.
#[derive(Debug)]
pub struct ChangeSlot(Option<Slot>);

/// The actor of the current task.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acting {
    /// The author of its changes.
    pub by: Actor,
    /// Whether the request leaves a record in any case.
    pub recorded: bool,
}

tokio::task_local! {
    static ACTING: Acting;
}

impl Acting {
    /// The actor of the current task; by default the gateway itself.
    pub fn current() -> Self {
        let nobody = |_| Self { by: Actor::Gateway, recorded: false };
        ACTING.try_with(Self::clone).unwrap_or_else(nobody)
    }

    /// Runs `work` with this actor. Spawned tasks are not covered: the spawning code calls [`Acting::current`]
    /// first.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        ACTING.scope(self, work).await
    }
}

impl Actor {
    /// Runs `work` with this actor; see [`Acting::scope`].
    pub async fn acting<F: Future>(self, work: F) -> F::Output {
        Acting { by: self, recorded: false }.scope(work).await
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::User { id, .. } => f.write_str(id.as_str()),
            Self::File => f.write_str("file"),
            Self::Gateway => f.write_str("gateway"),
        }
    }
}

impl Change {
    /// A record that `by` did `action` to a resource of kind `what`.
    pub fn new(by: &Actor, what: &str, action: &str) -> Self {
        let user = match by {
            Actor::User { name, .. } => Some(name.clone()),
            _ => None,
        };
        let (what, action) = (what.to_owned(), action.to_owned());
        Self { by: by.to_string(), user, what, action, ..Self::default() }
    }

    /// Sets id and name of the resource.
    #[must_use]
    pub fn of(mut self, id: impl fmt::Display, name: &str) -> Self {
        (self.id, self.name) = (Some(id.to_string()), Some(name.to_owned()));
        self
    }

    /// Sets the explanation.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Converts to an audit event.
    pub fn event(self, now: Timestamp, org: &OrgId, outcome: Outcome) -> Event {
        Event {
            org: Some(org.to_string()),
            outcome,
            change: Some(Box::new(self)),
            ..Event::begun(now, ExchangeId::random().to_string())
        }
    }
}

impl Changes {
    /// Records into an open log.
    pub fn to(audit: Audit) -> Self {
        Self(Some(Arc::new(Mutex::new(Log::Open(audit)))))
    }

    /// Records into a log that the first change opens.
    pub fn late(open: impl FnOnce() -> Result<Audit, AuditError> + Send + 'static) -> Self {
        Self(Some(Arc::new(Mutex::new(Log::Waiting(Box::new(open))))))
    }

    /// Closes the log for all clones; its writer ends with the last sender.
    pub fn close(&self) {
        if let Some(log) = &self.0 {
            *log.lock() = Log::Failed;
        }
    }

    /// Reserves a place before a change, so that no change goes unrecorded; waits while the log is behind.
    /// Without a log, nothing is recorded.
    ///
    /// # Errors
    /// While the log cannot be written.
    pub async fn reserve(&self) -> Result<ChangeSlot, AuditUnavailable> {
        let Some(log) = &self.0 else { return Ok(ChangeSlot(None)) };
        let audit = log.lock().open()?;
        audit.reserve().await.map(|slot| ChangeSlot(Some(slot)))
    }

    /// Records a change that has already happened. If the log cannot be written, the program's own log says so.
    pub async fn tell(&self, event: Event) {
        match self.reserve().await {
            Ok(slot) => slot.send(&event),
            Err(error) => tracing::error!(%error, change = ?event.change, "a change is unrecorded"),
        }
    }
}

impl ChangeSlot {
    /// Passes the record to the writer without waiting.
    pub fn send(self, event: &Event) {
        if let Some(slot) = self.0 {
            slot.send(event.entry());
        }
    }
}

impl Log {
    fn open(&mut self) -> Result<Audit, AuditUnavailable> {
        match std::mem::replace(self, Self::Failed) {
            Self::Open(audit) => *self = Self::Open(audit.clone()),
            Self::Waiting(open) => match open() {
                Ok(audit) => *self = Self::Open(audit),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "the audit log cannot be opened");
                }
            },
            Self::Failed => {}
        }
        match self {
            Self::Open(audit) => Ok(audit.clone()),
            Self::Waiting(_) | Self::Failed => Err(AuditUnavailable),
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::filter::Filter;
    use crate::observe::query::Query;
    use crate::observe::trail::{Rotation, Trail};

    #[tokio::test]
    async fn a_log_that_cannot_be_opened_lets_nothing_be_changed() {
        let never = Trail::at(std::path::Path::new("/proc/none/audit.jsonl"));
        let changes = Changes::late(move || {
            Audit::open(never, Rotation::default(), 8, false).map(|(audit, _)| audit)
        });
        for _ in 0..2 {
            assert!(changes.reserve().await.is_err());
        }
    }

    #[tokio::test]
    async fn a_change_stands_in_the_log_beside_exchanges_with_who_and_what() {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::at(&folder.path().join("audit.jsonl"));
        let (audit, writer) = Audit::open(trail.clone(), Rotation::default(), 8, false).unwrap();
        let changes = Changes::to(audit);
        let by = Actor::User { id: UserId::random(), name: "ann".to_owned() };
        let change = Change::new(&by, "connection", "paused").of("con_1", "work").because("leak");
        let org = OrgId::default_org();
        let event = change.clone().event(Timestamp::UNIX_EPOCH, &org, Outcome::Completed);
        changes.tell(event).await;
        drop(changes);
        writer.finish();
        assert!(trail.verify(|| true).unwrap().broken.is_none());
        let filter = Filter { changes: true, ..Filter::default() };
        let found = trail.query(&Query { filter, before: None, limit: 5 }, || true).unwrap();
        assert_eq!(found.records[0].change.as_deref(), Some(&change));
        assert_eq!(change.by, by.to_string());
    }
}
