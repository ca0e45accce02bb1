//! Steps for hooks of the configuration.

use super::planned::Planned;
use super::planning::Planning;
use super::problem::AbsentName;
use super::step::{StepSubject, Work};
use super::work::ResourceWork;
use crate::config::{Config, Declared};
use keyward_inbox::NewKeys;
use keyward_model::{Hook, HookSpec, Record, Reference};
use keyward_rules::provider::decode::did_you_mean;

const SEE_SCHEMES: &str = "`keyward hook schemes` lists them";

/// Why a hook of the configuration cannot be.
enum HookProblem {
    /// Message and remedy.
    Wrong(String, String),
    /// Its connection does not exist.
    Absent(AbsentName),
}

impl Planned for Hook {
    type Given = NewKeys;

    const WORK: fn(Box<ResourceWork<Self, Self::Given>>) -> Work = Work::Hook;

    fn declared(config: &Config) -> &[Declared<Self>] {
        &config.hooks
    }

    fn is_paused(record: &Record<Self>) -> bool {
        record.facts.paused
    }

    fn judged(
        planning: &mut Planning<'_>,
        subject: &StepSubject,
        item: &Declared<Self>,
        _: Option<&Record<Self>>,
        given: Option<&NewKeys>,
    ) -> Option<HookSpec> {
        match planning.checked_hook(item, given) {
            Ok(spec) => return Some(spec),
            Err(HookProblem::Wrong(message, remedy)) => planning.refuse(subject, message, &remedy),
            Err(HookProblem::Absent(absent)) => planning.report_absent(subject, absent),
        }
        None
    }

    fn compares_secret(_: &NewKeys) -> bool {
        true
    }
}

impl Planning<'_> {
    /// The spec with the id of its connection, if everything that it needs is there. `keys`: those that were read.
    fn checked_hook(
        &self,
        declared: &Declared<Hook>,
        keys: Option<&NewKeys>,
    ) -> Result<HookSpec, HookProblem> {
        let mut spec = declared.spec.clone();
        let named = spec.connection.as_ref().map(Reference::as_str);
        let found = named.map(|name| self.named_connection(&declared.org, name, &declared.place));
        let of_provider = found.as_ref().and_then(|found| {
            let provider = self.basis.catalogue.get(&found.as_ref().ok()?.provider)?;
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
