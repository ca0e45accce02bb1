//! [`Search`]: the query of a list of connections,
//! `?q=&provider=&state=&tag=&environment=&owner=&due=&limit=&after=`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::page::{Page, SearchText};
use keyward_state::directory::{ConnectionRecord, ConnectionState};

/// The query of the list. An absent member excludes nothing.
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
    /// Those whose secret has to be replaced soon.
    #[serde(default)]
    due: bool,
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<usize>,
    after: Option<String>,
}

/// A state, without its details.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum StateAsked {
    Draft,
    Testing,
    Active,
    Paused,
    Broken,
}

/// A search, prepared for many connections.
pub(super) struct Finder<'a> {
    search: &'a Search,
    q: Option<SearchText>,
    now: Timestamp,
}

impl Search {
    /// The page that is asked for.
    pub(super) fn page(&self) -> Page {
        Page::of(self.q.clone(), self.limit, self.after.clone())
    }

    /// What decides which connections are wanted now. The owner is given by id.
    pub(super) fn finder(&self, now: Timestamp) -> Finder<'_> {
        Finder { search: self, q: self.q.as_deref().map(SearchText::of), now }
    }
}

impl Finder<'_> {
    pub(super) fn wants(&self, connection: &ConnectionRecord) -> bool {
        let (search, facts) = (self.search, &connection.facts);
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&search.provider, &connection.provider)
            && is(&search.environment, connection.environment.as_deref().unwrap_or_default())
            && search
                .owner
                .as_deref()
                .is_none_or(|owner| facts.owner.as_ref().is_some_and(|own| own.as_str() == owner))
            && search.tag.as_ref().is_none_or(|tag| connection.tags.contains(tag))
            && search.state.is_none_or(|state| state == StateAsked::of(&facts.state))
            && (!search.due || connection.due().is_some_and(|due| due.is_near(self.now)))
            && self.q.as_ref().is_none_or(|q| finds(q, connection))
    }
}

fn finds(q: &SearchText, connection: &ConnectionRecord) -> bool {
    let (spec, facts) = (&connection.spec, &connection.facts);
    let texts = [&spec.description, &spec.purpose, &facts.account, &facts.whose];
    let texts = texts.into_iter().flatten().chain(&spec.tags).map(String::as_str);
    let own = [connection.name.as_str(), &connection.provider, connection.id.as_str()];
    own.into_iter().chain(texts).any(|text| q.is_in(text))
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
