//! [`Change`]: the audit record of an administrative change; [`Actor`]: its author.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_base::id::{LoginId, UserId};
use keyward_model::NoticeKind;

/// Kind and action of the record that another program has changed the audit log itself.
const LOG: &str = "audit log";
const FOUND_CHANGED: &str = "found changed";

/// The author of a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Actor {
    /// The operator of the gateway, through the admin socket.
    Operator,
    /// A user, through a personal access token or a login.
    User {
        id: UserId,
        /// The user's name at the time of the change.
        name: String,
        /// The login, if the request came from a browser.
        login: Option<LoginId>,
    },
    /// The configuration file.
    File,
    /// The gateway itself.
    Gateway,
}

/// A change and its author. It must not contain secrets.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Change {
    /// `operator`, `usr_…`, `file` or `gateway`.
    pub by: String,
    /// The name of the user, if a user made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The login of the user, if the request came from a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The address of the client, if the request came over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
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
    /// The event types, if it is several events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// A further explanation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The types of the events that a request causes, for its record; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RequestEvents(Arc<Mutex<Vec<NoticeKind>>>);

/// The actor of the current task.
#[derive(Clone, Debug)]
pub struct TaskActor {
    /// The author of its changes.
    pub by: Actor,
    /// The events of the request, if it leaves a record in any case.
    pub request: Option<RequestEvents>,
}

tokio::task_local! {
    static ACTOR: TaskActor;
}

impl RequestEvents {
    /// Adds an event of this type.
    pub fn add(&self, kind: NoticeKind) {
        let mut kinds = self.0.lock();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }

    /// Writes the types into the record of the request.
    pub fn write(&self, change: &mut Change) {
        let mut codes: Vec<_> = self.0.lock().iter().map(|kind| kind.code().to_owned()).collect();
        match codes.len() {
            0 | 1 => change.event = codes.pop(),
            _ => change.events = codes,
        }
    }
}

impl TaskActor {
    /// The actor of the current task; by default the gateway itself.
    pub fn current() -> Self {
        let gateway = |_| Self { by: Actor::Gateway, request: None };
        ACTOR.try_with(Self::clone).unwrap_or_else(gateway)
    }

    /// Runs `work` with this actor. Spawned tasks are not covered: the spawning code calls [`TaskActor::current`]
    /// first.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        ACTOR.scope(self, work).await
    }
}

impl Actor {
    /// Runs `work` with this actor; see [`TaskActor::scope`].
    pub async fn acting<F: Future>(self, work: F) -> F::Output {
        TaskActor { by: self, request: None }.scope(work).await
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
    /// The action in the past tense. Some actions are recorded with the names of API paths.
    pub fn past_tense(&self) -> &str {
        match &*self.action {
            "activate" => "activated",
            "assign" => "assigned",
            "compare" => "compared",
            "confirm" => "confirmed",
            "pause" => "paused",
            "reconnect" => "reconnected",
            "refresh" => "refreshed",
            "resume" => "resumed",
            "reveal" => "revealed",
            "rollback" => "rolled back",
            "rotate" => "rotated",
            "test" => "tested",
            action => action,
        }
    }

    /// Whether it is an event of this type.
    pub fn is_event(&self, kind: &str) -> bool {
        self.event.iter().chain(&self.events).any(|it| it == kind)
    }

    /// The record that another program has changed the audit log itself.
    pub(super) fn of_log(why: String) -> Self {
        Self::new(&Actor::Gateway, LOG, FOUND_CHANGED).because(why)
    }

    /// Whether this is the record that another program has changed the audit log itself.
    pub(super) fn is_of_log(&self) -> bool {
        self.what == LOG && self.action == FOUND_CHANGED
    }

    /// A record that `by` did `action` to a resource of kind `what`.
    pub fn new(by: &Actor, what: &str, action: &str) -> Self {
        let (what, action) = (what.to_owned(), action.to_owned());
        Self { what, action, ..Self::default() }.by(by)
    }

    /// Sets the author.
    #[must_use]
    pub fn by(mut self, by: &Actor) -> Self {
        self.by = by.to_string();
        if let Actor::User { name, login, .. } = by {
            self.user = Some(name.clone());
            self.login = login.as_ref().map(ToString::to_string);
        }
        self
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
}
