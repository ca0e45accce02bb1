//! The audit record of a change that comes in over the API: its place is taken before anything is
//! changed, and it is written however the request ends.

use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;

use super::auth::Caller;
use super::error::ApiError;
use super::state::Admin;
use keyward_base::codes::Code;
use keyward_base::id::TokenId;
use keyward_state::observe::change::{Change, ChangeSlot};
use keyward_state::observe::event::{Event, Outcome};

/// What of a request's path stands in the log.
const PATH_CHARS_MAX: usize = 256;

/// What a handler says of what it changes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    what: Option<&'static str>,
    id: Option<String>,
    name: Option<String>,
    why: Option<String>,
    run: Option<Run>,
}

/// The run of a program, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// `started`, `resumed` or `ended`.
    pub(super) action: &'static str,
    /// The agent's name.
    pub(super) agent: String,
    pub(super) token: Option<TokenId>,
    /// What the token is for.
    pub(super) label: Option<String>,
}

/// A record under way; written when it is dropped.
pub(super) struct Entry {
    slot: Option<ChangeSlot>,
    event: Event,
    ledger: Arc<Mutex<Ledger>>,
}

impl Ledger {
    /// Takes the place.
    ///
    /// # Errors
    /// While the audit log cannot be written: nothing is changed then.
    pub(super) async fn begin(
        admin: &Admin,
        caller: &Caller,
        (method, path): (&str, &str),
    ) -> Result<Entry, ApiError> {
        let deps = admin.deps();
        let slot = deps.changes.reserve().await.map_err(|_| ApiError::AuditUnavailable)?;
        let path: String = path.chars().take(PATH_CHARS_MAX).collect();
        let change = by_path(caller, method, &path);
        let mut event = change.event(deps.clock.now(), caller.org(), Outcome::Ended);
        event.method = Some(method.to_owned());
        event.path = Some(path);
        Ok(Entry { slot: Some(slot), event, ledger: caller.ledger.clone() })
    }
}

impl Caller {
    /// Tells what thing is changed; the first that is told counts.
    pub(super) fn names(&self, what: &'static str, id: impl ToString, name: &str) {
        let mut ledger = self.ledger.lock();
        if ledger.what.is_none() {
            ledger.what = Some(what);
            (ledger.id, ledger.name) = (Some(id.to_string()), Some(name.to_owned()));
        }
    }

    /// Tells that a run is changed, and not the agent that it is of.
    pub(super) fn names_run(&self, run: Run) {
        self.ledger.lock().run = Some(run);
    }

    /// Whether the request leaves a record of its own.
    pub(super) fn is_recorded(&self) -> bool {
        self.writes()
    }

    /// Tells what else there is to say of the change. Never a secret.
    pub(super) fn because(&self, why: impl Into<String>) {
        self.ledger.lock().why = Some(why.into());
    }
}

impl Entry {
    /// The request was answered.
    pub(super) fn ended(mut self, status: StatusCode, code: Option<Code>) {
        self.event.status = Some(status.as_u16());
        self.event.code = code.map(|code| code.to_string());
        self.event.outcome =
            if status.is_success() { Outcome::Completed } else { Outcome::Refused };
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let ledger = std::mem::take(&mut *self.ledger.lock());
        if let Some(change) = &mut self.event.change {
            if let Some(what) = ledger.what {
                // The path says it more narrowly: a token or a binding of this thing.
                let narrower = ["token", "binding"].contains(&&*change.what);
                if !narrower {
                    what.clone_into(&mut change.what);
                }
                (change.id, change.name) = (ledger.id, ledger.name);
            }
            change.why = ledger.why;
        }
        if let Some(run) = ledger.run {
            run.write(&mut self.event);
        }
        slot.send(&self.event);
    }
}

impl Run {
    /// Says in a record of a change that it is one of this run.
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

/// What the path alone says: `POST /agents/ci/tokens` adds a token of `ci`.
fn by_path(caller: &Caller, method: &str, path: &str) -> Change {
    let rest = path.strip_prefix("/api/v1/").unwrap_or(path);
    let mut parts = rest.split('/');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (of, name, sub, _) = (next().unwrap_or_default(), next(), next(), next());
    let within = sub.filter(|sub| ["tokens", "bindings"].contains(sub));
    let what = singular(within.unwrap_or(of));
    let action = match (method, sub) {
        ("DELETE", _) => "removed",
        ("PATCH" | "PUT", _) => "changed",
        ("POST", Some(verb)) if within.is_none() => verb,
        ("POST", None) if ["ca", "keys"].contains(&of) => name.unwrap_or("changed"),
        ("POST", None) if of == "reload" => "asked for",
        ("POST", None) if of == "runs" => "started",
        _ => "added",
    };
    let mut change = Change::new(&caller.actor(), what, action);
    change.name = name.map(str::to_owned);
    change
}

fn singular(of: &str) -> &str {
    of.strip_suffix('s').unwrap_or(of)
}
