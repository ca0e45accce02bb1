//! What plugins' slots let their agent do with a connection, and why a plugin cannot work.

use std::sync::Arc;

use http::Method;

use keyward_base::id::{AgentId, OrgId};
use keyward_base::pattern::{HostPattern, PathPattern};

/// What a binding is for.
#[derive(Clone, Debug)]
pub enum Extent {
    /// Whatever the connection can do.
    Whole,
    /// What these slots do, together.
    Slots(Vec<Arc<Slot>>),
}

/// What one slot does with its connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slot {
    /// Its plugin's name.
    pub plugin: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Methods; empty: all.
    pub methods: Vec<Method>,
    /// Paths; empty: all.
    pub paths: Vec<PathPattern>,
    /// Why its plugin does nothing at all.
    pub blocked: Option<Arc<Blocked>>,
}

/// A required slot without a connection, or one of a plugin that is paused: requests to where it would lead
/// are told so.
#[derive(Clone, Debug)]
pub struct Empty {
    /// Org of the agent.
    pub org: OrgId,
    /// Whose plugin it is.
    pub agent: AgentId,
    /// Hosts of the provider that it asks for.
    pub hosts: Vec<HostPattern>,
    /// What they are told.
    pub blocked: Arc<Blocked>,
}

/// Why a plugin cannot work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blocked {
    /// Its name.
    pub plugin: Arc<str>,
    /// The first required slot that has nothing.
    pub slot: Arc<str>,
    /// The connection in it.
    pub connection: Option<Arc<str>>,
    /// What is wrong with that.
    pub lack: Lack,
    /// What a person does about the connection.
    pub remedy: Option<Arc<str>>,
}

/// Why a slot has nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lack {
    /// There is no connection in it.
    Empty,
    /// It was never connected.
    Draft,
    /// Paused by a person.
    Paused,
    /// Broken, with the reason.
    Broken(Arc<str>),
    /// The configuration names the whole plugin no more.
    Withdrawn,
}

impl Extent {
    /// What both are for.
    pub(super) fn widen(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Whole, _) => {}
            (Self::Slots(slots), Self::Slots(more)) => slots.extend(more),
            (Self::Slots(_), Self::Whole) => *self = Self::Whole,
        }
    }
}

impl Slot {
    /// Whether the method is meant.
    pub(super) fn takes(&self, method: &Method) -> bool {
        let same = |m: &Method| m.as_str().eq_ignore_ascii_case(method.as_str());
        self.methods.is_empty() || self.methods.iter().any(same)
    }

    /// `GET, HEAD on /crm/**`.
    pub(super) fn extent(&self) -> String {
        let methods: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        let paths: Vec<_> = self.paths.iter().map(ToString::to_string).collect();
        match (methods.join(", "), paths.join(", ")) {
            (methods, paths) if paths.is_empty() => methods,
            (methods, paths) if methods.is_empty() => paths,
            (methods, paths) => format!("{methods} on {paths}"),
        }
    }
}

impl Blocked {
    /// What is wrong, in a sentence without a full stop.
    pub fn message(&self) -> String {
        let Self { plugin, slot, .. } = self;
        let connection = self.connection.as_deref().unwrap_or_default();
        match &self.lack {
            Lack::Empty => format!("plugin `{plugin}` is blocked: slot `{slot}` is empty"),
            Lack::Draft => format!(
                "plugin `{plugin}` is blocked: connection `{connection}` in slot `{slot}` is not \
                 connected yet"
            ),
            Lack::Paused => format!(
                "plugin `{plugin}` is blocked: connection `{connection}` in slot `{slot}` is paused"
            ),
            Lack::Broken(reason) => format!(
                "plugin `{plugin}` is blocked: connection `{connection}` in slot `{slot}` is \
                 broken: {reason}"
            ),
            Lack::Withdrawn => {
                format!("plugin `{plugin}` is paused: the configuration names it no more")
            }
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match &self.lack {
            Lack::Empty => {
                format!(
                    "fill it: `keyward plugin set {} --slot {}=CONNECTION`",
                    self.plugin, self.slot
                )
            }
            Lack::Draft | Lack::Paused | Lack::Broken(_) => self.remedy.as_deref()?.to_owned(),
            Lack::Withdrawn => format!(
                "declare it under `plugins:` again, or remove it: `keyward plugin remove {}`",
                self.plugin
            ),
        })
    }
}
