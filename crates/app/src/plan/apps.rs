//! Steps for apps of the configuration, and the app that a connection names.

use std::sync::Arc;

use super::inputs::Fields;
use super::planning::{Basis, Planning, members};
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::AppWork;
use crate::config::Declared;
use keyward_base::id::AppId;
use keyward_model::{App, Connection, ManagedBy, Record, Reference};

/// The app of a connection.
pub(super) enum AppOf {
    /// None is named.
    None,
    Existing(AppId),
    /// The app is created before the connection.
    ToCome,
}

impl Planning<'_> {
    pub(super) fn apps(&mut self, secrets: Vec<Option<Fields>>) {
        let Basis { config, view, .. } = self.basis;
        for (declared, secrets) in config.apps.iter().zip(secrets) {
            let subject =
                StepSubject::new("app", &declared.org, &declared.name).at(&declared.place);
            self.check_references(&subject, &declared.org, &declared.references);
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
                found => self.steps.extend(secrets.map(|it| step(subject, found, declared, it))),
            }
        }
        for found in view.apps() {
            let is_named = self.declared_apps.contains(&(&found.org, found.name.as_str()));
            if found.managed_by == ManagedBy::File && !found.facts.paused && !is_named {
                let subject = StepSubject::new("app", &found.org, &found.name);
                let work = Work::App(Box::new(AppWork::Pause(found.id.clone())));
                self.pauses.push(Step::new(subject, PlannedAction::Pause, work));
            }
        }
    }

    /// The app that a connection names, in the store or in the file; `None`: it does not exist.
    pub(super) fn app_of(&self, connection: &Declared<Connection>) -> Option<AppOf> {
        let Some(name) = connection.app.as_ref().map(Reference::as_str) else {
            return Some(AppOf::None);
        };
        if let Some(found) = self.basis.view.find_app(&connection.org, name) {
            return Some(AppOf::Existing(found.id.clone()));
        }
        self.declared_apps.contains(&(&connection.org, name)).then_some(AppOf::ToCome)
    }
}

fn step(
    subject: StepSubject,
    found: Option<&Arc<Record<App>>>,
    declared: &Declared<App>,
    secrets: Fields,
) -> Step {
    let Some(found) = found else {
        let work = Work::App(Box::new(AppWork::Make(declared.spec.clone(), secrets)));
        return Step::new(subject, PlannedAction::Make, work);
    };
    let mut changes = members(&found.spec, &declared.spec);
    let stored = &found.facts.secrets;
    let added = secrets.keys().filter(|name| !stored.contains(name));
    let gone = stored.iter().filter(|name| !secrets.contains_key(*name));
    changes.extend(added.chain(gone).cloned());
    let compares_secret = !secrets.is_empty();
    let work = AppWork::Change(found.id.clone(), declared.spec.clone(), secrets);
    let work = Work::App(Box::new(work));
    Step { compares_secret, ..Step::of_existing(subject, found.facts.paused, changes, work) }
}
