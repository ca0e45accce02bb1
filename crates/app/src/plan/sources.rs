//! Steps for secret sources of the configuration. They come before apps and connections, which name them.

use std::collections::HashMap;

use super::inputs::Fields;
use super::planning::{Basis, Planning, members};
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::SourceWork;
use crate::config::Declared;
use keyward_base::id::OrgId;
use keyward_model::{AppSpec, ManagedBy, Record, References, Resource, Source};
use keyward_vault::Lifecycle;

impl Planning<'_> {
    pub(super) fn sources(&mut self, credentials: Vec<Option<Fields>>) {
        let Basis { config, view, .. } = self.basis;
        let mut counts: HashMap<&OrgId, usize> = HashMap::new();
        for (declared, credentials) in config.sources.iter().zip(credentials) {
            let (org, name) = (&declared.org, declared.name());
            let subject = StepSubject::new("source", org, name).at(&declared.place);
            let found = view.find::<Source>(org, name);
            let count = counts.entry(org).or_insert_with(|| view.all::<Source>(org).count());
            *count += usize::from(found.is_none());
            let refusal = match &credentials {
                Some(read) => Lifecycle::check_source(&declared.spec, read, ManagedBy::File),
                None => {
                    let names = declared.with.sources.keys().map(String::as_str);
                    Lifecycle::check_source_names(&declared.spec, names, ManagedBy::File)
                }
            };
            if found.is_some_and(|found| found.managed_by == ManagedBy::Store) {
                self.refuse_stored(&subject);
            } else if *count > Source::KIND.max {
                let message = format!("its organisation has {} already", Source::KIND.max);
                self.refuse(&subject, message, "remove some");
            } else if let Err(refusal) = refusal {
                self.refuse(&subject, refusal.to_string(), refusal.hint.as_deref().unwrap_or(""));
            } else if let Some(credentials) = credentials {
                self.steps.push(step(subject, found.map(|it| &**it), declared, credentials));
            }
        }
    }

    /// Sources that the file no longer names are removed when no connection has values there: paused connections keep
    /// theirs.
    pub(super) fn unnamed_sources(&mut self) {
        let view = self.basis.view;
        for found in view.orgs().flat_map(|org| view.all::<Source>(&org.id)) {
            let names = |org: &OrgId, references: &References| {
                *org == found.org && references.values().any(|it| it.from == found.name())
            };
            let is_used = || {
                self.planned.referring_connections().any(|it| names(&it.org, &it.references))
                    || self.apps_to_come().any(|(org, app)| names(org, &app.references))
            };
            let is_named = self.declared_sources.contains(&(&found.org, found.name()));
            if found.managed_by == ManagedBy::File && !is_named && !is_used() {
                let subject = StepSubject::new("source", &found.org, found.name());
                let work = Work::Source(Box::new(SourceWork::Remove(found.id.clone())));
                self.pauses.push(Step::new(subject, PlannedAction::Remove, work));
            }
        }
    }

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

fn step(
    subject: StepSubject,
    found: Option<&Record<Source>>,
    declared: &Declared<Source>,
    credentials: Fields,
) -> Step {
    let spec = declared.spec.clone();
    let Some(found) = found else {
        let work = Work::Source(Box::new(SourceWork::Make(spec, credentials)));
        return Step::new(subject, PlannedAction::Make, work);
    };
    let changes = members(&found.spec, &spec);
    let work = Work::Source(Box::new(SourceWork::Change(found.id.clone(), spec, credentials)));
    let step = Step::of_existing(subject, false, changes, work);
    Step { compares_secret: true, ..step }
}
