//! Steps for apps of the configuration, and the app that a connection names.

use super::inputs::Fields;
use super::planned::Planned;
use super::planning::Planning;
use super::step::{StepSubject, Work};
use super::work::ResourceWork;
use crate::config::{Config, Declared};
use keyward_base::id::AppId;
use keyward_model::{App, AppSpec, Connection, Record, Reference};

/// The app of a connection.
pub(super) enum AppOf {
    /// None is named.
    None,
    Existing(AppId),
    /// The app is created before the connection.
    ToCome,
}

impl Planned for App {
    type Given = Fields;

    const ENDS_LAST: bool = true;

    const WORK: fn(Box<ResourceWork<Self, Self::Given>>) -> Work = Work::App;

    fn declared(config: &Config) -> &[Declared<Self>] {
        &config.apps
    }

    fn is_paused(record: &Record<Self>) -> bool {
        record.facts.paused
    }

    fn judged(
        planning: &mut Planning<'_>,
        subject: &StepSubject,
        item: &Declared<Self>,
        found: Option<&Record<Self>>,
        _: Option<&Fields>,
    ) -> Option<AppSpec> {
        planning.check_references(subject, &item.org, &item.references);
        if let Some(found) = found.filter(|found| found.provider != item.provider) {
            let message = format!("it is registered at provider `{}`", found.provider);
            let remedy = "give the app of the other provider another name";
            planning.refuse(subject, message, remedy);
            return None;
        }
        Some(item.spec.clone())
    }

    fn further_changes(found: &Record<Self>, given: &Fields) -> Vec<String> {
        let stored = &found.facts.secrets;
        let added = given.keys().filter(|name| !stored.contains(name));
        let gone = stored.iter().filter(|name| !given.contains_key(*name));
        added.chain(gone).cloned().collect()
    }

    fn compares_secret(given: &Fields) -> bool {
        !given.is_empty()
    }
}

impl Planning<'_> {
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
