//! [`ChangeDetails`]: what a handler changes, for the audit record of its request.

use keyward_base::id::TokenId;
use keyward_state::observe::event::Event;

/// Collects what a handler changes.
#[derive(Debug, Default)]
pub(super) struct ChangeDetails {
    pub(super) what: Option<&'static str>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// The name that a new resource would have had.
    pub(super) wanted_name: Option<String>,
    pub(super) why: Option<String>,
    pub(super) run: Option<Run>,
}

/// A run of a program.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// `started`, `resumed` or `ended`.
    pub(super) action: &'static str,
    /// The agent's name.
    pub(super) agent: String,
    pub(super) token: Option<TokenId>,
    /// The purpose of the token.
    pub(super) label: Option<String>,
}

impl Run {
    /// Adds the run to the record of a change.
    pub(super) fn write(self, event: &mut Event) {
        let Self { action, agent, token, label } = self;
        let token = token.map(|token| token.to_string());
        if let Some(change) = &mut event.change {
            (change.what, change.action) = ("run".to_owned(), action.to_owned());
            (change.id, change.name) = (token.clone(), Some(agent.clone()));
            change.label = label;
        }
        (event.agent, event.token) = (Some(agent), token);
    }
}
