//! Steps for apps of the configuration, and the app that a connection names.

use super::inputs::Fields;
use super::{Action, Basis, Planning, Step, Subject, Work, differing, named};
use crate::config::{DeclaredApp, DeclaredConnection};
use keyward_base::id::AppId;
use keyward_state::directory::{AppRecord, ManagedBy};
use keyward_vault::NewApp;

/// What is written of one.
#[derive(Debug)]
pub(in crate::app) enum AppWork {
    Make(NewApp, Fields),
    Change(AppId, NewApp, Fields),
    Pause(AppId),
}

/// The app of a connection.
pub(super) enum AppOf {
    /// None is named.
    None,
    Existing(AppId),
    /// It is made before the connection is.
    ToCome,
}

impl Planning<'_> {
    pub(super) fn apps(&mut self, secrets: Vec<Fields>) {
        let Basis { config, view, .. } = self.basis;
        for (declared, secrets) in config.apps.iter().zip(secrets) {
            let subject = Subject::new("app", &declared.org, &declared.name).at(&declared.place);
            match view.find_app(&declared.org, &declared.name) {
                Some(found) if found.managed_by == ManagedBy::Store => self.refuse_stored(&subject),
                Some(found) if found.provider != declared.provider => {
                    let message = format!("it is registered at provider `{}`", found.provider);
                    self.refuse(
                        &subject,
                        message,
                        "give the app of the other provider another name",
                    );
                }
                Some(found) => self.steps.push(changed(subject, found, declared, secrets)),
                None => {
                    let work = AppWork::Make(declared.to_new(), secrets);
                    let work = Work::App(Box::new(work));
                    self.steps.push(Step::new(subject, Action::Make, work));
                }
            }
        }
        let named = named(&config.apps, |it| (&it.org, &it.name));
        for found in view.apps() {
            let is_named = named.contains(&(&found.org, found.name.as_str()));
            if found.managed_by == ManagedBy::File && !found.paused && !is_named {
                let subject = Subject::new("app", &found.org, &found.name);
                let work = Work::App(Box::new(AppWork::Pause(found.id.clone())));
                self.pauses.push(Step::new(subject, Action::Pause, work));
            }
        }
    }

    /// The app that a connection names, of the store or of the file; `None`: there is none of that name.
    pub(super) fn app_of(&self, connection: &DeclaredConnection) -> Option<AppOf> {
        let Some(name) = &connection.app else { return Some(AppOf::None) };
        let Basis { config, view, .. } = self.basis;
        if let Some(found) = view.find_app(&connection.org, name) {
            return Some(AppOf::Existing(found.id.clone()));
        }
        let mut declared = config.apps.iter();
        let is_it = |app: &DeclaredApp| app.org == connection.org && app.name == *name;
        declared.any(is_it).then_some(AppOf::ToCome)
    }
}

fn changed(subject: Subject, found: &AppRecord, declared: &DeclaredApp, secrets: Fields) -> Step {
    let mut changes = differing([
        ("auth", found.auth != declared.auth),
        ("client_id", found.client_id != declared.client_id),
        ("scopes", found.scopes != declared.scopes),
        ("variables", found.variables != declared.variables),
        ("urls", found.urls != declared.urls),
        ("settings", found.settings != declared.settings),
    ]);
    let added = secrets.keys().filter(|name| !found.secrets.contains(name));
    let gone = found.secrets.iter().filter(|name| !secrets.contains_key(*name));
    changes.extend(added.chain(gone).cloned());
    let compares_secret = !secrets.is_empty();
    let work = AppWork::Change(found.id.clone(), declared.to_new(), secrets);
    let work = Work::App(Box::new(work));
    Step { compares_secret, ..Step::of_existing(subject, found.paused, changes, work) }
}
