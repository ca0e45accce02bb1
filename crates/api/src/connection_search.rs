//! Which connections a list is to hold: `?q=&provider=&state=&tag=&environment=&owner=&due=&limit=&after=`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::page::Page;
use keyward_state::directory::{ConnectionRecord, ConnectionState};

/// The query of the list. What is absent takes all.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// Part of a name, id, provider, account, description, purpose or tag, any case.
    q: Option<String>,
    /// A provider's id.
    provider: Option<String>,
    /// A state.
    state: Option<StateAsked>,
    /// A tag.
    tag: Option<String>,
    /// An environment; empty: none.
    environment: Option<String>,
    /// The owner's name or id.
    pub(super) owner: Option<String>,
    /// Those whose secret wants another soon.
    #[serde(default)]
    due: bool,
    limit: Option<usize>,
    after: Option<String>,
}

/// A state, whatever is said of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum StateAsked {
    Draft,
    Testing,
    Active,
    Paused,
    Broken,
}

impl Search {
    /// The page that is asked for.
    pub(super) fn page(&self) -> Page {
        Page::of(self.q.clone(), self.limit, self.after.clone())
    }

    /// Whether the connection is among them. The owner is given by id.
    pub(super) fn wants(&self, connection: &ConnectionRecord, now: Timestamp) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&self.provider, &connection.provider)
            && is(&self.environment, connection.environment.as_deref().unwrap_or_default())
            && self.owner.as_deref().is_none_or(|owner| {
                connection.facts.owner.as_ref().is_some_and(|own| own.as_str() == owner)
            })
            && self.tag.as_ref().is_none_or(|tag| connection.tags.contains(tag))
            && self.state.is_none_or(|state| state == StateAsked::of(&connection.facts.state))
            && (!self.due || connection.due().is_some_and(|due| due.is_near(now)))
            && self.finds(connection)
    }

    fn finds(&self, connection: &ConnectionRecord) -> bool {
        if self.q.is_none() {
            return true;
        }
        let (spec, facts) = (&connection.spec, &connection.facts);
        let texts = [&spec.description, &spec.purpose, &facts.account, &facts.whose];
        let texts = texts.into_iter().flatten();
        let mut all = vec![connection.name.as_str(), &connection.provider, connection.id.as_str()];
        all.extend(texts.chain(&spec.tags).map(String::as_str));
        self.page().wants(&all)
    }
}

impl StateAsked {
    fn of(state: &ConnectionState) -> Self {
        match state {
            ConnectionState::Draft { .. } => Self::Draft,
            ConnectionState::Testing => Self::Testing,
            ConnectionState::Active => Self::Active,
            ConnectionState::Paused => Self::Paused,
            ConnectionState::Broken { .. } => Self::Broken,
        }
    }
}
