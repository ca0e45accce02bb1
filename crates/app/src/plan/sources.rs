//! Steps for secret sources of the configuration. They come before apps and connections, which name them.

use super::inputs::Fields;
use super::planned::Planned;
use super::planning::{Basis, Planning};
use super::step::{PlannedAction, StepSubject, Work};
use super::work::ResourceWork;
use crate::config::{Config, Declared};
use keyward_base::id::OrgId;
use keyward_model::{AppSpec, ManagedBy, Record, References, Source, SourceSpec};
use keyward_vault::Lifecycle;

impl Planned for Source {
    type Given = Fields;

    const UNNAMED: PlannedAction = PlannedAction::Remove;

    const ENDS_LAST: bool = true;

    const WORK: fn(Box<ResourceWork<Self, Self::Given>>) -> Work = Work::Source;

    fn declared(config: &Config) -> &[Declared<Self>] {
        &config.sources
    }

    /// When no connection has values there: paused connections keep theirs.
    fn ends(planning: &Planning<'_>, record: &Record<Self>) -> bool {
        let names = |org: &OrgId, references: &References| {
            *org == record.org && references.values().any(|it| it.from == record.name())
        };
        let mut connections = planning.planned.referring_connections();
        !connections.any(|it| names(&it.org, &it.references))
            && !planning.apps_to_come().any(|(org, app)| names(org, &app.references))
    }

    fn judged(
        planning: &mut Planning<'_>,
        subject: &StepSubject,
        item: &Declared<Self>,
        _: Option<&Record<Self>>,
        given: Option<&Fields>,
    ) -> Option<SourceSpec> {
        let checked = match given {
            Some(given) => Lifecycle::check_source(&item.spec, given, ManagedBy::File),
            None => {
                let names = item.with.sources.keys().map(String::as_str);
                Lifecycle::check_source_names(&item.spec, names, ManagedBy::File)
            }
        };
        if let Err(refusal) = checked {
            let remedy = refusal.hint.as_deref().unwrap_or("");
            planning.refuse(subject, refusal.to_string(), remedy);
            return None;
        }
        Some(item.spec.clone())
    }

    fn compares_secret(_: &Fields) -> bool {
        true
    }
}

impl Planning<'_> {
    /// The apps of the file, and those that it does not name.
    fn apps_to_come(&self) -> impl Iterator<Item = (&OrgId, &AppSpec)> {
        let Basis { config, view, .. } = self.basis;
        let declared = &self.declared_apps;
        let others = view.apps().filter(move |it| !declared.contains(&(&it.org, it.name.as_str())));
        let of_file = config.apps.iter().map(|it| (&it.org, &it.spec));
        of_file.chain(others.map(|it| (&it.org, &it.spec)))
    }

    /// Refuses references to sources that there will not be.
    pub(super) fn check_references(
        &mut self,
        subject: &StepSubject,
        org: &OrgId,
        references: &References,
    ) {
        for reference in references.values() {
            let name = &reference.from;
            let is_declared = self.declared_sources.contains(&(org, name.as_str()));
            if !is_declared && self.basis.view.find::<Source>(org, name).is_none() {
                self.report_missing_source(subject, name);
            }
        }
    }
}
