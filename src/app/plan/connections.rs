//! Steps for connections of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::apps::AppOf;
use super::inputs::Fields;
use super::{Action, Basis, Planning, Step, Subject, Work, differing, named};
use crate::config::DeclaredConnection;
use keyward_base::id::ConnectionId;
use keyward_base::settings::Settings;
use keyward_rules::provider::{AuthKind, AuthMethod, Catalogue};
use keyward_state::directory::{
    About, ConnectionRecord, ConnectionState, ManagedBy, SecretFacts, View, Visibility,
};
use keyward_vault::{NewConnection, Vault, VaultError};

/// What is written of one.
#[derive(Debug)]
pub(in crate::app) enum ConnectionWork {
    Make(NewlyConnected),
    Replace(ConnectionId, NewlyConnected),
    Change(ConnectionId, ConnectionChange),
    Pause(ConnectionId),
}

/// A connection to be made.
#[derive(Debug)]
pub(in crate::app) struct NewlyConnected {
    pub(in crate::app) new: NewConnection,
    /// The name or id of its app, which may be made before it.
    pub(in crate::app) app: Option<String>,
    pub(in crate::app) given: Given,
}

/// What a connection is made with.
#[derive(Debug)]
pub(in crate::app) enum Given {
    Fields(Fields),
    /// Its owner consents later.
    Consent,
    /// Its secrets were not read: the record alone is put.
    Unread(Box<ConnectionRecord>),
}

/// What becomes of a connection that stays.
#[derive(Debug)]
pub(in crate::app) struct ConnectionChange {
    /// Compared with what was given before; `None`: the grant stays as it is.
    pub(in crate::app) fields: Option<Fields>,
    pub(in crate::app) settings: Settings,
    pub(in crate::app) scopes: Vec<String>,
    pub(in crate::app) about: About,
    pub(in crate::app) expires: Option<Timestamp>,
    pub(in crate::app) rotate_every: Option<Duration>,
    pub(in crate::app) resumes: bool,
}

impl Planning<'_> {
    pub(super) fn connections(&mut self, given: Vec<Option<Fields>>) {
        let Basis { config, view, .. } = self.basis;
        for (declared, fields) in config.connections.iter().zip(given) {
            let record = self.connection(declared, fields);
            self.connections.push(Arc::new(record));
        }
        let named = named(&config.connections, |it| (&it.org, &it.name));
        for found in view.connections() {
            if named.contains(&(&found.org, found.name.as_str())) {
                continue;
            }
            let mut record = found.clone();
            if found.managed_by == ManagedBy::File && found.state.is_usable() {
                let subject = Subject::new("connection", &found.org, &found.name);
                let work = Work::Connection(Box::new(ConnectionWork::Pause(found.id.clone())));
                self.pauses.push(Step::new(subject, Action::Pause, work));
                Arc::make_mut(&mut record).state = ConnectionState::Paused;
            }
            self.connections.push(record);
        }
        self.to_come = View::of([], self.connections.iter().cloned());
    }

    /// Plans one; answers the record to come, also where there is a problem, so that others are not found for it.
    fn connection(
        &mut self,
        declared: &DeclaredConnection,
        fields: Option<Fields>,
    ) -> ConnectionRecord {
        let Basis { view, catalogue, .. } = self.basis;
        let subject = Subject::new("connection", &declared.org, &declared.name).at(&declared.place);
        let before = self.problems.len();
        let found = view.find_connection(&declared.org, &declared.name);
        if found.is_some_and(|found| found.managed_by == ManagedBy::Store) {
            self.refuse_stored(&subject);
        } else if let Some(fields) = &fields
            && let Err(error) = check_fields(catalogue, declared, fields)
        {
            self.refuse(&subject, error, "");
        }
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
                None => (Action::Make, ConnectionWork::Make(new)),
                Some(found) => (Action::Replace, ConnectionWork::Replace(found.id.clone(), new)),
            };
            let step = Step::new(subject, action, Work::Connection(Box::new(work)));
            self.steps.push(Step { changes: another.unwrap_or_default(), ..step });
        }
        record
    }
}

/// Whether the provider would take these fields, as far as it can be told without asking.
fn check_fields(
    catalogue: &Catalogue,
    declared: &DeclaredConnection,
    fields: &Fields,
) -> Result<(), VaultError> {
    match fields.is_empty() && consents(catalogue, declared) {
        true => Ok(()),
        false => Vault::check(catalogue, &new_connection(declared), fields.clone()),
    }
}

/// Whether a person has to consent before there is a grant.
fn consents(catalogue: &Catalogue, declared: &DeclaredConnection) -> bool {
    let provider = catalogue.get(&declared.provider);
    let auth = provider.and_then(|provider| provider.auth(declared.auth.as_deref()));
    auth.is_some_and(AuthMethod::is_consented_to)
}

/// The keys that make another connection of it: an old secret must not follow to another provider, method, host,
/// environment or app.
fn another_account(
    found: &ConnectionRecord,
    declared: &DeclaredConnection,
    app: &AppOf,
) -> Vec<String> {
    let another_app = match app {
        AppOf::None => false,
        AppOf::Existing(id) => found.app.as_ref() != Some(id),
        AppOf::ToCome => true,
    };
    differing([
        ("provider", found.provider != declared.provider),
        ("auth", declared.auth.as_ref().is_some_and(|auth| *auth != found.auth)),
        ("variables", found.variables != declared.variables),
        ("environment", found.environment != declared.environment),
        ("app", another_app),
    ])
}

fn changed(
    subject: Subject,
    found: &ConnectionRecord,
    declared: &DeclaredConnection,
    fields: Option<Fields>,
) -> Step {
    let DeclaredConnection { settings, scopes, about, secret, .. } = declared;
    let changes = differing([
        ("scopes", found.scopes != *scopes),
        ("description", found.about.description != about.description),
        ("purpose", found.about.purpose != about.purpose),
        ("tags", found.about.tags != about.tags),
        ("expires", found.secret.expires != secret.expires),
        ("rotate_every", found.secret.rotate_every != secret.rotate_every),
        ("settings", found.settings != *settings),
    ]);
    let compares_secret = fields.is_some();
    let resumes = found.state == ConnectionState::Paused;
    let change = ConnectionChange {
        fields,
        settings: settings.clone(),
        scopes: scopes.clone(),
        about: about.clone(),
        expires: secret.expires,
        rotate_every: secret.rotate_every,
        resumes,
    };
    let work = ConnectionWork::Change(found.id.clone(), change);
    let work = Work::Connection(Box::new(work));
    Step { compares_secret, ..Step::of_existing(subject, resumes, changes, work) }
}

/// Whether other fields would replace the grant. One that was consented to, or that has been renewed since it was
/// given, is not put back to an older one.
fn takes_fields(catalogue: &Catalogue, found: &ConnectionRecord, fields: &Fields) -> bool {
    let provider = catalogue.get(&found.provider);
    let Some(auth) = provider.and_then(|provider| provider.auth(Some(&found.auth))) else {
        return true;
    };
    let is_broken = matches!(found.state, ConnectionState::Broken { .. });
    let is_renewed = auth.kind == AuthKind::Oauth2 && !is_broken;
    let is_minted = fields.is_empty() && auth.minted.is_some();
    !(is_renewed || is_minted)
}

fn newly_connected(
    declared: &DeclaredConnection,
    catalogue: &Catalogue,
    fields: Option<Fields>,
    record: &ConnectionRecord,
) -> NewlyConnected {
    let (new, app) = (new_connection(declared), declared.app.clone());
    match fields {
        None => NewlyConnected { new, app: None, given: Given::Unread(Box::new(record.clone())) },
        Some(fields) if fields.is_empty() && consents(catalogue, declared) => {
            NewlyConnected { new, app, given: Given::Consent }
        }
        Some(fields) => NewlyConnected { new, app, given: Given::Fields(fields) },
    }
}

fn new_connection(declared: &DeclaredConnection) -> NewConnection {
    NewConnection {
        org: declared.org.clone(),
        name: declared.name.clone(),
        provider: declared.provider.clone(),
        auth: declared.auth.clone(),
        variables: declared.variables.clone(),
        app: None,
        scopes: declared.scopes.clone(),
        environment: declared.environment.clone(),
        settings: declared.settings.clone(),
        about: declared.about.clone(),
        secret: declared.secret.clone(),
        owner: None,
        visibility: Visibility::Shared,
        managed_by: ManagedBy::File,
    }
}

fn resumed(found: &ConnectionRecord, declared: &DeclaredConnection) -> ConnectionRecord {
    let mut record = ConnectionRecord { settings: declared.settings.clone(), ..found.clone() };
    if record.state == ConnectionState::Paused {
        record.state = ConnectionState::Active;
    }
    record
}

/// With an id that it will not have.
fn to_be_made(declared: &DeclaredConnection, catalogue: &Catalogue) -> ConnectionRecord {
    let provider = catalogue.get(&declared.provider);
    let auth = provider.and_then(|provider| provider.auth(declared.auth.as_deref()));
    ConnectionRecord {
        id: ConnectionId::random(),
        org: declared.org.clone(),
        name: declared.name.clone(),
        provider: declared.provider.clone(),
        auth: auth.map(|auth| auth.id.clone()).unwrap_or_default(),
        variables: declared.variables.clone(),
        environment: declared.environment.clone(),
        settings: declared.settings.clone(),
        captured: BTreeMap::new(),
        discovered: None,
        app: None,
        scopes: declared.scopes.clone(),
        granted: Vec::new(),
        account: None,
        account_id: None,
        ends: None,
        about: About::default(),
        secret: SecretFacts::default(),
        owner: None,
        visibility: Visibility::Shared,
        state: match declared.fields.is_empty() && consents(catalogue, declared) {
            true => ConnectionState::Draft { failure: None },
            false => ConnectionState::Active,
        },
        managed_by: ManagedBy::File,
        created: Timestamp::UNIX_EPOCH,
        updated: Timestamp::UNIX_EPOCH,
    }
}
