//! Which requests an agent may make with a connection: the named actions of its binding, and the slots of its plugins; and
//! why a plugin is blocked.

use std::sync::Arc;

use http::Method;

use crate::actions::ActionScope;
use crate::inject::own_authorization::OwnAuthorization;
use keyward_base::id::{AgentId, OrgId};
use keyward_base::pattern::{HostPattern, PathPattern};

/// Which requests a binding allows.
#[derive(Clone, Debug)]
pub enum Extent {
    /// All requests that the connection allows.
    Whole,
    /// The requests of its actions and of its slots together.
    Parts(Parts),
}

/// Parts of what a connection allows.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The actions that the agent itself may use; `None` if the binding exists for slots only.
    pub allow: Option<ActionList>,
    /// The slots of plugins.
    pub slots: Vec<Arc<Slot>>,
}

/// Named actions, as a binding or a slot lists them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ActionList {
    /// Their names.
    pub names: Vec<Arc<str>>,
    /// The requests that belong to them.
    pub scopes: Vec<ActionScope>,
    /// An action that the provider does not have, or whose hosts are unknown.
    pub lost: Option<Arc<str>>,
}

/// Which requests one slot allows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slot {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// The slot's name.
    pub name: Arc<str>,
    /// Methods; empty means all.
    pub methods: Vec<Method>,
    /// Path patterns; empty means all.
    pub paths: Vec<PathPattern>,
    /// Named actions; `None` means all.
    pub allow: Option<ActionList>,
    /// What is done with authorizations of requests' own.
    pub own_authorization: OwnAuthorization,
    /// Why its plugin is blocked, if it is.
    pub blocked: Option<Arc<Blocked>>,
}

/// A required slot without a connection, or a slot of a paused plugin. Requests to its hosts get the reason.
#[derive(Clone, Debug)]
pub struct EmptySlot {
    /// The agent's org.
    pub org: OrgId,
    /// The agent that the plugin is installed for.
    pub agent: AgentId,
    /// The hosts of the slot's provider.
    pub hosts: Vec<HostPattern>,
    /// The reason that requests get.
    pub blocked: Arc<Blocked>,
}

/// Why a plugin is blocked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blocked {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// The first required slot without a usable connection.
    pub slot: Arc<str>,
    /// The connection in that slot, if there is one.
    pub connection: Option<Arc<str>>,
    /// Why the slot is not usable.
    pub problem: SlotProblem,
    /// What a person can do about the connection.
    pub remedy: Option<Arc<str>>,
}

/// Why a slot is not usable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SlotProblem {
    /// It has no connection.
    Empty,
    /// Its connection was never connected.
    Draft,
    /// A person paused its connection.
    Paused,
    /// Its connection is broken, for this reason.
    Broken(Arc<str>),
    /// The plugin was removed from the configuration.
    Withdrawn,
}

impl Extent {
    /// Extends this to the union with `other`.
    pub(super) fn widen(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Whole, _) => {}
            (Self::Parts(_), Self::Whole) => *self = Self::Whole,
            (Self::Parts(parts), Self::Parts(more)) => {
                parts.slots.extend(more.slots);
                match (&mut parts.allow, more.allow) {
                    (Some(list), Some(more)) => list.widen(more),
                    (list, more) => *list = list.take().or(more),
                }
            }
        }
    }
}

impl ActionList {
    /// Extends this to the union with `other`.
    pub(super) fn widen(&mut self, other: Self) {
        self.names.extend(other.names);
        self.scopes.extend(other.scopes);
        self.lost = self.lost.take().or(other.lost);
    }

    /// `read-code, write-issues`.
    pub(super) fn text(&self) -> String {
        self.names.join(", ")
    }
}

impl Slot {
    /// Whether the slot matches the method.
    pub(super) fn matches_method(&self, method: &Method) -> bool {
        let same = |m: &Method| m.as_str().eq_ignore_ascii_case(method.as_str());
        self.methods.is_empty() || self.methods.iter().any(same)
    }

    /// Whether it allows all requests.
    pub(super) fn is_unlimited(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty() && self.allow.is_none()
    }

    /// A readable form: `GET, HEAD on /crm/**`, `actions read-code, clone`.
    pub(super) fn extent(&self) -> String {
        let methods: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        let paths: Vec<_> = self.paths.iter().map(ToString::to_string).collect();
        let requests = match (methods.join(", "), paths.join(", ")) {
            (methods, paths) if paths.is_empty() => methods,
            (methods, paths) if methods.is_empty() => paths,
            (methods, paths) => format!("{methods} on {paths}"),
        };
        match &self.allow {
            None => requests,
            Some(list) if requests.is_empty() => format!("actions {}", list.text()),
            Some(list) => format!("actions {}, {requests}", list.text()),
        }
    }
}

impl Blocked {
    /// The reason, as a sentence without a full stop.
    pub fn message(&self) -> String {
        let Self { plugin, slot, .. } = self;
        let connection = self.connection.as_deref().unwrap_or_default();
        match &self.problem {
            SlotProblem::Empty => format!("plugin `{plugin}` is blocked: slot `{slot}` is empty"),
            SlotProblem::Draft => format!(
                "plugin `{plugin}` is blocked: connection `{connection}` in slot `{slot}` is not \
                 connected yet"
            ),
            SlotProblem::Paused => format!(
                "plugin `{plugin}` is blocked: connection `{connection}` in slot `{slot}` is paused"
            ),
            SlotProblem::Broken(reason) => format!(
                "plugin `{plugin}` is blocked: connection `{connection}` in slot `{slot}` is \
                 broken: {reason}"
            ),
            SlotProblem::Withdrawn => {
                format!("plugin `{plugin}` is paused: it is no longer in the configuration")
            }
        }
    }

    /// What a person can do.
    pub fn hint(&self) -> Option<String> {
        Some(match &self.problem {
            SlotProblem::Empty => {
                format!(
                    "fill it: `keyward plugin set {} --slot {}=CONNECTION`",
                    self.plugin, self.slot
                )
            }
            SlotProblem::Draft | SlotProblem::Paused | SlotProblem::Broken(_) => {
                self.remedy.as_deref()?.to_owned()
            }
            SlotProblem::Withdrawn => format!(
                "declare it under `plugins:` again, or remove it: `keyward plugin remove {}`",
                self.plugin
            ),
        })
    }
}
