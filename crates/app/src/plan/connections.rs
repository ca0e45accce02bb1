//! Steps for connections of the configuration.

use std::sync::Arc;

use jiff::Timestamp;

use super::apps::AppOf;
use super::inputs::Fields;
use super::planning::{Basis, Planning, differing, members};
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::{ConnectionChange, ConnectionInput, ConnectionWork, PlannedConnection};
use crate::config::Declared;
use keyward_model::{Connection, ConnectionFacts, ConnectionSpec, Record};
use keyward_rules::provider::{AuthKind, AuthMethod, Catalogue};
use keyward_state::directory::{ConnectionRecord, ConnectionState, ManagedBy, Visibility};
use keyward_vault::{Lifecycle, NewConnection, VaultError};

impl Planning<'_> {
    pub(super) fn connections(&mut self, given: Vec<Option<Fields>>) {
        let Basis { config, view, .. } = self.basis;
        for (declared, fields) in config.connections.iter().zip(given) {
            let record = self.connection(declared, fields);
            self.put_planned(record, view.find_connection(&declared.org, &declared.name));
        }
        let of_file = view.connections().filter(|it| it.managed_by == ManagedBy::File);
        for found in of_file {
            if self.declared_connections.contains(&(&found.org, found.name())) {
                continue;
            }
            if found.facts.state.is_usable() || found.facts.held {
                let subject = StepSubject::new("connection", &found.org, &found.name);
                let work = Work::Connection(Box::new(ConnectionWork::Pause(found.id.clone())));
                self.pauses.push(Step::new(subject, PlannedAction::Pause, work));
                let mut record = ConnectionRecord::clone(found);
                (record.facts.state, record.facts.held) = (ConnectionState::Paused, false);
                self.planned.put(Arc::new(record));
            }
        }
    }

    /// Plans a connection. Returns the future record, even if there is a problem, so that it causes no further
    /// problems.
    fn connection(
        &mut self,
        declared: &Declared<Connection>,
        fields: Option<Fields>,
    ) -> ConnectionRecord {
        let Basis { view, catalogue, .. } = self.basis;
        let subject =
            StepSubject::new("connection", &declared.org, &declared.name).at(&declared.place);
        let before = self.problems.len();
        let found = view.find_connection(&declared.org, &declared.name);
        if found.is_some_and(|found| found.managed_by == ManagedBy::Store) {
            self.refuse_stored(&subject);
        } else if let Some(fields) = &fields
            && let Err(error) = check_fields(catalogue, declared, fields)
        {
            self.refuse(&subject, error, "");
        }
        self.check_references(&subject, &declared.org, &declared.references);
        let app = match &fields {
            Some(_) => self.app_of(declared),
            None => Some(AppOf::None),
        };
        if let (None, Some(name)) = (&app, &declared.app) {
            let message = format!("`app` names app `{name}`, which does not exist");
            self.refuse(&subject, message, "declare or add it");
        }
        let app = app.unwrap_or(AppOf::None);
        let another = found.map(|found| another_account(found, declared, &app));
        let is_another = another.as_ref().is_some_and(|changes| !changes.is_empty());
        if let Some(found) = found.filter(|_| is_another) {
            self.refuse_named(&subject, found);
        }
        let is_refused = self.problems.len() > before;
        if let (Some(found), Some([])) = (found, another.as_deref()) {
            if !is_refused {
                let fields = fields.filter(|fields| takes_fields(catalogue, found, fields));
                self.steps.push(changed(subject, found, declared, fields));
            }
            return resumed(found, declared);
        }
        let record = to_be_made(declared, catalogue);
        if !is_refused {
            let new = newly_connected(declared, catalogue, fields, &record);
            let (action, work) = match found {
                None => (PlannedAction::Make, ConnectionWork::Make(new)),
                Some(found) => {
                    (PlannedAction::Replace, ConnectionWork::Replace(found.id.clone(), new))
                }
            };
            let step = Step::new(subject, action, Work::Connection(Box::new(work)));
            self.steps.push(Step { changes: another.unwrap_or_default(), ..step });
        }
        record
    }
}

impl Planning<'_> {
    /// Refuses to make a connection again that a stored rule or hook names: they name its id, which it would lose.
    fn refuse_named(&mut self, subject: &StepSubject, found: &ConnectionRecord) {
        let view = self.basis.view;
        if let Some(rule) = view.rule_naming(&found.org, found.id.as_str()) {
            let message =
                format!("it would be replaced, and stored rule `{}` names it", rule.name());
            self.refuse(subject, message, "remove the rule first: `keyward rule remove`");
        }
        let hooks = view.hooks_naming(&found.org, &found.id);
        let stored = hooks.filter(|hook| hook.managed_by == ManagedBy::Store);
        if let Some(hook) = stored.min_by(|a, b| a.name().cmp(b.name())) {
            let message =
                format!("it would be replaced, and stored hook `{}` names it", hook.name());
            self.refuse(subject, message, "remove the hook first: `keyward hook remove`");
        }
    }
}

/// Checks the fields against the provider's definition, without a request.
fn check_fields(
    catalogue: &Catalogue,
    declared: &Declared<Connection>,
    fields: &Fields,
) -> Result<(), VaultError> {
    match fields.is_empty() && declared.references.is_empty() && consents(catalogue, declared) {
        true => Ok(()),
        false => Lifecycle::check(catalogue, &new_connection(declared), fields.clone()),
    }
}

/// Whether a person has to consent before there is a grant.
fn consents(catalogue: &Catalogue, declared: &Declared<Connection>) -> bool {
    let provider = catalogue.get(&declared.provider);
    let auth = provider.and_then(|provider| provider.auth(declared.auth.as_deref()));
    auth.is_some_and(AuthMethod::is_consented_to)
}

/// Changed keys that require a new connection: a secret must not move to another provider, method, host,
/// environment or app.
fn another_account(
    found: &ConnectionRecord,
    declared: &Declared<Connection>,
    app: &AppOf,
) -> Vec<String> {
    let another_app = match app {
        AppOf::None => false,
        AppOf::Existing(id) => found.app_id() != Some(id),
        AppOf::ToCome => true,
    };
    differing([
        ("provider", found.provider != declared.provider),
        ("auth", declared.auth.is_some() && declared.auth != found.auth),
        ("variables", found.variables != declared.variables),
        ("environment", found.environment != declared.environment),
        ("app", another_app),
    ])
}

fn changed(
    subject: StepSubject,
    found: &ConnectionRecord,
    declared: &Declared<Connection>,
    fields: Option<Fields>,
) -> Step {
    let spec = taken_over(found, declared);
    let changes = members(&found.spec, &spec);
    let compares_secret = fields.is_some();
    let resumes = resumes(found);
    let change = ConnectionChange { fields, spec, resumes };
    let work = ConnectionWork::Change(found.id.clone(), change);
    let work = Work::Connection(Box::new(work));
    Step { compares_secret, ..Step::of_existing(subject, resumes, changes, work) }
}

/// Whether other fields would replace the grant. One that was consented to, or that has been renewed since it was
/// given, is not put back to an older one.
fn takes_fields(catalogue: &Catalogue, found: &ConnectionRecord, fields: &Fields) -> bool {
    let provider = catalogue.get(&found.provider);
    let Some(auth) = provider.and_then(|provider| provider.auth(found.auth.as_deref())) else {
        return true;
    };
    let is_broken = matches!(found.facts.state, ConnectionState::Broken { .. });
    // A refresh token that was given has been replaced since.
    let has_rotated = auth.kind == AuthKind::Oauth2 || auth.field("refresh_token").is_some();
    let is_renewed = has_rotated && !is_broken;
    let is_minted = fields.is_empty() && !auth.minted.is_empty();
    !(is_renewed || is_minted)
}

fn newly_connected(
    declared: &Declared<Connection>,
    catalogue: &Catalogue,
    fields: Option<Fields>,
    record: &ConnectionRecord,
) -> PlannedConnection {
    let (new, app) = (new_connection(declared), declared.app.as_ref().map(ToString::to_string));
    match fields {
        None => PlannedConnection {
            new,
            app: None,
            given: ConnectionInput::Unread(Box::new(record.clone())),
        },
        Some(fields)
            if fields.is_empty()
                && declared.references.is_empty()
                && consents(catalogue, declared) =>
        {
            PlannedConnection { new, app, given: ConnectionInput::Consent }
        }
        Some(fields) => PlannedConnection { new, app, given: ConnectionInput::Fields(fields) },
    }
}

/// Its app is looked up when it is made.
fn new_connection(declared: &Declared<Connection>) -> NewConnection {
    NewConnection {
        org: declared.org.clone(),
        spec: ConnectionSpec { app: None, ..declared.spec.clone() },
        owner: None,
        visibility: Visibility::Shared,
        managed_by: ManagedBy::File,
    }
}

/// The spec of the file, except for keys that would require a new connection.
fn taken_over(found: &ConnectionRecord, declared: &Declared<Connection>) -> ConnectionSpec {
    let ConnectionSpec { provider, auth, variables, environment, app, .. } = found.spec.clone();
    ConnectionSpec { provider, auth, variables, environment, app, ..declared.spec.clone() }
}

fn resumed(found: &ConnectionRecord, declared: &Declared<Connection>) -> ConnectionRecord {
    let mut record = ConnectionRecord { spec: taken_over(found, declared), ..found.clone() };
    if resumes(found) {
        record.facts.state = ConnectionState::Active;
    }
    record
}

/// Whether the file had paused it: what a person has paused stays so.
fn resumes(found: &ConnectionRecord) -> bool {
    found.facts.state == ConnectionState::Paused && !found.facts.held
}

/// With an id that it will not have.
fn to_be_made(declared: &Declared<Connection>, catalogue: &Catalogue) -> ConnectionRecord {
    let provider = catalogue.get(&declared.provider);
    let auth = provider.and_then(|provider| provider.auth(declared.auth.as_deref()));
    let has_fields = !declared.with.sources.is_empty() || !declared.references.is_empty();
    let state = match !has_fields && consents(catalogue, declared) {
        true => ConnectionState::Draft { failure: None },
        false => ConnectionState::Active,
    };
    let auth = auth.map(|auth| auth.id.clone());
    let spec = ConnectionSpec { auth, app: None, ..declared.spec.clone() };
    let facts = ConnectionFacts { state, ..ConnectionFacts::default() };
    Record::new(&declared.org, ManagedBy::File, spec, facts, Timestamp::UNIX_EPOCH)
}
