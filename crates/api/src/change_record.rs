//! Audit records of changes through the API: a place in the log is reserved before the change, and the record
//! is written however the request ends.

use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;

use super::audit_log::{ChangeDetails, Run};
use super::auth::Caller;
use super::error::ApiError;
use super::request_id;
use super::state::Admin;
use crate::auth::SESSION;
use keyward_base::codes::Code;
use keyward_base::id::OrgId;
use keyward_model::{Login, Record, User};
use keyward_state::observe::change::{Actor, Change, RequestEvents};
use keyward_state::observe::change_log::ChangeSlot;
use keyward_state::observe::event::{Event, Outcome};

/// How many characters of a path are logged.
const PATH_CHARS_MAX: usize = 256;

/// What is changed of a resource, by the last part of a path.
const NARROWER: &[&str] = &["token", "binding", "login link", "password", "totp", "passkey"];

/// A record in progress; written when dropped.
pub(super) struct PendingRecord {
    slot: Option<ChangeSlot>,
    event: Event,
    details: Arc<Mutex<ChangeDetails>>,
    events: RequestEvents,
}

impl PendingRecord {
    /// Reserves a place in the log.
    ///
    /// # Errors
    /// While the audit log cannot be written; then nothing is changed.
    pub(super) async fn begin(
        admin: &Admin,
        caller: &Caller,
        method: &str,
        path: &str,
    ) -> Result<Self, ApiError> {
        let path: String = path.chars().take(PATH_CHARS_MAX).collect();
        let change = by_path(caller, method, &path);
        let mut record = Self::of(admin, change, caller.org(), caller.client()).await?;
        record.event.method = Some(method.to_owned());
        record.event.path = Some(path);
        record.details = caller.details.clone();
        Ok(record)
    }

    /// The record of a sign-in, whose user is not known yet.
    ///
    /// # Errors
    /// As [`PendingRecord::begin`].
    pub(super) async fn of_sign_in(admin: &Admin, client: IpAddr) -> Result<Self, ApiError> {
        let change = Change::new(&Actor::Gateway, "login", "added");
        let mut record = Self::of(admin, change, &OrgId::default_org(), Some(client)).await?;
        record.event.method = Some("POST".to_owned());
        record.event.path = Some(SESSION.to_owned());
        Ok(record)
    }

    /// The record of a user whom a sign-in adds or changes.
    ///
    /// # Errors
    /// As [`PendingRecord::begin`].
    pub(super) async fn of_user(
        admin: &Admin,
        action: &str,
        org: &OrgId,
        client: IpAddr,
    ) -> Result<Self, ApiError> {
        Self::of(admin, Change::new(&Actor::Gateway, "user", action), org, Some(client)).await
    }

    async fn of(
        admin: &Admin,
        change: Change,
        org: &OrgId,
        client: Option<IpAddr>,
    ) -> Result<Self, ApiError> {
        let deps = admin.deps();
        let slot = deps.changes.reserve().await.map_err(|_| ApiError::AuditUnavailable)?;
        let mut event = change.event(deps.clock.now(), org, Outcome::Ended);
        if let Some(id) = request_id::current() {
            event.exchange = id.to_string();
        }
        if let Some(change) = &mut event.change {
            change.from = client.map(|client| client.to_string());
        }
        let events = RequestEvents::default();
        Ok(Self { slot: Some(slot), event, details: Arc::default(), events })
    }
}

impl Caller {
    /// Sets the changed resource; the first call counts.
    pub(super) fn record_changed(&self, what: &'static str, id: impl ToString, name: &str) {
        let mut details = self.details.lock();
        if details.what.is_none() {
            details.what = Some(what);
            (details.id, details.name) = (Some(id.to_string()), Some(name.to_owned()));
        }
    }

    /// Sets the name of a new resource, for the record of its refusal. It must be a valid name.
    pub(super) fn record_requested_name(&self, name: &str) {
        self.details.lock().wanted_name = Some(name.to_owned());
    }

    /// Sets a run as the changed resource instead of its agent.
    pub(super) fn record_run(&self, run: Run) {
        self.details.lock().run = Some(run);
    }

    /// Whether the request leaves a record of its own.
    pub(super) fn is_recorded(&self) -> bool {
        self.writes()
    }

    /// Adds an explanation. It must not contain secrets.
    pub(super) fn because(&self, why: impl Into<String>) {
        self.details.lock().why = Some(why.into());
    }
}

impl PendingRecord {
    /// The events of the request, which it collects.
    pub(super) fn events(&self) -> RequestEvents {
        self.events.clone()
    }

    /// Sets the path of the request, a GET, and the organisation of who signs in.
    pub(super) fn at(mut self, path: &str, org: &OrgId) -> Self {
        self.event.method = Some("GET".to_owned());
        self.event.path = Some(path.to_owned());
        self.event.org = Some(org.to_string());
        self
    }

    /// Adds an explanation. It must not contain secrets.
    pub(super) fn because(&self, why: impl Into<String>) {
        self.details.lock().why = Some(why.into());
    }

    /// Records the user whom a sign-in added or changed.
    pub(super) fn of_changed_user(mut self, user: &Record<User>, why: &str) {
        if let Some(change) = self.event.change.take() {
            self.event.change = Some(Box::new(change.of(&user.id, &user.name).because(why)));
        }
        self.ended(StatusCode::OK, None);
    }

    pub(super) fn signed_in(mut self, login: &Record<Login>, user: &str) {
        let id = login.user.id().cloned();
        let by =
            id.map(|id| Actor::User { id, name: user.to_owned(), login: Some(login.id.clone()) });
        self.event.org = Some(login.org.to_string());
        if let Some(change) = self.event.change.take() {
            let change = by.iter().fold(*change, |change, by| change.by(by));
            let change = change.of(&login.id, user);
            let method = login.method.words();
            self.event.change = Some(Box::new(change.because(format!("by {method}"))));
        }
        self.ended(StatusCode::OK, None);
    }

    /// Sets the user of a sign-in that may still fail.
    pub(super) fn set_user(&mut self, user: &Record<User>) {
        self.event.org = Some(user.org.to_string());
        if let Some(change) = &mut self.event.change {
            change.name = Some(user.name.clone());
        }
    }

    /// Records a refusal, and returns it.
    pub(super) fn refused(self, refusal: ApiError) -> ApiError {
        let code = refusal.code();
        self.ended(code.status(), Some(code));
        refusal
    }

    /// Writes no record, because too many requests are refused for the same reason.
    pub(super) fn omit(mut self) {
        self.slot = None;
    }

    /// Records the result of the request.
    pub(super) fn ended(mut self, status: StatusCode, code: Option<Code>) {
        self.event.status = Some(status.as_u16());
        self.event.code = code.map(|code| code.to_string());
        self.event.outcome =
            if status.is_success() { Outcome::Completed } else { Outcome::Refused };
    }
}

impl Drop for PendingRecord {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let details = std::mem::take(&mut *self.details.lock());
        if let Some(change) = &mut self.event.change {
            if let Some(what) = details.what {
                // The path is more specific: a token or a binding of this resource.
                let narrower = NARROWER.contains(&&*change.what);
                if !narrower {
                    what.clone_into(&mut change.what);
                }
                (change.id, change.name) = (details.id, details.name);
            }
            change.name = change.name.take().or(details.wanted_name);
            change.why = details.why.or(change.why.take());
            self.events.write(change);
        }
        if let Some(run) = details.run {
            run.write(&mut self.event);
        }
        slot.send(&self.event);
    }
}

/// The change as described by the path: `POST /agents/ci/tokens` adds a token of `ci`.
fn by_path(caller: &Caller, method: &str, path: &str) -> Change {
    let rest = path.strip_prefix("/api/v1/").unwrap_or(path);
    let mut parts = rest.split('/');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (of, name, sub, _) = (next().unwrap_or_default(), next(), next(), next());
    let within =
        sub.filter(|sub| ["tokens", "bindings", "password", "totp", "passkeys"].contains(sub));
    if (of, name) == ("rules", Some("order")) {
        return Change::new(&caller.actor(), "rule order", "changed");
    }
    if (of, name) == ("session", Some("passkeys")) {
        let action = match (method, sub) {
            ("DELETE", _) => "removed",
            ("POST", None) => "added",
            ("POST", Some(_)) => "asked for",
            _ => "changed",
        };
        return Change::new(&caller.actor(), "passkey", action);
    }
    if (of, name) == ("session", None) {
        let action = if method == "DELETE" { "removed" } else { "added" };
        return Change::new(&caller.actor(), "login", action);
    }
    let what = &*singular(within.unwrap_or(of));
    let action = match (method, sub) {
        ("DELETE", _) if of == "streams" => "cut",
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

/// The words for one of a collection: `login link` of `login-links`.
fn singular(of: &str) -> String {
    of.strip_suffix('s').unwrap_or(of).replace('-', " ")
}
