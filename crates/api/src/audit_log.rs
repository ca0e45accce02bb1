//! The audit log as handlers use it. [`AuditLog`]: its files, and what handlers need to read them.
//! [`ChangeDetails`]: what a handler changes, for the audit record of its request.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use keyward_base::id::TokenId;
use keyward_state::observe::event::Event;
use keyward_state::observe::trail::Trail;

/// Concurrent searches; each occupies a thread and the disk.
const SEARCHES_MAX: usize = 4;

/// Concurrent verifications. Each reads all files, which may take minutes, so that no search waits for it.
const VERIFICATIONS_MAX: usize = 2;

/// A readable audit log; cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditLog {
    pub(super) trail: Trail,
    pub(super) written: Option<watch::Receiver<u64>>,
    pub(super) searches: Arc<Semaphore>,
    pub(super) verifications: Arc<Semaphore>,
}

impl AuditLog {
    /// A log that another process writes, or none.
    pub fn at_rest(trail: Trail) -> Self {
        let [searches, verifications] =
            [SEARCHES_MAX, VERIFICATIONS_MAX].map(|most| Arc::new(Semaphore::new(most)));
        Self { trail, written: None, searches, verifications }
    }

    /// A log that this process writes; `written` is the number of the last record.
    pub fn written(trail: Trail, written: watch::Receiver<u64>) -> Self {
        Self { written: Some(written), ..Self::at_rest(trail) }
    }
}

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
