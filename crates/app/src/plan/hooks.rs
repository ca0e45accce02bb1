//! Steps for hooks of the configuration.

use std::collections::HashMap;

use super::known::NamedResources;
use super::planning::{Basis, Planning, named};
use super::problem::AbsentName;
use super::resources::members;
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::HookWork;
use crate::config::Declared;
use keyward_base::id::OrgId;
use keyward_inbox::NewKeys;
use keyward_model::{Hook, HookSpec, ManagedBy, Record, Reference, Resource};
use keyward_rules::provider::decode::did_you_mean;

/// Message and remedy.
type Problem = (String, String);

impl Planning<'_> {
    pub(super) fn hooks(&mut self, keys: Vec<NewKeys>) {
        let Basis { config, view, .. } = self.basis;
        let mut counts: HashMap<&OrgId, usize> = HashMap::new();
        for (declared, keys) in config.hooks.iter().zip(keys) {
            let subject =
                StepSubject::new("hook", &declared.org, declared.name()).at(&declared.place);
            let found = view.find::<Hook>(&declared.org, declared.name());
            let stored = || view.all::<Hook>(&declared.org).count();
            let count = counts.entry(&declared.org).or_insert_with(stored);
            *count += usize::from(found.is_none());
            if found.is_some_and(|found| found.managed_by == ManagedBy::Store) {
                self.refuse_stored(&subject);
            } else if *count > Hook::KIND.max {
                let message = format!("its organisation has {} already", Hook::KIND.max);
                self.refuse(&subject, message, "remove some");
            } else {
                match checked(&self.known(), declared, &keys) {
                    Ok(spec) => {
                        self.steps.push(step(subject, found.map(|it| &**it), declared, spec, keys))
                    }
                    Err((message, remedy)) => self.refuse(&subject, message, &remedy),
                }
            }
        }
        let named = named(&config.hooks, |it| (&it.org, it.name()));
        for found in view.orgs().flat_map(|org| view.all::<Hook>(&org.id)) {
            let is_named = named.contains(&(&found.org, found.name()));
            if found.managed_by == ManagedBy::File && !found.facts.paused && !is_named {
                let work = Work::Hook(Box::new(HookWork::Pause(found.id.clone())));
                let subject = StepSubject::new("hook", &found.org, found.name());
                self.steps.push(Step::new(subject, PlannedAction::Pause, work));
            }
        }
    }
}

/// The spec with the id of its connection, if everything that it needs is there.
fn checked(
    known: &NamedResources<'_>,
    declared: &Declared<Hook>,
    keys: &NewKeys,
) -> Result<HookSpec, Problem> {
    let mut spec = declared.spec.clone();
    let mut of_provider = None;
    if let Some(connection) = &mut spec.connection {
        let found = known.connection(&declared.org, connection.as_str(), &declared.place);
        let found = found.map_err(AbsentName::words)?;
        let provider = known.planning.basis.catalogue.get(&found.provider);
        of_provider = provider.and_then(|it| it.about.webhook_scheme.clone());
        *connection = Reference::Id(found.id.clone());
    }
    let see = || "`keyward hook schemes` lists them".to_owned();
    let Some(id) = spec.scheme.as_ref().or(of_provider.as_ref()) else {
        let message = "`scheme` is missing: the provider of its connection names none";
        return Err((message.to_owned(), see()));
    };
    let Some(scheme) = keyward_hooks::get(id) else {
        let known = keyward_hooks::all().iter().map(|scheme| scheme.id());
        let remedy = did_you_mean(id, known).unwrap_or_else(see);
        return Err((format!("there is no signature scheme `{id}`"), remedy));
    };
    let lacks = |key: &str, what: &str| {
        let remedy = format!("add `{key}: {{ env: NAME }}`, or another source");
        Err((format!("`{key}` is missing: {what}"), remedy))
    };
    if let Some(Err(error)) = keys.secret.as_ref().map(|secret| scheme.check_secret(secret)) {
        return Err((format!("`secret`: {error}"), String::new()));
    }
    if scheme.asks_api() && spec.connection.is_none() {
        let remedy = "add `connection`: its credential fetches the keys of the service".to_owned();
        return Err(("`connection` is missing".to_owned(), remedy));
    }
    if keys.secret.is_none() && !scheme.learns_secret() && !scheme.asks_api() {
        return lacks("secret", &format!("the {} of the service", scheme.secret_label()));
    }
    if keys.signing_key.is_none() && spec.to.is_some() {
        return lacks("signing_key", "deliveries to `to` are signed with it");
    }
    Ok(spec)
}

fn step(
    subject: StepSubject,
    found: Option<&Record<Hook>>,
    declared: &Declared<Hook>,
    checked: HookSpec,
    keys: NewKeys,
) -> Step {
    let spec = declared.spec.clone();
    let Some(found) = found else {
        let work = Work::Hook(Box::new(HookWork::Make(spec, keys)));
        return Step::new(subject, PlannedAction::Make, work);
    };
    let changes = members(&found.spec, &checked);
    let work = Work::Hook(Box::new(HookWork::Change { id: found.id.clone(), spec, keys }));
    let step = Step::of_existing(subject, found.facts.paused, changes, work);
    Step { compares_secret: true, ..step }
}
