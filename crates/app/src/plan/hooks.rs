//! Steps for hooks of the configuration.

use std::collections::HashMap;

use super::known::NamedResources;
use super::planning::{Basis, Planning, members, named};
use super::problem::AbsentName;
use super::step::{PlannedAction, Step, StepSubject, Work};
use super::work::HookWork;
use crate::config::Declared;
use keyward_base::id::OrgId;
use keyward_inbox::NewKeys;
use keyward_model::{Hook, HookSpec, ManagedBy, Record, Reference, Resource};
use keyward_rules::provider::decode::did_you_mean;

const SEE_SCHEMES: &str = "`keyward hook schemes` lists them";

/// Why a hook of the configuration cannot be.
enum HookProblem {
    /// Message and remedy.
    Wrong(String, String),
    /// Its connection does not exist.
    Absent(AbsentName),
}

impl Planning<'_> {
    pub(super) fn hooks(&mut self, keys: Vec<Option<NewKeys>>) {
        let Basis { config, view, .. } = self.basis;
        let known = self.known();
        let checked: Vec<_> = config
            .hooks
            .iter()
            .zip(&keys)
            .map(|(it, keys)| known.checked(it, keys.as_ref()))
            .collect();
        let mut counts: HashMap<&OrgId, usize> = HashMap::new();
        for ((declared, keys), checked) in config.hooks.iter().zip(keys).zip(checked) {
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
                match checked {
                    Ok(spec) => self.steps.extend(
                        keys.map(|keys| step(subject, found.map(|it| &**it), declared, spec, keys)),
                    ),
                    Err(HookProblem::Wrong(message, remedy)) => {
                        self.refuse(&subject, message, &remedy);
                    }
                    Err(HookProblem::Absent(absent)) => self.report_absent(&subject, absent),
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

impl NamedResources<'_> {
    /// The spec with the id of its connection, if everything that it needs is there. `keys`: those that were read.
    fn checked(
        &self,
        declared: &Declared<Hook>,
        keys: Option<&NewKeys>,
    ) -> Result<HookSpec, HookProblem> {
        let mut spec = declared.spec.clone();
        let named = spec.connection.as_ref().map(Reference::as_str);
        let found = named.map(|name| self.connection(&declared.org, name, &declared.place));
        let of_provider = found.as_ref().and_then(|found| {
            let provider = self.planning.basis.catalogue.get(&found.as_ref().ok()?.provider)?;
            provider.about.webhook_scheme.as_deref()
        });
        match (spec.scheme.as_deref().or(of_provider), found.transpose()) {
            // Its provider may name the scheme.
            (None, Err(absent)) => Err(HookProblem::Absent(absent)),
            (None, Ok(_)) => {
                let message = "`scheme` is missing: the provider of its connection names none";
                Err(HookProblem::Wrong(message.to_owned(), SEE_SCHEMES.to_owned()))
            }
            (Some(id), found) => {
                let wrong = |(message, remedy)| HookProblem::Wrong(message, remedy);
                check_keys(declared, id, keys).map_err(wrong)?;
                let found = found.map_err(HookProblem::Absent)?;
                spec.connection = found.map(|found| Reference::Id(found.id.clone()));
                Ok(spec)
            }
        }
    }
}

/// Checks whether the scheme exists and the hook has the keys that it needs: what is wrong, and what to do.
fn check_keys(
    declared: &Declared<Hook>,
    scheme: &str,
    keys: Option<&NewKeys>,
) -> Result<(), (String, String)> {
    let Some(scheme) = keyward_hooks::get(scheme) else {
        let known = keyward_hooks::all().iter().map(|scheme| scheme.id());
        let remedy = did_you_mean(scheme, known).unwrap_or_else(|| SEE_SCHEMES.to_owned());
        return Err((format!("there is no signature scheme `{scheme}`"), remedy));
    };
    let lacks = |key: &str, what: &str| {
        let remedy = format!("add `{key}: {{ env: NAME }}`, or another source");
        Err((format!("`{key}` is missing: {what}"), remedy))
    };
    let secret = keys.and_then(|keys| keys.secret.as_ref());
    if let Some(Err(error)) = secret.map(|secret| scheme.check_secret(secret)) {
        return Err((format!("`secret`: {error}"), String::new()));
    }
    if scheme.asks_api() && declared.connection.is_none() {
        let remedy = "add `connection`: its credential fetches the keys of the service".to_owned();
        return Err(("`connection` is missing".to_owned(), remedy));
    }
    if declared.with.secret.is_none() && !scheme.learns_secret() && !scheme.asks_api() {
        return lacks("secret", &format!("the {} of the service", scheme.secret_label()));
    }
    if declared.with.signing_key.is_none() && declared.to.is_some() {
        return lacks("signing_key", "deliveries to `to` are signed with it");
    }
    Ok(())
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
